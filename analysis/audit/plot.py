"""Plots of audits: results after short training against results after longer training."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.axes import ARROWS, configure_axis, set_ticks
from partialnas.analysis.plotting.legends import draw_legend
from partialnas.analysis.plotting.style import DARK_COLOR, MUTED_COLOR, SERIES_COLORS, Style
from partialnas.runs.config.quantities import Quantity

_MAX_PANELS = 4
_MAX_ASPECT = 1.15
"""Largest ratio of a panel's height to its width."""


def shown_fidelities(names: Sequence[str]) -> list[str]:
    """Return the fidelities with a panel: all of them, or the cheapest and the last ones."""
    return [*names] if len(names) <= _MAX_PANELS else [names[0], *names[1 - _MAX_PANELS :]]


def draw(table: pd.DataFrame, quantity: Quantity, longer: str, style: Style) -> AnyFigure:
    """Return the figure of `audited_networks`, one panel per fidelity; call it in `figure_style`.

    Args:
        table: points of the figure.
        quantity: quantity of the points.
        longer: duration of the longer training.
        style: style of the figure.
    """
    fidelities = shown_fidelities([*table["way"].unique()])
    height = min(style.height, _MAX_ASPECT * style.width / len(fidelities) + 0.5)
    figure, grid = style.new_panels(height, columns=len(fidelities))
    panels = grid[0]
    for index, (axes, fidelity) in enumerate(zip(panels, fidelities, strict=True)):
        _draw_panel(axes, table[table["way"].eq(fidelity)], quantity)
        axes.set_xlabel(f"after {fidelity}".replace(", ", ",\n"))
        set_ticks(axes.xaxis, max_ticks=max(2, 6 // len(fidelities)))
        axes.set_ylabel("" if index else f"after {longer}")
        if index:
            axes.tick_params(labelleft=False)
    for axes in panels[1:]:
        axes.set_ylim(panels[0].get_ylim())
    label = f"{quantity.label} {ARROWS[quantity.better]}"
    figure.supxlabel(label, color=DARK_COLOR)
    draw_legend(figure, panels[0], style)
    return figure


def _draw_panel(axes: Axes, points: pd.DataFrame, quantity: Quantity) -> None:
    axes.grid(visible=True)
    linear = replace(quantity, logarithmic=False)  # both axes alike, whatever they span
    configure_axis(axes, "x", linear, _ends(points, "short"))
    configure_axis(axes, "y", linear, _ends(points, "longer"))
    for on_front, rows in points.groupby("on_front"):
        color = SERIES_COLORS[0] if on_front else MUTED_COLOR
        name = "on the front" if on_front else "other networks"
        axes.errorbar(
            rows["short"], rows["longer"], xerr=rows["short_sd"], yerr=rows["longer_sd"], fmt="o",
            color=color, ecolor=color, markersize=3.2, elinewidth=0.6, alpha=0.9,
            label=f"{name} ({len(rows)})", zorder=3 if on_front else 2,
        )  # fmt: skip
    selected = _selected(points, quantity)
    axes.scatter(
        selected["short"], selected["longer"], s=42, facecolors="none", edgecolors=SERIES_COLORS[1],
        linewidths=1.0, zorder=4, label="selected at this fidelity",
    )  # fmt: skip


def _selected(points: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    compared = points[points["longer"].notna()]
    best = compared["short"].min() if quantity.better == "min" else compared["short"].max()
    return compared[compared["short"].eq(best)]


def _ends(points: pd.DataFrame, side: str) -> Floats:
    """Return the points along one axis with the ends of their error bars."""
    mean = points[side].to_numpy(float)
    spread = np.nan_to_num(points[f"{side}_sd"].to_numpy(float))
    return np.column_stack([mean, mean - spread, mean + spread])
