"""Figure of a quantity against each axis of the space, with one row of dots per level."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.figures.base import FigureRequest, FigureSpec, requested_architectures
from partialnas.analysis.formats.caption_sentences import evaluation_phrase, pluralize
from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.frames.axis_levels import load_axis_levels, sort_levels
from partialnas.analysis.plotting.artists import Axes, Figure
from partialnas.analysis.plotting.axes import configure_axis
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.plotting.style import DARK_COLOR, MUTED_COLOR, SERIES_COLORS, Style
from partialnas.runs.config.quantities import Quantity

_ROW, _AROUND = 0.17, 0.5
_HALF_WIDTH = 0.32
_MAX_DOTS = 300


def axis_figure_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of one quantity by level of each axis."""
    _, quantity, rows = requested_architectures(folders, request)
    chosen = load_axis_levels(folders, rows)
    rows = rows.loc[chosen.index]
    values = rows[quantity.key].astype("float64")
    levels = [_levels(axis, chosen[axis], values) for axis in map(str, chosen)]
    table = pd.concat(levels, ignore_index=True)
    best = "least" if quantity.better == "min" else "most"
    points = chosen.assign(value=values)
    heads = {"axis": "Axis", "level": "Level", "architectures": "Architectures"}
    readable = table[[*heads]].rename(columns=heads).astype(str)
    for name, key in {"Median": "median", "25 %": "low", "75 %": "high", "Best": best}.items():
        readable[name] = [quantity.text(value) for value in table[key]]
    return FigureSpec(
        table=table.assign(metric=quantity.key),
        readable=readable,
        caption=_caption(rows, quantity, len(chosen.columns)),
        plot_data=table,
        draw=partial(_draw, points, table, quantity),
    )


def _levels(axis: str, chosen: "pd.Series[str]", values: "pd.Series[float]") -> pd.DataFrame:
    rows = []
    for level in sort_levels(chosen):
        at_level = values[chosen.eq(level)].to_numpy(float)
        low, middle, high = np.quantile(at_level, [0.25, 0.5, 0.75])
        rows.append((axis, level, len(at_level), at_level.min(), low, middle, high, at_level.max()))
    heads = ["axis", "level", "architectures", "least", "low", "median", "high", "most"]
    return pd.DataFrame(rows, columns=heads)


def _caption(rows: pd.DataFrame, quantity: Quantity, axes: int) -> str:
    return (
        f"{quantity.label} against {axes} axes of the space: "
        f"{pluralize(len(rows), 'architecture')}, {evaluation_phrase(rows)}, means "
        "over seeds. Line: median; box: quartiles; in parentheses: number of architectures. In an "
        "adaptive search the levels of other axes differ between rows: a difference is no effect "
        "of the axis."
    )


def _draw(points: pd.DataFrame, table: pd.DataFrame, quantity: Quantity, style: Style) -> Figure:
    """Draw one row per level; the levels of an axis follow its name."""
    first = table["axis"].ne(table["axis"].shift())
    rows = np.arange(len(table)) + first.cumsum().to_numpy(float)  # names stand on rows above
    figure = style.new_figure(_AROUND + _ROW * (rows.max() + 1))
    axes = figure.add_subplot()
    factor = configure_axis(axes, "x", quantity, points["value"].to_numpy(float))
    for row, (_, level) in zip(rows.tolist(), table.iterrows(), strict=True):
        chosen = points[level["axis"]].eq(level["level"])
        _draw_level(axes, row, points.loc[chosen, "value"].to_numpy(float) / factor)
    labels = [
        f"{elide(level)}  ({number:,})"
        for level, number in zip(table["level"], table["architectures"], strict=True)
    ]
    axes.set_yticks(rows, labels)
    names = zip(rows[first.to_numpy()] - 1, table.loc[first, "axis"], strict=True)
    for row, name in names:
        axes.text(
            -0.02, row + 0.1, elide(name), transform=axes.get_yaxis_transform(), ha="right",
            va="center", fontweight="bold", fontsize=style.small_font_size, color=DARK_COLOR,
        )  # fmt: skip
    axes.set_ylim(rows.max() + 0.7, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    return figure


def _draw_level(axes: Axes, row: float, values: Floats) -> None:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    few = values[:: 1 + len(values) // _MAX_DOTS]
    apart = np.random.default_rng(int(row)).uniform(-_HALF_WIDTH, _HALF_WIDTH, len(few))
    axes.scatter(few, row + apart, s=4, color=MUTED_COLOR, linewidths=0, alpha=0.7, zorder=2)
    box: dict[str, Any] = {"color": SERIES_COLORS[0], "alpha": 0.25, "linewidth": 0, "zorder": 3}
    axes.fill_betweenx([row - _HALF_WIDTH, row + _HALF_WIDTH], low, high, **box)
    ends = (row - _HALF_WIDTH, row + _HALF_WIDTH)
    axes.vlines(middle, *ends, SERIES_COLORS[0], linewidth=1.4, zorder=4)
