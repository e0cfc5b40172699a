"""The front of a running study, updated at most once per second; and clean-up of its weights."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np

from partialnas.analysis.stats.dominance import non_dominated
from partialnas.runs.config.metric_limits import Limit, limit_excess, total_violation
from partialnas.runs.config.quantities import Direction
from partialnas.runs.records.subject import subject_name
from partialnas.runs.system.files import trunk_path, weights_path
from partialnas.search.driver.candidate import Candidate
from partialnas.search.study.study import Study

_UPDATE_INTERVAL_S = 1.0
_MAX_POINTS = 6


class FrontPoint(NamedTuple):
    """A network of the front and its objective values."""

    name: str
    values: Mapping[str, float]


class RunningFront:
    """The networks that no other dominates so far, by means over their finished seeds.

    With tens of thousands of networks, only their objectives are kept, and the front is computed
    no more often than a reader can follow.
    """

    def __init__(self, study: Study) -> None:
        self._objectives = study.objectives
        self._limits = study.limits
        self._points: dict[int, tuple[float, ...]] = {}
        self._candidates: dict[int, Candidate] = {}
        self._updated_at = float("-inf")
        self._front: tuple[FrontPoint, ...] = ()
        self._stale = False

    def add(self, candidate: Candidate) -> None:
        """Add or update a candidate; skip lower rungs and candidates that violate a limit."""
        if not candidate.at_full_fidelity:
            return
        values = candidate.mean_values((*self._objectives, *self._limits))
        if values is None:
            return
        if total_violation(limit_excess(self._limits, values)):
            self._points.pop(id(candidate), None)
        else:
            self._points[id(candidate)] = tuple(values[name] for name in self._objectives)
            self._candidates[id(candidate)] = candidate
        self._stale = True

    def leading_points(self) -> tuple[FrontPoint, ...]:
        """Return some networks of the front, the best in the first objective first."""
        if self._stale and monotonic() - self._updated_at >= _UPDATE_INTERVAL_S:
            self._front = self._compute()
            self._updated_at, self._stale = monotonic(), False
        return self._front

    def _compute(self) -> tuple[FrontPoint, ...]:
        if not self._points:
            return ()
        ids, points = [*self._points], np.array([*self._points.values()])
        front = np.flatnonzero(non_dominated(points, self._objectives, keep_duplicates=False))
        first = points[front, 0] * (-1 if next(iter(self._objectives.values())) == "max" else 1)
        return tuple(
            FrontPoint(
                _name(self._candidates[ids[index]]),
                dict(zip(self._objectives, map(float, points[index]), strict=True)),
            )
            for index in front[np.argsort(first, kind="stable")][:_MAX_POINTS]
        )


def _name(candidate: Candidate) -> str:
    condition = candidate.condition.name
    return subject_name(candidate.subject) + (f" under {condition}" if condition else "")


def dominated_candidates(
    candidates: Sequence[Candidate],
    objectives: Mapping[str, Direction],
    limits: Mapping[str, Limit],
) -> list[Candidate]:
    """Return the candidates that another one dominates, or that violate a limit.

    Candidates without values for all objectives are left out.
    """
    values = [(c, v) for c in candidates if (v := c.objective_values(objectives, limits))]
    infeasible = [candidate for candidate, v in values if v.violation]
    feasible = [(candidate, v.values) for candidate, v in values if not v.violation]
    if not feasible:
        return infeasible
    points = np.array([[v[name] for name in objectives] for _, v in feasible])
    front = non_dominated(points, objectives)
    return infeasible + [feasible[row][0] for row in np.flatnonzero(~front)]


def delete_trunk_checkpoints(folder: Path) -> None:
    """Delete the checkpoints that lower rungs left for the next rung, when a study ends."""
    for path in trunk_path(folder, "any").parent.glob("*.trunk"):
        path.unlink(missing_ok=True)


def delete_weights(folder: Path, keys: Iterable[str]) -> None:
    """Delete the final weights of these trials, if present."""
    for key in keys:
        weights_path(folder, key).unlink(missing_ok=True)
