"""By how much points would enlarge the hypervolume of a front. All objectives are minimised."""

import numpy as np
from numpy.typing import NDArray

from partialnas.analysis.stats.dominance import dominated_hypervolume

Array = NDArray[np.float64]


def hypervolume_improvement(front: Array, points: Array, reference: Array) -> Array:
    """By how much each point alone would enlarge the hypervolume that a front dominates.

    Args:
        front: non-dominated points, a row each.
        points: of which to tell, a row each.
        reference: beyond which nothing counts.
    """
    if front.shape[1] == 1:
        less: Array = np.maximum(front.min() - points[:, 0], 0.0)
        return less
    if front.shape[1] == 2:
        return _by_strips(front, points, reference)
    gains = np.zeros(len(points))
    reached = dominated_hypervolume(front, reference)
    for row, point in enumerate(points):
        if (point < reference).all() and not (front <= point).all(axis=1).any():
            gains[row] = dominated_hypervolume(np.vstack([front, point]), reference) - reached
    return gains


def _by_strips(front: Array, points: Array, reference: Array) -> Array:
    """In two objectives: strip by strip of what lies below the front's steps."""
    steps = front[np.argsort(front[:, 0])]
    left = np.append(-np.inf, steps[:, 0])
    right = np.append(steps[:, 0], reference[0])
    ceiling = np.append(reference[1], steps[:, 1])
    widths = np.maximum(right - np.maximum(left, points[:, :1]), 0.0)
    heights = np.maximum(ceiling - points[:, 1:], 0.0)
    gains: Array = (widths * heights).sum(axis=1)
    return gains
