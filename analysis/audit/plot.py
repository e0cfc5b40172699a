"""The drawing of an audit: what networks reach by short training against longer training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from partialnas.analysis.plotting.axes import configure_axis, set_ticks
from partialnas.analysis.plotting.labels import draw_legend
from partialnas.analysis.plotting.style import DARK_COLOR, MUTED_COLOR, SERIES_COLORS, Style
from partialnas.runs.config.quantities import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ARROW = {"min": "↓", "max": "↑"}
_MOST_PANELS = 4
_SIDES = ("short", "longer")
_TALLEST = 1.15
"""Height of a panel over its width at most."""


def shown_ways(ways: Sequence[str]) -> list[str]:
    """The fidelities that have a panel: all, or the cheapest and the last ones."""
    few = len(ways) <= _MOST_PANELS
    return [*ways] if few else [ways[0], *ways[1 - _MOST_PANELS :]]


def draw(table: pd.DataFrame, quantity: Quantity, longer: str, style: Style) -> "Figure":
    """The figure of `audited_networks`, a panel for each fidelity; inside `style.drawing`.

    Args:
        table: the points.
        quantity: that they are of.
        longer: what the longer training is called.
        style: of the figure.
    """
    from matplotlib.figure import Figure

    ways = shown_ways([*table["way"].unique()])
    height = min(style.height, _TALLEST * style.width / len(ways) + 0.5)
    figure = Figure(figsize=(style.width, height), layout="constrained")
    panels = figure.subplots(1, len(ways), squeeze=False)[0]
    for index, (axes, way) in enumerate(zip(panels, ways, strict=True)):
        _draw_panel(axes, table[table["way"].eq(way)], quantity)
        axes.set_xlabel(f"after {way}".replace(", ", ",\n"))
        set_ticks(axes.xaxis, max_ticks=max(2, 6 // len(ways)))
        axes.set_ylabel("" if index else f"after {longer}")
        if index:
            axes.tick_params(labelleft=False)
    for axes in panels[1:]:
        axes.set_ylim(panels[0].get_ylim())
    figure.supxlabel(
        f"{quantity.label} {_ARROW[quantity.better]}", fontsize=style.font_size, color=DARK_COLOR
    )
    draw_legend(figure, panels[0], style)
    return figure


def _draw_panel(axes: "Axes", points: pd.DataFrame, quantity: Quantity) -> None:
    axes.grid(visible=True)
    plain = replace(quantity, logarithmic=False)  # equal ways on both axes, however far they reach
    for which, side in zip(("x", "y"), _SIDES, strict=True):
        configure_axis(axes, which, plain, _ends(points, side))  # type: ignore[arg-type]
    for on_front, rows in points.groupby("on_front"):
        colour = SERIES_COLORS[0] if on_front else MUTED_COLOR
        name = "on the front" if on_front else "other networks"
        axes.errorbar(
            rows["short"], rows["longer"], xerr=rows["short_sd"], yerr=rows["longer_sd"], fmt="o",
            color=colour, ecolor=colour, markersize=3.2, elinewidth=0.6, alpha=0.9,
            label=f"{name} ({len(rows)})", zorder=3 if on_front else 2,
        )  # fmt: skip
    chosen = _chosen(points, quantity)
    axes.scatter(
        chosen["short"], chosen["longer"], s=42, facecolors="none", edgecolors=SERIES_COLORS[1],
        linewidths=1.0, zorder=4, label="chosen by short training",
    )  # fmt: skip


def _chosen(points: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    known = points[points["longer"].notna()]
    best = known["short"].min() if quantity.better == "min" else known["short"].max()
    return known[known["short"].eq(best)]


def _ends(points: pd.DataFrame, side: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """All that is drawn along one axis, ends of bars included."""
    middle = points[side].to_numpy(float)
    spread = np.nan_to_num(points[f"{side}_sd"].to_numpy(float))
    return np.column_stack([middle, middle - spread, middle + spread])
