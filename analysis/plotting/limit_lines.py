"""Limits of studies in figures: lines at their bounds, marks of networks that do not compete."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.frames.feasibility import limits_of
from partialnas.analysis.frames.seed_means import has_failed_seed
from partialnas.analysis.frames.trials import Limits
from partialnas.analysis.plotting.artists import Axes
from partialnas.analysis.plotting.labels import Polyline
from partialnas.analysis.plotting.style import DARK_COLOR

EXCLUDED_MARKER = "X"
"""Marker of networks that do not compete."""

LIMIT_LINE_NOTE = "Dashed line: limit of the study."

_OUTSIDE, _FAILED = "outside the limits", "with a failed seed"


def excluded_mask(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which networks do not compete: outside the limits of their study, or a seed failed.

    Args:
        rows: one row per network, see `aggregate`; baselines are never marked.
    """
    return (_outside(rows) | has_failed_seed(rows)) & ~_baselines(rows)


def excluded_name(rows: pd.DataFrame) -> str:
    """Return the reasons for which any of the networks do not compete, for legends and captions."""
    searched = ~_baselines(rows)
    outside, failed = _outside(rows) & searched, has_failed_seed(rows) & searched
    reasons = [_OUTSIDE] * bool(outside.any()) + [_FAILED] * bool((failed & ~outside).any())
    return " or ".join(reasons)


def _outside(rows: pd.DataFrame) -> "pd.Series[bool]":
    if "feasible" not in rows:
        return pd.Series(data=False, index=rows.index)
    return ~rows["feasible"].astype(bool)


def _baselines(rows: pd.DataFrame) -> "pd.Series[bool]":
    return rows["family"].ne("") if "family" in rows else rows["baseline"].astype(bool)


def near_bounds(limits: Limits, key: str, values: Floats) -> list[float]:
    """Return the bounds of limits on a quantity that a figure shows as lines, in order.

    A bound farther from all values than these are from each other is left out: the axis would show
    little else.

    Args:
        limits: limits of each study, by folder.
        key: the quantity.
        values: its values in the figure; NaN are ignored.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return []
    stated = [limits_of(limits, str(folder)).get(key) for folder in limits]
    bounds = {bound for limit in stated if limit for bound in (limit.min, limit.max)} - {None}
    low, high = float(finite.min()), float(finite.max())
    extent = high - low or abs(high)
    return sorted(b for b in bounds if b is not None and low - extent <= b <= high + extent)


def draw_limit_lines(
    axes: Axes, x: Iterable[float] = (), y: Iterable[float] = ()
) -> list[Polyline]:
    """Draw a dashed line at each bound; return the lines, which labels avoid.

    Args:
        axes: axes with their final ends.
        x: bounds on the horizontal axis, in its units.
        y: bounds on the vertical axis, in its units.
    """
    look: dict[str, Any] = {
        "color": DARK_COLOR,
        "linewidth": 0.8,
        "linestyle": (0, (4, 2)),
        "zorder": 1.5,
    }
    across, up = [*x], [*y]
    for bound in across:
        axes.axvline(bound, **look)
    for bound in up:
        axes.axhline(bound, **look)
    if across or up:
        axes.plot([], [], **look, label="limit")
    vertical = [(np.array([bound, bound]), np.array(axes.get_ylim())) for bound in across]
    return vertical + [(np.array(axes.get_xlim()), np.array([bound, bound])) for bound in up]


def limit_marks_sentence(excluded: pd.DataFrame, *, lines: bool, mark: str = "Crosses") -> str:
    """Return the meaning of the marks of limits for a caption; empty if there are none.

    Args:
        excluded: networks that are marked, see `excluded_mask`.
        lines: whether the figure shows a bound.
        mark: how these networks are drawn.
    """
    count = len(excluded)
    noun = "architecture" if count == 1 else "architectures"
    sentences = [
        f"{mark}: {count:,} {noun} {excluded_name(excluded)}." if count else "",
        LIMIT_LINE_NOTE if lines else "",
    ]
    return " ".join(filter(None, sentences))
