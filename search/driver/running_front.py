"""The front of a study while it runs: kept as results come, found anew at most once a second."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np

from partialnas.analysis.stats.dominance import non_dominated
from partialnas.runs.config.metric_limits import Limit
from partialnas.runs.records.subject import subject_name
from partialnas.runs.system.files import trunk_path, weights_path
from partialnas.search.driver.candidate import Candidate
from partialnas.search.study.study import Direction, Study

_EVERY_S = 1.0
_SHOWN = 6


class FrontPoint(NamedTuple):
    """A network of the front, and what it reaches."""

    name: str
    values: Mapping[str, float]


class RunningFront:
    """Networks that no other one dominates so far, in means over the seeds that are done.

    Of tens of thousands it keeps the objectives alone, and looks for the front among them no more
    often than a reader can follow.
    """

    def __init__(self, study: Study) -> None:
        self._objectives = study.objectives
        self._limits = study.limits
        self._points: dict[int, tuple[float, ...]] = {}
        self._candidates: dict[int, Candidate] = {}
        self._looked = float("-inf")
        self._found: tuple[FrontPoint, ...] = ()
        self._stale = False

    def add(self, candidate: Candidate) -> None:
        """A network has new results; what is below the last rung or beyond a limit stands aside."""
        if candidate.condition.full_fidelity is not None:
            return
        figures = candidate.mean_values((*self._objectives, *self._limits))
        if figures is None:
            return
        if any(limit.excess(figures[name]) > 0 for name, limit in self._limits.items()):
            self._points.pop(id(candidate), None)
        else:
            self._points[id(candidate)] = tuple(figures[name] for name in self._objectives)
            self._candidates[id(candidate)] = candidate
        self._stale = True

    def leading_points(self) -> tuple[FrontPoint, ...]:
        """A few networks of the front, the best in the first objective before the others."""
        if self._stale and monotonic() - self._looked >= _EVERY_S:
            self._found = self._find()
            self._looked, self._stale = monotonic(), False
        return self._found

    def _find(self) -> tuple[FrontPoint, ...]:
        if not self._points:
            return ()
        known, points = [*self._points], np.array([*self._points.values()])
        chosen = np.flatnonzero(non_dominated(points, self._objectives, keep_duplicates=False))
        first = points[chosen, 0] * (-1 if next(iter(self._objectives.values())) == "max" else 1)
        return tuple(
            FrontPoint(
                _name(self._candidates[known[index]]),
                dict(zip(self._objectives, map(float, points[index]), strict=True)),
            )
            for index in chosen[np.argsort(first, kind="stable")][:_SHOWN]
        )


def _name(candidate: Candidate) -> str:
    under = candidate.condition.name
    return subject_name(candidate.subject) + (f" under {under}" if under else "")


def dominated_candidates(
    candidates: Sequence[Candidate],
    objectives: Mapping[str, Direction],
    limits: Mapping[str, Limit],
) -> list[Candidate]:
    """The candidates that another dominates, or that violate a limit.

    Those without all objectives are not judged.
    """
    reached = [(c, each) for c in candidates if (each := c.objective_values(objectives, limits))]
    beyond = [candidate for candidate, each in reached if each.violation]
    known = [(candidate, each.values) for candidate, each in reached if not each.violation]
    if not known:
        return beyond
    points = np.array([[values[name] for name in objectives] for _, values in known])
    best = non_dominated(points, objectives)
    behind = [candidate for (candidate, _), good in zip(known, best, strict=True) if not good]
    return beyond + behind


def delete_trunk_checkpoints(folder: Path) -> None:
    """Remove what trainings on lower rungs left to be gone on from, when a study ends."""
    for path in trunk_path(folder, "any").parent.glob("*.trunk"):
        path.unlink(missing_ok=True)


def delete_weights(folder: Path, keys: Iterable[str]) -> None:
    """Remove the final weights of these trials, where they are."""
    for key in keys:
        weights_path(folder, key).unlink(missing_ok=True)
