"""Axes on which every arm has a row: labels, dots of the seeds, intervals."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.plotting.fitting import ensure_axes_height
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.plotting.style import (
    DARK_COLOR,
    MUTED_COLOR,
    SERIES_COLORS,
    Style,
    characters_that_fit,
)
from partialnas.runs.config.design import Design
from partialnas.runs.config.quantities import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _AROUND = 0.2, 0.8
"""Inches of a row, and of what is around them at least."""

_LONGEST_NAME = 30
_MOST_LINES, _LINE = 4, 0.12
_MOST_TICKS = 6
_SPREAD = 0.26


def arm_figure(names: Sequence[str], style: Style, *, label_share: float = 0.5) -> "tuple[Figure, Axes]":
    """A figure with a row for each arm, the first on top.

    Args:
        names: of the rows.
        style: of the figure.
        label_share: of the figure's width that names take at most.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    room = int(characters_that_fit(label_share * style.width, style.small_font_size))
    labels = [_label(name, min(_LONGEST_NAME, room)) for name in names]
    size = (style.width, _AROUND + _row(labels) * max(len(names), 3))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), labels)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=_MOST_TICKS, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    return figure, axes


def _label(name: str, longest: int) -> str:
    """A name on as many lines as it needs; of one that needs very many the middle is left out."""
    whole = elide(name, _MOST_LINES * _LONGEST_NAME)
    return "\n".join(textwrap.wrap(whole, longest)) if len(name) > longest else name


def fit_row_height(figure: "Figure", axes: "Axes") -> None:
    """Gives rows the height that they should have, whatever stands above and below them."""
    labels = [label.get_text() for label in axes.get_yticklabels()]
    ensure_axes_height(figure, axes, _row(labels) * len(labels))


def _row(labels: Sequence[str]) -> float:
    """The height of a row in inches, with room for the name that has most lines."""
    return _ROW + _LINE * max((label.count("\n") for label in labels), default=0)


def row_labels(names: Sequence[str], design: Design | None) -> tuple[list[str], str]:
    """What stands beside each row, and what that is: of factorial designs the levels alone."""
    by_levels = design is not None and design.kind in ("factorial", "fractional")
    shown = {a.name: " · ".join(a.levels.values()) for a in design.arms} if design else {}
    short = [shown.get(name, "") for name in names]
    long = any(len(name) > _LONGEST_NAME for name in names)
    if design is None or not (by_levels and long) or len({*short}) < len(names) or not all(short):
        return [*names], ""
    return short, " · ".join(factor.name for factor in design.factors)


def draw_axis_title(figure: "Figure", lines: Sequence[str], style: Style) -> None:
    """What stands below the horizontal axis, as wide as the figure."""
    wide = int(characters_that_fit(style.width, style.font_size))
    broken = [part for line in lines if line for part in textwrap.wrap(line, wide)]
    figure.supxlabel("\n".join(broken), fontsize=style.font_size, color=DARK_COLOR)


def draw_seeds(axes: "Axes", dots: pd.DataFrame) -> None:
    """A dot for each seed (`row`, `seed`, `value`), those of one arm a little apart."""
    seeds = sorted(dots["seed"].unique())
    shift = {seed: _SPREAD * (i / max(len(seeds) - 1, 1) - 0.5) for i, seed in enumerate(seeds)}
    y = dots["row"] + dots["seed"].map(shift)
    axes.scatter(
        dots["value"], y, s=9, color=MUTED_COLOR, linewidths=0, alpha=0.9, zorder=3, label="seed"
    )


def draw_means(axes: "Axes", means: pd.DataFrame, told: str) -> None:
    """A mark for each mean (`row`, `value`) with a bar from `low` to `high` where it is known."""
    bars = means.dropna(subset=["low", "high"])
    axes.hlines(bars["row"], bars["low"], bars["high"], SERIES_COLORS[0], linewidth=1.3, zorder=4)
    axes.scatter(
        means["value"], means["row"], s=18, color=SERIES_COLORS[0], edgecolors="white", linewidths=0.5,
        zorder=5, label=f"mean, {told}" if len(bars) else "mean",
    )  # fmt: skip


def annotate_missing(axes: "Axes", rows: Sequence[int], words: Sequence[str], at: float) -> None:
    """Says in an arm's own row why nothing is drawn there."""
    for row, word in zip(rows, words, strict=True):
        axes.annotate(
            word, (at, row), (3, 0), textcoords="offset points", va="center", color=DARK_COLOR,
            fontsize="small", fontstyle="italic",
        )  # fmt: skip


def difference_unit(quantity: Quantity) -> str:
    """The unit of a difference: percentage points for percent."""
    return "percentage points" if quantity.unit == "%" else quantity.unit


def direction_arrow(quantity: Quantity) -> str:
    """An arrow in the direction in which a quantity on a horizontal axis improves."""
    return "→" if quantity.better == "max" else "←"
