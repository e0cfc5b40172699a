"""Figure of parallel coordinates: axes of the space and objectives, the front highlighted."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.figures.base import (
    FigureRequest,
    FigureSpec,
    load_requested_trials,
    network_labels,
)
from partialnas.analysis.formats.caption_sentences import pluralize
from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.frames.axis_levels import load_axis_levels, sort_levels
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import front
from partialnas.analysis.pareto.table import empty_figure_message
from partialnas.analysis.plotting.artists import Axes, Figure
from partialnas.analysis.plotting.axes import parent_figure
from partialnas.analysis.plotting.labels import distinct_labels, elide
from partialnas.analysis.plotting.style import (
    DARK_COLOR,
    MUTED_COLOR,
    SERIES_COLORS,
    Style,
    characters_that_fit,
)
from partialnas.runs.config.quantities import (
    Direction,
    Quantity,
    differs_by_seed,
    format_significant,
)
from partialnas.space.errors import UserError

_MAX_LINES = 400
_ROW, _AROUND = 0.36, 0.5
_SPREAD = 0.035
_LABEL_BACKGROUND = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.6}
_CHARACTER_ASPECT = 0.62


def parallel_coordinates_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of levels and objectives, one line per architecture.

    Axes are rows, so that names and levels fit into a column. The objectives are those of the
    studies; a requested metric replaces the trained ones. The front is that in the objectives of
    each study, whatever is drawn.
    """
    trials = load_requested_trials(folders, request)
    quantities = _drawn_quantities(trials, request)
    keys = [quantity.key for quantity in quantities]
    rows = front(trials)
    rows = rows[~rows["baseline"] & rows["rank"].notna() & rows[keys].notna().all(axis=1)]
    if rows.empty:
        raise UserError(empty_figure_message(trials.frame, " and ".join(keys)))
    chosen = load_axis_levels(folders, rows)
    rows = rows.loc[chosen.index]
    names = ["label", "study", "folder", "digest", "on_front"]
    named = rows.assign(label=network_labels(rows))[names]
    hidden = [key for key in _objectives(trials) if key not in keys]
    table = named.join(chosen).join(rows[[*keys, *hidden]])
    table = table.sort_values("on_front", ascending=False, kind="stable").reset_index(drop=True)
    axes = [*chosen.columns]
    lines = _chosen_lines(table)
    shown = table[table["on_front"]].drop(columns=["study", "folder", "digest", "on_front"])
    texts = {q.key: [q.text(value) for value in shown[q.key]] for q in quantities}
    return FigureSpec(
        table=table,
        readable=shown.assign(**texts).rename(columns={"label": ""}),
        caption=_caption(table, len(lines), axes, quantities, hidden),
        plot_data=lines.drop(columns=["study", "folder", "digest"]),
        draw=partial(_draw, lines, axes, quantities),
    )


def _objectives(trials: Trials) -> dict[str, Direction]:
    """Return the objectives of all studies."""
    studies = (trials.objectives_of(str(folder)) for folder in trials.frame["folder"].unique())
    return {key: better for objectives in studies for key, better in objectives.items()}


def _drawn_quantities(trials: Trials, request: FigureRequest) -> list[Quantity]:
    keys = [*_objectives(trials)]
    if request.metric:
        keys = [*(key for key in keys if not differs_by_seed(key)), request.metric]
    return [trials.quantity(key) for key in dict.fromkeys(keys)]


def _chosen_lines(table: pd.DataFrame) -> pd.DataFrame:
    """Return the front and at most 400 other architectures, spread evenly over the table."""
    members, others = table[table["on_front"]], table[~table["on_front"]]
    step = -(-len(others) // _MAX_LINES) or 1
    return pd.concat([others.iloc[::step], members])


def _caption(
    table: pd.DataFrame,
    drawn: int,
    axes: list[str],
    quantities: Sequence[Quantity],
    hidden: Sequence[str],
) -> str:
    names = " and ".join(f"{q.name.lower()} ({q.better})" for q in quantities)
    also = f", decided also by {', '.join(hidden)}, not drawn" if hidden else ""
    part = f" {drawn:,} of them are drawn." if drawn < len(table) else ""
    return (
        f"Levels on {len(axes)} {'axis' if len(axes) == 1 else 'axes'} and {names} of "
        f"{pluralize(len(table), 'architecture')}, one line each; blue: front "
        f"({int(table['on_front'].sum())}{also}); better values are on the right.{part} Lines are "
        "spread slightly within a level."
    )


def _draw(
    lines: pd.DataFrame, axes: list[str], quantities: Sequence[Quantity], style: Style
) -> Figure:
    names = [*axes, *(quantity.key for quantity in quantities)]
    figure = style.new_figure(_AROUND + _ROW * len(names))
    panel = figure.add_subplot()
    places = [_level_places(lines[name]) for name in axes]
    places += [_value_places(lines[q.key], q) for q in quantities]
    across = np.column_stack(places)
    up = np.arange(len(names))
    for member in (False, True):
        group = across[lines["on_front"].eq(member).to_numpy()]
        look: dict[str, Any] = {"color": MUTED_COLOR, "linewidth": 0.5, "alpha": 0.45}
        if member:
            look = {"color": SERIES_COLORS[0], "linewidth": 1.0, "alpha": 0.9}
        for line in group:
            panel.plot(line, up, zorder=2 + member, solid_joinstyle="round", **look)
    panel.hlines(up, 0, 1, DARK_COLOR, linewidth=0.6, zorder=1.5)
    panel.set(xlim=(-0.04, 1.04), ylim=(len(names) - 0.6, -0.75), xticks=[])
    panel.set_yticks(up, [elide(name, 18) for name in names])
    panel.tick_params(axis="y", length=0)
    panel.spines[:].set_visible(False)
    figure.draw_without_rendering()  # the layout determines the width of the panel
    for row, name in enumerate(axes):
        _write_levels(panel, row, sort_levels(lines[name]), style)
    for row, quantity in enumerate(quantities, start=len(axes)):
        _write_ends(panel, row, lines[quantity.key], quantity, style)
    return figure


def _level_places(axis: "pd.Series[str]") -> Floats:
    """Return positions of levels between 0 and 1, with lines of one level slightly apart."""
    levels = sort_levels(axis)
    at = axis.map({level: i for i, level in enumerate(levels)}).to_numpy(float)
    steps = max(len(levels) - 1, 1)
    share = np.linspace(-1, 1, len(axis)) if len(axis) > 1 else np.zeros(1)
    # a fixed order that is unrelated to the order of rows
    apart = share[np.random.default_rng(len(levels)).permutation(len(axis))]
    middle = 0.5 if len(levels) == 1 else 0.0
    return middle + at / steps + _SPREAD * apart


def _value_places(values: "pd.Series[float]", quantity: Quantity) -> Floats:
    """Return values scaled to 0 (worst) to 1 (best); 0.5 if all are equal."""
    numbers = values.to_numpy(float)
    low, high = numbers.min(), numbers.max()
    if low == high:
        return np.full(len(numbers), 0.5)
    share: Floats = (numbers - low) / (high - low)
    return share if quantity.better == "max" else 1 - share


def _write_levels(panel: Axes, row: int, levels: list[str], style: Style) -> None:
    """Write the names of levels above their positions, shortened to the available space."""
    steps = max(len(levels) - 1, 1)
    inches = panel.get_window_extent().width / parent_figure(panel).dpi
    room = characters_that_fit(inches, steps * style.small_font_size, _CHARACTER_ASPECT)
    # the first and the last label are inside the axis, the others centered
    room = room * (1 / 2 if len(levels) == 2 else 2 / 3) - 1
    for i, level in enumerate(distinct_labels(levels, max(4, int(room)))):
        side = "left" if i == 0 else "right" if i == steps else "center"
        at = -0.03 if side == "left" else 1.03 if side == "right" else i / steps
        panel.text(
            at, row - 0.2, level, fontsize=style.small_font_size, color=DARK_COLOR,
            ha=side, va="bottom", zorder=5, bbox=_LABEL_BACKGROUND,
        )  # fmt: skip


def _write_ends(
    panel: Axes, row: int, values: "pd.Series[float]", quantity: Quantity, style: Style
) -> None:
    ends = sorted((float(values.min()), float(values.max())), reverse=quantity.better == "min")
    for at, value, side in ((-0.03, ends[0], "left"), (1.03, ends[1], "right")):
        panel.text(
            at, row - 0.2, format_significant(value), fontsize=style.small_font_size,
            color=DARK_COLOR, ha=side, va="bottom", zorder=5, bbox=_LABEL_BACKGROUND,
        )  # fmt: skip
