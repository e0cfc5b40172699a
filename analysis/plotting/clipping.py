"""Points far off the rest: drawn as arrows on the edge, so that they squash nothing."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.frames.arrays import Floats, Mask
from partialnas.analysis.plotting.style import MUTED_COLOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FENCE = 3.0
"""Interquartile ranges beyond the quartiles, Tukey's limit of what is far out."""

_MARKERS = {(-1, 0): "<", (1, 0): ">", (0, -1): "v", (0, 1): "^"}
_INSET = 0.018


def clip_outliers(
    values: Floats, movable: Mask, *, log: bool = False
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Values without those far out, and for each whether it is beyond the low (-1) or high end (1).

    What is far out becomes NaN. Fronts and families (not `movable`) always stay, and what lies
    between them and the rest is never far out.

    Args:
        values: of all points.
        movable: which may be left out.
        log: whether distances are those of logarithms, where all values are above zero.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return values, np.zeros(len(values), dtype=np.int64)
    places = np.log(values) if log and values[finite].min() > 0 else values
    low, high = np.quantile(places[finite], [0.25, 0.75])
    kept = places[finite & ~movable]
    reach = _FENCE * (high - low)
    bottom = min(low - reach, kept.min(initial=np.inf))
    top = max(high + reach, kept.max(initial=-np.inf))
    side = np.where(places < bottom, -1, np.where(places > top, 1, 0)) * (movable & finite)
    return np.where(side != 0, np.nan, values), side.astype(np.int64)


def draw_outlier_arrows(axes: "Axes", points: pd.DataFrame) -> None:
    """The points beyond an axis, each on the edge at its value of the other."""
    beyond = points[points["beyond_x"].ne(0) | points["beyond_y"].ne(0)]
    if beyond.empty:
        return
    for _, rows in beyond.groupby(["beyond_x", "beyond_y"]):
        across, up = (int(rows[side].iloc[0]) for side in ("beyond_x", "beyond_y"))
        # a corner's arrow points along x
        key = (across, 0) if across else (0, up)
        at = {"x": _place(axes, "x", rows, across), "y": _place(axes, "y", rows, up)}
        axes.scatter(
            at["x"], at["y"], s=9, marker=_MARKERS[key], color=MUTED_COLOR, linewidths=0,
            transform=axes.transAxes, zorder=2, clip_on=False,
        )  # fmt: skip
    axes.scatter([], [], s=9, marker=">", color=MUTED_COLOR, linewidths=0,
                 label=f"beyond the axes ({len(beyond)})")  # fmt: skip


def _place(axes: "Axes", which: str, rows: pd.DataFrame, side: int) -> Any:
    """Places along one axis as shares of it: on the edge, or where the value is."""
    if side:
        return np.full(len(rows), _INSET if side < 0 else 1 - _INSET)
    values = rows[which].to_numpy(float)
    pairs = np.column_stack([values, np.full(len(values), axes.get_ylim()[0])])
    if which == "y":
        pairs = np.column_stack([np.full(len(values), axes.get_xlim()[0]), values])
    shares = axes.transAxes.inverted().transform(axes.transData.transform(pairs))
    return shares[:, 0 if which == "x" else 1]
