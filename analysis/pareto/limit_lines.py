"""Limits of studies in Pareto figures: lines at their bounds, marks of networks outside them."""

from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.formats.caption_sentences import pluralize
from partialnas.analysis.frames.feasibility import limits_of
from partialnas.analysis.pareto.table import ParetoTable
from partialnas.analysis.plotting.artists import Axes
from partialnas.analysis.plotting.labels import Polyline
from partialnas.analysis.plotting.style import DARK_COLOR
from partialnas.runs.config.quantities import Quantity

OUTSIDE = "outside the limits"
"""Legend entry of networks outside the limits of their study."""


def outside_mask(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which networks are drawn as outside the limits of their study."""
    if "feasible" not in rows:
        return pd.Series(data=False, index=rows.index)
    return ~rows["feasible"].astype(bool) & rows["family"].eq("")


def drawn_bounds(points: ParetoTable, quantity: Quantity) -> list[float]:
    """Return the bounds of limits on a quantity that a figure shows as lines.

    A bound farther from all networks than these are from each other is left out: the axis would
    show little else.
    """
    limits = [limits_of(points.limits, str(f)).get(quantity.key) for f in points.limits]
    bounds = {bound for limit in limits if limit for bound in (limit.min, limit.max)} - {None}
    values = points.rows[quantity.key].to_numpy(float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    extent = high - low or abs(high)
    return sorted(b for b in bounds if b is not None and low - extent <= b <= high + extent)


def draw_limit_lines(
    axes: Axes, points: ParetoTable, factors: tuple[float, float]
) -> list[Polyline]:
    """Draw a dashed line at each bound; return the lines, which labels avoid.

    Args:
        axes: axes with their final ends.
        points: Pareto table.
        factors: divisors of the values on both axes.
    """
    look: dict[str, Any] = {
        "color": DARK_COLOR,
        "linewidth": 0.8,
        "linestyle": (0, (4, 2)),
        "zorder": 1.5,
    }
    across = [bound / factors[0] for bound in drawn_bounds(points, points.x)]
    up = [bound / factors[1] for bound in drawn_bounds(points, points.y)]
    for bound in across:
        axes.axvline(bound, **look)
    for bound in up:
        axes.axhline(bound, **look)
    if across or up:
        axes.plot([], [], **look, label="limit")
    vertical = [(np.array([bound, bound]), np.array(axes.get_ylim())) for bound in across]
    return vertical + [(np.array(axes.get_xlim()), np.array([bound, bound])) for bound in up]


def limit_marks_sentence(points: ParetoTable) -> str:
    """Return the meaning of the marks of limits for a caption; empty if there are none."""
    outside = int((outside_mask(points.rows) & ~points.rows["on_front"]).sum())
    bounds = [*drawn_bounds(points, points.x), *drawn_bounds(points, points.y)]
    sentences = [
        f"Crosses: {pluralize(outside, 'architecture')} {OUTSIDE}." if outside else "",
        "Dashed line: limit of the study." if bounds else "",
    ]
    return " ".join(filter(None, sentences))
