"""The front of a running study, updated now and then; and clean-up of its weights."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np

from partialnas.analysis.stats.dominance import non_dominated
from partialnas.runs.config.metric_limits import Limit, limit_excess, total_violation
from partialnas.runs.config.quantities import Direction
from partialnas.runs.system.files import trunk_path, weights_path
from partialnas.search.driver.candidate import Candidate
from partialnas.search.study.study import Study

_UPDATE_INTERVAL_S = 1.0
_PAUSE_FACTOR = 20.0
"""Minimum pause between two updates, relative to the time that an update took."""

_MAX_POINTS = 6


class FrontPoint(NamedTuple):
    """A network of the front and its objective values."""

    name: str
    values: Mapping[str, float]


class RunningFront:
    """The networks that no other dominates so far, by means over their finished seeds.

    All values are computed again for every update, because timings of the reference change the
    scale of all speeds. With tens of thousands of networks, updates are less frequent.
    """

    def __init__(self, study: Study) -> None:
        self._objectives = study.objectives
        self._limits = study.limits
        self._candidates: dict[Candidate, None] = {}
        self._next_update = float("-inf")
        self._front: tuple[FrontPoint, ...] = ()
        self._stale = False

    def add(self, candidate: Candidate) -> None:
        """Add a candidate, or note that it has new results; skip lower rungs."""
        if candidate.at_full_fidelity:
            self._candidates[candidate] = None
            self._stale = True

    def leading_points(self) -> tuple[FrontPoint, ...]:
        """Return some networks of the front, the best in the first objective first."""
        start = monotonic()
        if self._stale and start >= self._next_update:
            self._front, self._stale = self._compute(), False
            end = monotonic()
            self._next_update = end + max(_UPDATE_INTERVAL_S, _PAUSE_FACTOR * (end - start))
        return self._front

    def _compute(self) -> tuple[FrontPoint, ...]:
        feasible, _ = by_feasibility(self._candidates, self._objectives, self._limits)
        if not feasible:
            return ()
        candidates, points = [*feasible], np.array([*feasible.values()])
        front = np.flatnonzero(non_dominated(points, self._objectives, keep_duplicates=False))
        first = points[front, 0] * (-1 if next(iter(self._objectives.values())) == "max" else 1)
        return tuple(
            FrontPoint(
                _name(candidates[index]),
                dict(zip(self._objectives, map(float, points[index]), strict=True)),
            )
            for index in front[np.argsort(first, kind="stable")][:_MAX_POINTS]
        )


def _name(candidate: Candidate) -> str:
    condition = candidate.condition.name
    return candidate.name + (f" under {condition}" if condition else "")


def by_feasibility(
    candidates: Iterable[Candidate],
    objectives: Mapping[str, Direction],
    limits: Mapping[str, Limit],
) -> tuple[dict[Candidate, tuple[float, ...]], list[Candidate]]:
    """Return the objective values of the candidates within the limits, and the other candidates.

    Candidates without values for all objectives and limits are left out.
    """
    feasible, infeasible = {}, []
    for candidate in candidates:
        values = candidate.mean_values((*objectives, *limits))
        if values is None:
            continue
        if total_violation(limit_excess(limits, values)):
            infeasible.append(candidate)
        else:
            feasible[candidate] = tuple(values[name] for name in objectives)
    return feasible, infeasible


def dominated_candidates(
    candidates: Sequence[Candidate],
    objectives: Mapping[str, Direction],
    limits: Mapping[str, Limit],
) -> list[Candidate]:
    """Return the candidates that another one dominates, or that violate a limit.

    Candidates without values for all objectives and limits are left out.
    """
    feasible, infeasible = by_feasibility(candidates, objectives, limits)
    if not feasible:
        return infeasible
    front = non_dominated(np.array([*feasible.values()]), objectives)
    pairs = zip(feasible, front, strict=True)
    return infeasible + [candidate for candidate, on_front in pairs if not on_front]


def delete_trunk_checkpoints(folder: Path) -> None:
    """Delete the checkpoints that lower rungs left for the next rung, when a study ends.

    Those of a user function are folders.
    """
    for path in trunk_path(folder, "any").parent.glob("*.trunk"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def delete_weights(folder: Path, keys: Iterable[str]) -> None:
    """Delete the final weights of these trials, if present."""
    for key in keys:
        weights_path(folder, key).unlink(missing_ok=True)
