"""The interaction plot: means by the levels of one factor, with one line per level of another."""

import itertools
import math
from collections.abc import Sequence

import pandas as pd

from partialnas.analysis.ablation.arm_axes import shown_bounds
from partialnas.analysis.ablation.effects import Effects, mean_half_width
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.axes import ARROWS, parent_figure, set_ticks
from partialnas.analysis.plotting.labels import distinct_labels, elide, label_line_ends
from partialnas.analysis.plotting.limit_lines import draw_limit_lines
from partialnas.analysis.plotting.names import axis_name
from partialnas.analysis.plotting.style import (
    DARK_COLOR,
    FAMILY_STYLES,
    SERIES_COLORS,
    Style,
    characters_that_fit,
)
from partialnas.runs.config.design import Design
from partialnas.space.errors import UserError

_LINE_STYLES = ((SERIES_COLORS[0], "o"), *FAMILY_STYLES)
_MAX_PANELS = 6
_PANEL_HEIGHT, _MARGIN = 1.5, 0.75
_MIN_LEVEL_LENGTH, _MAX_LEVEL_LENGTH = 4, 16
_LINE_SHIFT = 0.12
_MAX_LEGEND_COLUMNS, _PANEL_SHARE = 3, 0.7
_MAX_DIRECT, _MAX_DIRECT_LENGTH = 4, 10
"""Number of lines, and length of their names, up to which these stand beside the lines."""


def interaction_points(result: Effects, factors: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the mean of each pair of levels over all arms with these levels, for each panel.

    Args:
        result: effects of a factorial design.
        factors: factor on the axis and factor of the lines; by default all pairs of factors.

    Raises:
        UserError: the design has fewer than two factors, lacks a factor, or has too many pairs.
    """
    design = _require_factorial(result)
    rows: list[dict[str, object]] = []
    for across, lines in _pairs(design, factors):
        for x, line in itertools.product(*(_level_names(design, f) for f in (across, lines))):
            values = _values(result, design, {across: x, lines: line})
            half = mean_half_width(result.comparison, len(values))
            mean = float(pd.Series(values, dtype=float).mean())
            levels = {"across": across, "lines": lines, "x": x, "line": line}
            ends = {"low": mean - half, "high": mean + half}
            rows.append({**levels, "n": len(values), "value": mean, **ends})
    return pd.DataFrame(rows)


def _require_factorial(result: Effects) -> Design:
    design = result.design
    if design is None or result.factorial is None or len(design.factors) < 2:
        raise UserError(
            "no interactions to draw: they need a factorial or fractional design with two factors "
            "or more; draw the kind effect"
        )
    return design


def _pairs(design: Design, factors: Sequence[str] | None) -> list[tuple[str, str]]:
    names = [factor.name for factor in design.factors]
    if factors is not None:
        unknown = [name for name in factors if name not in names]
        if unknown or len(set(factors)) != 2:
            raise UserError(
                f"factors {', '.join(factors)}: expected two of {', '.join(names)}, such as "
                f"{names[0]} and {names[1]}"
            )
        return [(factors[0], factors[1])]
    pairs = [*itertools.combinations(names, 2)]
    if len(pairs) > _MAX_PANELS:
        raise UserError(
            f"{len(pairs)} pairs of factors are too many for one figure; choose two of "
            f"{', '.join(names)} as the factors"
        )
    return pairs


def _level_names(design: Design, name: str) -> Sequence[str]:
    return next(factor.levels for factor in design.factors if factor.name == name)


def _values(result: Effects, design: Design, levels: dict[str, str]) -> list[float]:
    arms = [arm.name for arm in design.arms if levels.items() <= arm.levels.items()]
    return [value for arm in arms for value in result.values.get(arm, {}).values()]


def draw(result: Effects, points: pd.DataFrame, style: Style) -> AnyFigure:
    """Return the figure of `interaction_points`; call it inside `figure_style`."""
    panels = [*points.groupby(["across", "lines"], sort=False)]
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    height = _MARGIN + rows * (_PANEL_HEIGHT + _MARGIN / 2)
    figure, grid = style.new_panels(height, rows, columns, sharey=True)
    for axes, (_, panel) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel, _PANEL_SHARE * style.width / columns, style)
    for axes in [*grid.flat][len(panels) :]:
        axes.set_visible(False)
    for axes in [*grid.flat][: len(panels)]:
        draw_limit_lines(axes, y=shown_bounds(result, points))
    for axes in grid[:, 0]:
        axes.set_ylabel(f"{result.quantity.label} {ARROWS[result.quantity.better]}")
        set_ticks(axes.yaxis)
    return figure


def _draw_panel(axes: Axes, panel: pd.DataFrame, width: float, style: Style) -> None:
    """Draw one panel with `width` inches for its legend and its levels."""
    levels = [*panel["x"].unique()]
    axes.grid(visible=True, axis="y")
    lines = [*panel.groupby("line", sort=False)]
    names = distinct_labels([str(name) for name, _ in lines], _MAX_LEVEL_LENGTH)
    ends: list[tuple[float, str, str]] = []
    for index, (name, (_, rows), (color, marker)) in enumerate(
        zip(names, lines, itertools.cycle(_LINE_STYLES), strict=False)
    ):
        shift = _LINE_SHIFT * (index - (len(lines) - 1) / 2)
        x = rows["x"].map(levels.index) + shift
        axes.plot(x, rows["value"], color=color, linewidth=1.0, zorder=3)
        axes.vlines(x, rows["low"], rows["high"], color, linewidth=0.8, zorder=4)
        axes.scatter(
            x, rows["value"], s=14, color=color, marker=marker, zorder=5, edgecolors="white",
            linewidths=0.4, label=f" {name}",
        )  # fmt: skip
        ends.append((float(rows["value"].iloc[-1]), name, color))
    fitting = int(characters_that_fit(width, len(levels) * style.small_font_size))
    longest = min(_MAX_LEVEL_LENGTH, max(_MIN_LEVEL_LENGTH, fitting))
    axes.set_xticks(range(len(levels)), distinct_labels([*map(str, levels)], longest))
    axes.set_xlim(-0.4, len(levels) - 0.6)
    axes.set_xlabel(elide(axis_name(str(panel["across"].iloc[0]))))
    title = elide(axis_name(str(panel["lines"].iloc[0])))
    complete = all(math.isfinite(value) for value, _, _ in ends)
    if complete and len(lines) <= _MAX_DIRECT and max(map(len, names)) <= _MAX_DIRECT_LENGTH:
        label_line_ends(axes, ends, style, height=_PANEL_HEIGHT)
        axes.set_title(title, loc="right", fontsize=style.small_font_size, fontstyle="italic",
                       color=DARK_COLOR)  # fmt: skip
        return
    for columns in range(min(len(lines), _MAX_LEGEND_COLUMNS), 0, -1):
        legend = axes.legend(
            title=title, loc="lower center", bbox_to_anchor=(0.5, 1.0),
            ncols=columns, handletextpad=0.1, columnspacing=0.6, borderpad=0.1,
            title_fontsize=style.small_font_size, labelcolor=DARK_COLOR,
        )  # fmt: skip
        if legend.get_window_extent().width < width * parent_figure(axes).dpi:
            return
