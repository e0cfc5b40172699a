"""Clipping of outliers: points far from the rest become arrows on the edge of the axes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.frames.arrays import Floats, Mask
from partialnas.analysis.plotting.artists import Axes
from partialnas.analysis.plotting.style import MUTED_COLOR

_OUTLIER_RANGES = 3.0
"""Number of interquartile ranges beyond the quartiles at which an outlier begins (Tukey)."""

_MARKERS = {(-1, 0): "<", (1, 0): ">", (0, -1): "v", (0, 1): "^"}
_INSET = 0.018


def clip_outliers(
    values: Floats, movable: Mask, *, log: bool = False
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Replace outliers by NaN and return on which side each is: low (-1), high (1) or none (0).

    Points that are not `movable` (fronts and families) are never outliers, nor is any point between
    them and the rest.

    Args:
        values: values of all points.
        movable: which points may be clipped.
        log: whether to compare logarithms, if all values are positive.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return values, np.zeros(len(values), dtype=np.int64)
    scaled = np.log(values) if log and values[finite].min() > 0 else values
    low, high = np.quantile(scaled[finite], [0.25, 0.75])
    kept = scaled[finite & ~movable]
    distance = _OUTLIER_RANGES * (high - low)
    bottom = min(low - distance, kept.min(initial=np.inf))
    top = max(high + distance, kept.max(initial=-np.inf))
    side = np.where(scaled < bottom, -1, np.where(scaled > top, 1, 0)) * (movable & finite)
    return np.where(side != 0, np.nan, values), side.astype(np.int64)


def draw_outlier_arrows(axes: Axes, points: pd.DataFrame) -> None:
    """Draw clipped points on the edge of the axes, each at its value on the other axis."""
    beyond = points[points["beyond_x"].ne(0) | points["beyond_y"].ne(0)]
    if beyond.empty:
        return
    for _, rows in beyond.groupby(["beyond_x", "beyond_y"]):
        across, up = (int(rows[side].iloc[0]) for side in ("beyond_x", "beyond_y"))
        # in a corner the arrow points along x
        key = (across, 0) if across else (0, up)
        x, y = _axes_fractions(axes, "x", rows, across), _axes_fractions(axes, "y", rows, up)
        axes.scatter(
            x, y, s=9, marker=_MARKERS[key], color=MUTED_COLOR, linewidths=0,
            transform=axes.transAxes, zorder=2, clip_on=False,
        )  # fmt: skip
    axes.scatter([], [], s=9, marker=">", color=MUTED_COLOR, linewidths=0,
                 label=f"beyond the axes ({len(beyond)})")  # fmt: skip


def _axes_fractions(axes: Axes, which: str, rows: pd.DataFrame, side: int) -> Any:
    """Return positions along one axis as fractions of it: on the edge, or at the values."""
    if side:
        return np.full(len(rows), _INSET if side < 0 else 1 - _INSET)
    values = rows[which].to_numpy(float)
    pairs = np.column_stack([values, np.full(len(values), axes.get_ylim()[0])])
    if which == "y":
        pairs = np.column_stack([np.full(len(values), axes.get_xlim()[0]), values])
    fractions = axes.transAxes.inverted().transform(axes.transData.transform(pairs))
    return fractions[:, 0 if which == "x" else 1]
