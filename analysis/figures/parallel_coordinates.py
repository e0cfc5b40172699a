"""Figure of parallel coordinates: axes of the space and objectives, the front highlighted."""

import textwrap
from collections.abc import Mapping, Sequence
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
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import pluralize
from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.frames.axis_levels import load_axis_levels, sort_levels
from partialnas.analysis.frames.feasibility import undecided_note
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import front
from partialnas.analysis.pareto.table import empty_figure_message
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.axes import parent_figure
from partialnas.analysis.plotting.labels import distinct_labels, elide
from partialnas.analysis.plotting.limit_lines import (
    excluded_mask,
    limit_marks_sentence,
    near_bounds,
)
from partialnas.analysis.plotting.names import axis_name, level_name, levels_note
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
    name_in_sentence,
)
from partialnas.space.errors import UserError
from partialnas.space.validation import join_words

_MAX_LINES = 400
_ROW, _AROUND = 0.46, 0.1
_BAND = 0.27
"""Half of the height of the band with the texts of an axis, in rows."""

_BAND_COLOR = "#f0f0f0"
_SPREAD = 0.3
"""Share of the width of a level over which its lines are spread to either side."""

_INSET = 0.02
_CHARACTER_ASPECT = 0.58
_MAX_TITLE = 18


def parallel_coordinates_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of levels and objectives, one line per architecture.

    Axes are rows, so that names and levels fit into a column. The objectives are those of the
    studies; a requested metric replaces the trained ones. The front is that in the objectives of
    each study, whatever is drawn. The table has a column `excluded` if any architecture does not
    compete for it, and `within_limits` if a study states limits.
    """
    trials = load_requested_trials(folders, request)
    quantities = _drawn_quantities(trials, request)
    keys = [quantity.key for quantity in quantities]
    rows = front(trials)
    rows = rows.assign(excluded=excluded_mask(rows))
    drawn = (rows["rank"].notna() | rows["excluded"]) & rows[keys].notna().all(axis=1)
    rows = rows[~rows["baseline"] & drawn]
    if rows.empty:
        raise UserError(empty_figure_message(trials.frame, " and ".join(keys)))
    chosen = load_axis_levels(folders, rows)
    rows = rows.loc[chosen.index]
    names = ["label", "study", "folder", "digest", "on_front"]
    names += ["excluded"] * bool(rows["excluded"].any())
    limited = [key for key in ("within_limits",) if key in rows]
    named = rows.assign(label=network_labels(rows))[[*names, *limited]]
    hidden = [key for key in _objectives(trials) if key not in keys]
    table = named.join(chosen).join(rows[[*keys, *hidden]])
    table = table.sort_values("on_front", ascending=False, kind="stable").reset_index(drop=True)
    axes = [*chosen.columns]
    lines = _chosen_lines(table)
    bounds = {q.key: near_bounds(trials.limits, q.key, lines[q.key].to_numpy(float))
              for q in quantities}  # fmt: skip
    marks = limit_marks_sentence(
        rows[rows["excluded"]], lines=any(bounds.values()), mark="Dotted lines"
    )
    shown = table[table["on_front"]].drop(columns=names[1:])
    heads = {"label": "", "within_limits": "Within limits"}
    texts = {q.key: [q.text(value) for value in shown[q.key]] for q in quantities}
    return FigureSpec(
        table=table,
        readable=shown.assign(**texts).rename(columns=heads),
        caption=_caption(table, len(lines), axes, quantities, hidden).plus(
            marks, undecided_note(shown)
        ),
        plot_data=lines.drop(columns=["study", "folder", "digest"]),
        draw=partial(_draw, lines, axes, quantities, bounds),
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
) -> Caption:
    names = join_words([name_in_sentence(quantity.key) for quantity in quantities])
    others = join_words([*map(name_in_sentence, hidden)]) if hidden else ""
    also = f", decided also by {others}, not drawn" if hidden else ""
    part = f"{drawn:,} of them are drawn." if drawn < len(table) else ""
    return Caption(
        [
            f"Levels on {pluralize(len(axes), 'axis', 'axes')}, and {names}, of "
            f"{pluralize(len(table), 'architecture')}, one line each; colored: front "
            f"({int(table['on_front'].sum())}{also}). Better values are on the right.",
            levels_note(level for axis in axes for level in table[axis].unique()),
        ],
        [part, "Lines are spread slightly within a level."],
    )


def _draw(
    lines: pd.DataFrame,
    axes: list[str],
    quantities: Sequence[Quantity],
    bounds: Mapping[str, Sequence[float]],
    style: Style,
) -> AnyFigure:
    count = len(axes) + len(quantities)
    figure, panel = style.new_axes(_AROUND + _ROW * count)
    places = [_level_places(lines[name]) for name in axes]
    shown = {q.key: pd.Series([*lines[q.key], *bounds[q.key]], dtype=float) for q in quantities}
    values = [_value_places(shown[q.key], q) for q in quantities]
    across = np.column_stack([*places, *(places_of[: len(lines)] for places_of in values)])
    members = lines["on_front"].to_numpy(bool)
    excluded = lines.get("excluded", ~lines["on_front"] & False).to_numpy(bool)
    gray: dict[str, Any] = {"color": MUTED_COLOR, "linewidth": 0.5, "alpha": 0.6, "zorder": 2}
    blue: dict[str, Any] = {"color": SERIES_COLORS[0], "linewidth": 1.1, "zorder": 3}
    looks = ((excluded, gray | {"linestyle": ":"}), (~members & ~excluded, gray), (members, blue))
    for mask, look in looks:
        for line in across[mask]:
            panel.plot(*_between_bands(line), **look)
    for row in range(count):
        panel.axhspan(row - _BAND, row + _BAND, color=_BAND_COLOR, linewidth=0, zorder=1)
    for row, places_of in enumerate(values, start=len(axes)):
        panel.vlines(places_of[len(lines) :], row - _BAND, row + _BAND, DARK_COLOR, linewidth=1.0,
                     linestyle="--", zorder=4)  # fmt: skip
    panel.set(xlim=(0, 1), ylim=(count - 1 + _BAND, -_BAND), xticks=[])
    factors = {q.key: q.scaled_label(float(lines[q.key].abs().max())) for q in quantities}
    titles = [*map(axis_name, axes), *(label for label, _ in factors.values())]
    panel.set_yticks(range(count), [_wrapped(title, _MAX_TITLE) for title in titles])
    panel.tick_params(axis="y", length=0)
    panel.spines[:].set_visible(False)
    parent_figure(panel).draw_without_rendering()  # the layout determines the width of the panel
    for row, name in enumerate(axes):
        _write_levels(panel, row, sort_levels(lines[name]), style)
    for row, quantity in enumerate(quantities, start=len(axes)):
        _write_ends(panel, row, shown[quantity.key] / factors[quantity.key][1], quantity, style)
    return figure


def _between_bands(places: Floats) -> tuple[Floats, Floats]:
    """Return the line of an architecture, which is interrupted where the bands have their texts."""
    rows = np.arange(len(places))
    pairs = np.column_stack([places[:-1], places[1:], np.full(len(places) - 1, np.nan)])
    heights = np.column_stack([rows[:-1] + _BAND, rows[1:] - _BAND, rows[1:]])
    return pairs.ravel(), heights.ravel()


def _level_places(axis: "pd.Series[str]") -> Floats:
    """Return positions of levels between 0 and 1, with lines of one level slightly apart."""
    levels = sort_levels(axis)
    at = axis.map({level: i for i, level in enumerate(levels)}).to_numpy(float)
    share = np.linspace(-1, 1, len(axis)) if len(axis) > 1 else np.zeros(1)
    # a fixed order that is unrelated to the order of rows
    apart = share[np.random.default_rng(len(levels)).permutation(len(axis))]
    return (at + 0.5 + _SPREAD * apart) / len(levels)


def _value_places(values: "pd.Series[float]", quantity: Quantity) -> Floats:
    """Return values scaled from worst to best, inside the ends; 0.5 if all are equal."""
    numbers = values.to_numpy(float)
    low, high = numbers.min(), numbers.max()
    if low == high:
        return np.full(len(numbers), 0.5)
    share: Floats = (numbers - low) / (high - low)
    return _INSET + (1 - 2 * _INSET) * (share if quantity.better == "max" else 1 - share)


def _write_levels(panel: Axes, row: int, levels: list[str], style: Style) -> None:
    """Write the names of levels into the band of their axis, on two lines or shortened."""
    inches = panel.get_window_extent().width / parent_figure(panel).dpi / len(levels)
    room = max(4, int(characters_that_fit(inches, style.small_font_size, _CHARACTER_ASPECT)) - 1)
    for i, level in enumerate(distinct_labels([*map(level_name, levels)], 2 * room - 1)):
        panel.text(
            (i + 0.5) / len(levels), row, _wrapped(level, room), fontsize=style.small_font_size,
            color=DARK_COLOR, ha="center", va="center", linespacing=1.0, zorder=5,
        )  # fmt: skip


def _wrapped(text: str, width: int) -> str:
    """Return a text on up to two lines, each shortened to `width` characters."""
    if len(text) <= width:
        return text
    lines = textwrap.wrap(text, width, max_lines=2, placeholder="…")
    return "\n".join(elide(line, width) for line in lines) if lines else elide(text, width)


def _write_ends(
    panel: Axes, row: int, values: "pd.Series[float]", quantity: Quantity, style: Style
) -> None:
    """Write the worst value on the left of a band and the best on its right."""
    ends = sorted((float(values.min()), float(values.max())), reverse=quantity.better == "min")
    for at, value, side in ((0.01, ends[0], "left"), (0.99, ends[1], "right")):
        panel.text(
            at, row, format_significant(value, 3), fontsize=style.small_font_size,
            color=DARK_COLOR, ha=side, va="center", zorder=5,
        )  # fmt: skip
