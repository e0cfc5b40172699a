"""Figures with one row per arm: labels, dots for seeds, means with intervals."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from partialnas.analysis.ablation.effects import (
    LIMIT_MARKS,
    Effects,
    limit_verdicts,
    unmatched_arms,
)
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.axes import NBSP
from partialnas.analysis.plotting.fitting import ensure_axes_height
from partialnas.analysis.plotting.labels import common_prefix_length, elide
from partialnas.analysis.plotting.legends import draw_legend, draw_note, has_margins
from partialnas.analysis.plotting.limit_lines import near_bounds
from partialnas.analysis.plotting.names import axis_name, level_name, network_name
from partialnas.analysis.plotting.style import (
    DARK_COLOR,
    MUTED_COLOR,
    SERIES_COLORS,
    Style,
    characters_that_fit,
)
from partialnas.runs.config.design import CROSSED_DESIGNS, Design
from partialnas.runs.config.quantities import Quantity

_ROW_HEIGHT, _MARGIN = 0.2, 0.8
"""Inches of a row of one line, and around all rows."""

_MAX_NAME_LENGTH = 30
_MAX_LINES, _LINE_HEIGHT = 4, 0.12
_MAX_TICKS = 6
_VERDICTS = {"no": "outside the limits", "?": "limits undecided"}
_SEED_SPREAD = 0.26
_PRESENT, _ABSENT = ("true", "with", "on", "yes"), ("false", "without", "off", "no", "none")
"""Levels of factors that something has or lacks."""


def arm_figure(
    names: Sequence[str], style: Style, *, label_share: float = 0.5
) -> tuple[AnyFigure, Axes]:
    """Return a figure with one row per arm, the first on top.

    Args:
        names: labels of the rows.
        style: style of the figure.
        label_share: largest share of the figure's width for the labels.
    """
    from matplotlib.ticker import MaxNLocator

    width = int(characters_that_fit(label_share * style.width, style.small_font_size))
    labels = [_wrap(name, min(_MAX_NAME_LENGTH, width)) for name in names]
    figure, axes = style.new_axes(_MARGIN + _row_height(labels) * max(len(names), 3))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), labels)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=_MAX_TICKS, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    return figure, axes


def _wrap(name: str, width: int) -> str:
    """Return a name on several lines, with its middle elided if it needs too many."""
    elided = elide(name, _MAX_LINES * _MAX_NAME_LENGTH)
    return "\n".join(textwrap.wrap(elided, width)) if len(name) > width else name


def _row_height(labels: Sequence[str]) -> float:
    """Return the height of a row in inches, with room for the label of most lines."""
    return _ROW_HEIGHT + _LINE_HEIGHT * max((label.count("\n") for label in labels), default=0)


def row_labels(names: Sequence[str], design: Design | None) -> list[str]:
    """Return the labels of the rows.

    In factorial designs they are the levels that differ from the baseline: `PAT_sp · mixup`. A part
    that all other names begin with, such as the level of a stratum, is left out.
    """
    if design is not None and design.kind in CROSSED_DESIGNS:
        levels = {arm.name: arm.levels for arm in design.arms}
        labels = [_changed_levels(levels.get(name, {}), design) for name in names]
        if len({*labels}) == len(names):
            return labels
    start = _common_start(names)
    return [network_name(name[start:]) for name in names]


def arm_name(name: str, design: Design | None) -> str:
    """Return the name of an arm; in factorial designs with the names of factors, `PAT_sp=false`."""
    arm = design.arm(name) if design is not None and design.kind in CROSSED_DESIGNS else None
    levels = arm.levels if arm is not None else {}
    return ", ".join(f"{axis_name(key)}={level}" for key, level in levels.items()) or name


def _changed_levels(levels: Mapping[str, str], design: Design) -> str:
    """Return the levels that differ from the baseline, with the factor unless they show it."""
    uses = Counter(level for factor in design.factors for level in factor.levels)
    texts = []
    for factor in design.factors:
        level, name = levels.get(factor.name, factor.baseline), axis_name(factor.name)
        if level == factor.baseline and factor.name not in design.within:
            continue
        if level in _PRESENT:
            texts.append(name)
        elif level in _ABSENT:
            texts.append(f"no {name}")
        elif level[:1].isalpha() and uses[level] == 1:
            texts.append(level_name(level))
        else:
            texts.append(f"{name}={level}")
    return " · ".join(texts) or "baseline"


def _common_start(names: Sequence[str]) -> int:
    """Return the length of the parts before a comma or a colon that all names begin with."""
    if len(names) < 2:
        return 0
    common = names[0][: common_prefix_length(names)]
    return max(
        (common.rfind(mark) + len(mark) for mark in (", ", ": ") if mark in common), default=0
    )


def draw_values(
    axes: Axes, points: pd.DataFrame, interval: str, *, missing_at: float | None = None
) -> pd.DataFrame:
    """Draw the seeds and the mean of each arm, or the reason why it has none.

    Args:
        axes: axes of `arm_figure`.
        points: one row per arm and one per arm and seed (`arm`, `seed`, `value`, `low`, `high`,
            `state`); a row without a seed is a mean.
        interval: name of the interval from `low` to `high`.
        missing_at: position of the reasons on the axis; by default the mean of the means.

    Returns:
        The means that were drawn, with `row`.
    """
    arms = points[points["seed"].isna()].reset_index(drop=True)
    rows = points.assign(row=points["arm"].map({arm: i for i, arm in enumerate(arms["arm"])}))
    _draw_seeds(axes, rows[rows["seed"].notna()])
    means = rows[rows["seed"].isna() & rows["value"].notna()]
    _draw_means(axes, means, interval)
    if missing_at is None:
        missing_at = float(means["value"].mean()) if len(means) else 0.0
    missing = arms[arms["state"].ne("")]
    for row, state in zip(missing.index, missing["state"], strict=True):
        axes.annotate(
            state, (missing_at, row), (3, 0), textcoords="offset points", va="center",
            color=DARK_COLOR, fontstyle="italic",
        )  # fmt: skip
    return means


def _draw_seeds(axes: Axes, dots: pd.DataFrame) -> None:
    """Draw one dot per seed, the dots of one arm slightly apart."""
    seeds = sorted(dots["seed"].unique())
    steps = max(len(seeds) - 1, 1)
    offsets = {seed: _SEED_SPREAD * (i / steps - 0.5) for i, seed in enumerate(seeds)}
    x, y = dots["value"], dots["row"] + dots["seed"].map(offsets)
    axes.scatter(x, y, s=9, color=MUTED_COLOR, linewidths=0, alpha=0.9, zorder=3, label="seed")


def _draw_means(axes: Axes, means: pd.DataFrame, interval: str) -> None:
    """Draw one marker per mean, with a bar if it has an interval."""
    bars = means.dropna(subset=["low", "high"])
    axes.hlines(bars["row"], bars["low"], bars["high"], SERIES_COLORS[0], linewidth=1.3, zorder=4)
    axes.scatter(
        means["value"], means["row"], s=18, color=SERIES_COLORS[0], edgecolors="white",
        linewidths=0.5, zorder=5, label=f"mean, {interval}" if len(bars) else "mean",
    )  # fmt: skip


def finish_figure(
    figure: AnyFigure, axes: Axes, result: Effects, label: str, title: Sequence[str], style: Style
) -> None:
    """Label the horizontal axis, draw the legend, and fit the row height.

    Args:
        figure: figure of `arm_figure`.
        axes: axes of `arm_figure`.
        result: effects that the figure shows.
        label: label of the axis in one line, for axes of the caller.
        title: the same with more details, which the caption states too; footnotes follow.
        style: style of the figure.
    """
    notes = []
    if result.design and unmatched_arms(result):
        notes.append(f"†: {result.design.match} not equal")
    verdicts = {*limit_verdicts(result).values()}
    notes += [f"{LIMIT_MARKS[v]}: {text}" for v, text in _VERDICTS.items() if v in verdicts]
    if result.comparison.method == "none":
        notes.append("too few seeds: differences cannot be tested")
    width = int(characters_that_fit(style.width, style.font_size))
    lines = [line for text in (*title, *notes) for line in textwrap.wrap(text, width)]
    draw_note(figure, lines, style)
    if not has_margins(figure, style):
        axes.set_xlabel(label)
    draw_legend(figure, axes, style)
    if style.target is None:
        labels = [label.get_text() for label in axes.get_yticklabels()]
        ensure_axes_height(axes, _row_height(labels) * len(labels))


def shown_bounds(result: Effects, points: pd.DataFrame) -> list[float]:
    """Return the bounds of the study's limits on the quantity of a figure (see `near_bounds`)."""
    values = points["value"].to_numpy(float)
    return near_bounds(result.rows.trials.limits, result.quantity.key, values)


def direction_arrow(quantity: Quantity) -> str:
    """Return the direction in which a quantity on a horizontal axis improves, in one word."""
    return f"better{NBSP}→" if quantity.better == "max" else f"←{NBSP}better"
