"""Which weights stay on disk when a study ends."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import moocore
import numpy as np

from partialnas.runs.limits import Limit
from partialnas.runs.trial_files import trunk_path, weights_path
from partialnas.search.candidate import Candidate
from partialnas.search.study import Direction


def dominated(
    candidates: Sequence[Candidate],
    objectives: Mapping[str, Direction],
    limits: Mapping[str, Limit],
) -> list[Candidate]:
    """The candidates that another dominates, or that violate a limit.

    Those without all objectives are not judged.
    """
    reached = [(c, each) for c in candidates if (each := c.reached(objectives, limits))]
    beyond = [candidate for candidate, each in reached if each.violation]
    known = [(candidate, each.values) for candidate, each in reached if not each.violation]
    if not known:
        return beyond
    points = np.array([[values[name] for name in objectives] for _, values in known])
    better = np.array([direction == "max" for direction in objectives.values()])
    best = moocore.is_nondominated(points, maximise=better, keep_weakly=True)
    behind = [candidate for (candidate, _), good in zip(known, best, strict=True) if not good]
    return beyond + behind


def drop_trunks(folder: Path) -> None:
    """Remove what trainings on lower rungs left to be gone on from, when a study ends."""
    for path in trunk_path(folder, "any").parent.glob("*.trunk"):
        path.unlink(missing_ok=True)


def drop_weights(folder: Path, keys: Iterable[str]) -> None:
    """Remove the final weights of these trials, where they are."""
    for key in keys:
        weights_path(folder, key).unlink(missing_ok=True)
