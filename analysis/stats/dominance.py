"""Dominance between points: the non-dominated filter, ranks of fronts, and the hypervolume.

Points are rows with a column per objective. Objectives without a stated direction are minimized.
"""

from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt

from partialnas.analysis.frames.arrays import Floats, Mask, Objectives


def finite_mask(points: Floats) -> Mask:
    """Return which points have a finite value in every objective."""
    return np.asarray(np.isfinite(points).all(axis=1), dtype=bool)


def non_dominated(
    points: Floats, objectives: Objectives | None = None, *, keep_duplicates: bool = True
) -> Mask:
    """Return which points no other point dominates.

    A point with a missing objective (NaN or infinite) is never part of the front.

    Args:
        points: one row per point, one column per objective.
        objectives: direction of each column, or None to minimize all of them.
        keep_duplicates: whether all of several identical points are kept, or the first one only.
    """
    mask = finite_mask(points)
    # the filter comes first: moocore loses valid points beside a NaN row
    mask[mask] = moocore.is_nondominated(
        points[mask], maximise=_maximize(objectives), keep_weakly=keep_duplicates
    )
    return mask


def non_dominated_ranks(points: Floats, objectives: Objectives | None = None) -> npt.NDArray[Any]:
    """Return the front that each point is on: 0 for the first, 1 once that is removed, and so on.

    Points with a missing objective come last: their rank is the number of points.
    """
    ranks = np.full(len(points), len(points))
    complete = finite_mask(points)
    ranks[complete] = moocore.pareto_rank(points[complete], maximise=_maximize(objectives))
    return ranks


def dominated_hypervolume(
    points: Floats, reference: Sequence[float] | Floats, objectives: Objectives | None = None
) -> float:
    """Return the volume between points and a reference point; the length for one objective.

    Args:
        points: one row per point; dominated ones change nothing.
        reference: one value per objective; what lies beyond it does not count.
        objectives: direction of each column, or None to minimize all of them.
    """
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(points, ref=reference, maximise=_maximize(objectives)))


def maximize_mask(objectives: Objectives) -> Mask:
    """Return which objectives are maximized."""
    # an array, because `pareto_rank` of moocore 0.3.2 ignores the value in a list of one
    return np.array([better == "max" for better in objectives.values()])


def _maximize(objectives: Objectives | None) -> Mask | bool:
    return False if objectives is None else maximize_mask(objectives)
