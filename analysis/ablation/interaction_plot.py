"""The interaction plot: one factor across, a line for each level of another."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.ablation.effects import Effects, mean_half_width
from partialnas.analysis.plotting.axes import parent_figure
from partialnas.analysis.plotting.labels import distinct_labels, elide
from partialnas.analysis.plotting.style import (
    DARK_COLOR,
    FAMILY_STYLES,
    SERIES_COLORS,
    Style,
    characters_that_fit,
)
from partialnas.runs.config.design import Design
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOOKS = ((SERIES_COLORS[0], "o"), *FAMILY_STYLES)
_MOST_PANELS = 6
_PANEL, _AROUND = 1.5, 0.75
_LONGEST_LEVEL = 16
_DODGE = 0.12
_MOST_COLUMNS, _SHARE = 3, 0.7
_SHORTEST_LEVEL = 4


def interaction_points(found: Effects, factors: Sequence[str] | None = None) -> pd.DataFrame:
    """What the plot shows: the mean of each pair of levels over all arms that have it, by panel.

    Args:
        found: the effects of a factorial design.
        factors: the one across and the one with lines; all pairs without them.

    Raises:
        UserError: the design has fewer than two factors, no such factor, or too many pairs.
    """
    design = _factorial(found)
    rows: list[dict[str, object]] = []
    for across, lines in _pairs(design, factors):
        for x, line in itertools.product(*(_level_names(design, f) for f in (across, lines))):
            own = _values(found, design, {across: x, lines: line})
            half = mean_half_width(found.comparison, len(own))
            mean = float(pd.Series(own, dtype=float).mean())
            where = {"across": across, "lines": lines, "x": x, "line": line}
            rows.append(
                {**where, "n": len(own), "value": mean, "low": mean - half, "high": mean + half}
            )
    return pd.DataFrame(rows)


def _factorial(found: Effects) -> Design:
    design = found.design
    if design is None or found.factorial is None or len(design.factors) < 2:
        raise UserError(
            "no interactions: only factorial and fractional designs with two factors or more have "
            "them; --kind effect draws every study of arms"
        )
    return design


def _pairs(design: Design, factors: Sequence[str] | None) -> list[tuple[str, str]]:
    names = [factor.name for factor in design.factors]
    if factors is not None:
        unknown = [name for name in factors if name not in names]
        if unknown or len(set(factors)) != 2:
            raise UserError(
                f"factors {', '.join(factors)}: expected two of {', '.join(names)}, such as "
                f"--factors {names[0]},{names[1]}"
            )
        return [(factors[0], factors[1])]
    pairs = [*itertools.combinations(names, 2)]
    if len(pairs) > _MOST_PANELS:
        raise UserError(
            f"{len(pairs)} pairs of factors are too many for one figure; choose two of "
            f"{', '.join(names)} with --factors"
        )
    return pairs


def _level_names(design: Design, name: str) -> Sequence[str]:
    return next(factor.levels for factor in design.factors if factor.name == name)


def _values(found: Effects, design: Design, levels: dict[str, str]) -> list[float]:
    arms = [arm.name for arm in design.arms if levels.items() <= arm.levels.items()]
    return [value for arm in arms for value in found.values.get(arm, {}).values()]


def draw(found: Effects, points: pd.DataFrame, style: Style) -> "Figure":
    """The figure of `interaction_points`; to be called inside `style.drawing`."""
    from matplotlib.figure import Figure

    panels = [*points.groupby(["across", "lines"], sort=False)]
    wide = min(len(panels), 2)
    down = math.ceil(len(panels) / wide)
    size = (style.width, _AROUND + down * (_PANEL + _AROUND / 2))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, wide, sharey=True, squeeze=False)
    for axes, (_, panel) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel, _SHARE * style.width / wide, style)
    for axes in [*grid.flat][len(panels) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(found.quantity.label)
    return figure


def _draw_panel(axes: "Axes", panel: pd.DataFrame, room: float, style: Style) -> None:
    """One panel, for whose legend and levels there is so much room in inches."""
    levels = [*panel["x"].unique()]
    axes.grid(visible=True, axis="y")
    lines = [*panel.groupby("line", sort=False)]
    names = distinct_labels([str(name) for name, _ in lines], _LONGEST_LEVEL)
    for index, (name, (_, rows), (colour, marker)) in enumerate(
        zip(names, lines, itertools.cycle(_LOOKS), strict=False)
    ):
        shift = _DODGE * (index - (len(lines) - 1) / 2)
        x = rows["x"].map(levels.index) + shift
        axes.plot(x, rows["value"], color=colour, linewidth=1.0, zorder=3)
        axes.vlines(x, rows["low"], rows["high"], colour, linewidth=0.8, zorder=4)
        axes.scatter(
            x, rows["value"], s=14, color=colour, marker=marker, zorder=5, edgecolors="white",
            linewidths=0.4, label=f" {name}",
        )  # fmt: skip
    longest = int(characters_that_fit(room, len(levels) * style.small_font_size))
    told = distinct_labels([*map(str, levels)], min(_LONGEST_LEVEL, max(_SHORTEST_LEVEL, longest)))
    axes.set_xticks(range(len(levels)), told)
    axes.set_xlim(-0.4, len(levels) - 0.6)
    axes.set_xlabel(elide(str(panel["across"].iloc[0])))
    for columns in range(min(len(lines), _MOST_COLUMNS), 0, -1):
        legend = axes.legend(
            title=elide(str(panel["lines"].iloc[0])), loc="lower center", bbox_to_anchor=(0.5, 1.0),
            ncols=columns, handletextpad=0.1, columnspacing=0.6, borderpad=0.1,
            title_fontsize="small", labelcolor=DARK_COLOR,
        )  # fmt: skip
        if legend.get_window_extent().width < room * parent_figure(axes).dpi:
            return
