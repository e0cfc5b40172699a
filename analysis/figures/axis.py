"""Figure of a quantity against each axis of the space: means with intervals by level."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.figures.base import FigureRequest, FigureSpec, requested_architectures
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import evaluation_phrase, pluralize
from partialnas.analysis.frames.arrays import Floats, Mask
from partialnas.analysis.frames.axis_levels import ABSENT, is_ordered, load_axis_levels, sort_levels
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.axes import configure_axis
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.plotting.limit_lines import (
    EXCLUDED_MARKER,
    draw_limit_lines,
    excluded_mask,
    limit_marks_sentence,
    near_bounds,
)
from partialnas.analysis.plotting.names import axis_name, level_name, levels_note
from partialnas.analysis.plotting.style import DARK_COLOR, MUTED_COLOR, SERIES_COLORS, Style
from partialnas.runs.config.quantities import Quantity

_ROW, _AROUND = 0.17, 0.5
_HALF_WIDTH = 0.32
_MAX_DOTS = 300
_LEVEL = 0.95
_MAX_LEVEL = 28


def axis_figure_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of one quantity by level of each axis.

    The table has one row per level: number of architectures, mean with the ends `low` and `high`
    of its 95 % interval (t distribution over the architectures of the level), median, and extremes.
    """
    trials, quantity, rows = requested_architectures(folders, request)
    chosen = load_axis_levels(folders, rows)
    rows = rows.loc[chosen.index]
    values = rows[quantity.key].astype("float64")
    levels = [_levels(axis, chosen[axis], values) for axis in map(str, chosen)]
    table = pd.concat(levels, ignore_index=True)
    bounds = near_bounds(trials.limits, quantity.key, np.asarray(values, dtype=np.float64))
    excluded = excluded_mask(rows)
    points = chosen.assign(value=values, excluded=excluded)
    marks = limit_marks_sentence(rows[excluded], lines=bool(bounds))
    return FigureSpec(
        table=table.assign(metric=quantity.key),
        readable=_readable(table, quantity),
        caption=_caption(rows, table, quantity).plus(marks),
        plot_data=table,
        draw=partial(_draw, points, table, quantity, bounds),
    )


def _levels(axis: str, chosen: "pd.Series[str]", values: "pd.Series[float]") -> pd.DataFrame:
    rows = []
    for level in sort_levels(chosen):
        at_level = np.asarray(values[chosen.eq(level)], dtype=np.float64)
        mean, half = float(at_level.mean()), _half_width(at_level)
        extremes = (float(np.median(at_level)), at_level.min(), at_level.max())
        rows.append((axis, level, len(at_level), mean, mean - half, mean + half, *extremes))
    heads = ["axis", "level", "architectures", "mean", "low", "high", "median", "least", "most"]
    return pd.DataFrame(rows, columns=heads).assign(ordered=is_ordered(chosen))


def _half_width(values: Floats) -> float:
    """Return half the width of the interval of a mean; NaN for a single value."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return math.nan
    quantile = float(stdtrit(len(values) - 1, (1 + _LEVEL) / 2))
    return quantile * float(values.std(ddof=1)) / math.sqrt(len(values))


def _readable(table: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    best = "least" if quantity.better == "min" else "most"
    texts = {
        "Axis": [axis_name(axis) for axis in table["axis"]],
        "Level": table["level"],
        "n": [f"{number:,}" for number in table["architectures"]],
        "Mean": [quantity.text(value) for value in table["mean"]],
        f"{_LEVEL:.0%} interval": [
            f"{quantity.text(low)} to {quantity.text(high)}" if low <= high else ""
            for low, high in zip(table["low"], table["high"], strict=True)
        ],
        "Best": [quantity.text(value) for value in table[best]],
    }
    return pd.DataFrame(texts)


def _caption(rows: pd.DataFrame, table: pd.DataFrame, quantity: Quantity) -> Caption:
    axes = pluralize(table["axis"].nunique(), "axis", "axes")
    seeds = ", means over seeds" if rows["n"].gt(1).any() else ""
    ordered = "; lines connect the means of ordered levels" if table["ordered"].any() else ""
    return Caption(
        [
            f"{quantity.label} by the levels of {axes} of the space: "
            f"{pluralize(len(rows), 'architecture')}, {evaluation_phrase(rows)}{seeds}.",
            "Gray dots: architectures; points with bars: mean and its 95 % interval over the n "
            f"architectures of a level{ordered}.",
            levels_note(table["level"]),
        ],
        [
            "Levels of other axes differ between rows, in an adaptive search systematically: a "
            "difference is no effect of the axis."
        ],
    )


def _draw(
    points: pd.DataFrame, table: pd.DataFrame, quantity: Quantity, bounds: list[float], style: Style
) -> AnyFigure:
    """Draw one row per level on one scale; the levels of an axis follow its name."""
    first = table["axis"].ne(table["axis"].shift())
    rows = np.arange(len(table)) + first.cumsum().to_numpy(float)  # names stand on rows above
    figure, axes = style.new_axes(_AROUND + _ROW * (rows.max() + 1))
    shown = np.array([*points["value"], *table["low"], *table["high"], *bounds], dtype=float)
    factor = configure_axis(axes, "x", quantity, shown[np.isfinite(shown)])
    placed = table.assign(row=rows)
    for level in placed.to_dict("records"):
        chosen = points[points[level["axis"]].eq(level["level"])]
        values, excluded = chosen["value"].to_numpy(float), chosen["excluded"].to_numpy(bool)
        _draw_dots(axes, level["row"], values / factor, excluded)
    for _, levels in placed.groupby("axis", sort=False):
        _draw_means(axes, levels, factor)
    draw_limit_lines(axes, x=[bound / factor for bound in bounds])
    axes.set_yticks(rows, [elide(level_name(level), _MAX_LEVEL) for level in table["level"]])
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "color": DARK_COLOR}
    small: dict[str, Any] = {"fontsize": style.small_font_size, "va": "center"}
    for row, number in zip(rows, table["architectures"], strict=True):
        axes.text(1.02, row, f"{number:,}", ha="left", **beside, **small)
    for row, name in zip(rows[first.to_numpy()] - 1, table.loc[first, "axis"], strict=True):
        axes.text(0.01, row, elide(axis_name(name), 40), ha="left", fontweight="bold", **beside,
                  **small)  # fmt: skip
        if row == 0:
            axes.text(1.02, row, "n", ha="left", fontstyle="italic", **beside, **small)
        else:
            axes.axhline(row - 0.5, color=DARK_COLOR, linewidth=0.4)
    axes.set_ylim(rows.max() + 0.7, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    return figure


def _draw_dots(axes: Axes, row: float, values: Floats, excluded: Mask) -> None:
    """Draw the architectures of a level, slightly apart."""
    step = 1 + len(values) // _MAX_DOTS
    few, crossed = values[::step], excluded[::step]
    apart = np.random.default_rng(int(row)).uniform(-_HALF_WIDTH, _HALF_WIDTH, len(few))
    look: dict[str, Any] = {"color": MUTED_COLOR, "linewidths": 0, "alpha": 0.7, "zorder": 2}
    for mask, size, marker in ((~crossed, 4, "o"), (crossed, 9, EXCLUDED_MARKER)):
        axes.scatter(few[mask], (row + apart)[mask], s=size, marker=marker, **look)


def _draw_means(axes: Axes, levels: pd.DataFrame, factor: float) -> None:
    """Draw the means of an axis with their intervals, connected if its levels are ordered."""
    color = SERIES_COLORS[0]
    means, rows = levels["mean"] / factor, levels["row"]
    if levels["ordered"].iloc[0]:
        numeric = levels["level"].ne(ABSENT)
        axes.plot(means[numeric], rows[numeric], color=color, linewidth=0.8, zorder=3)
    axes.hlines(rows, levels["low"] / factor, levels["high"] / factor, color, linewidth=1.3,
                zorder=4)  # fmt: skip
    axes.scatter(means, rows, s=16, color=color, edgecolors="white", linewidths=0.5, zorder=5)
