"""Figure of the cost of each block of a network: stacked bars of MACs and parameters."""

from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path

import pandas as pd

from partialnas.analysis.figures.base import (
    FigureRequest,
    FigureSpec,
    load_requested_trials,
    network_labels,
)
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import pluralize
from partialnas.analysis.frames.seed_means import aggregate
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.table import pareto_table
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.axes import set_ticks
from partialnas.analysis.plotting.labels import distinct_labels
from partialnas.analysis.plotting.legends import draw_legend
from partialnas.analysis.plotting.limit_lines import (
    EXCLUDED_MARKER,
    excluded_mask,
    limit_marks_sentence,
)
from partialnas.analysis.plotting.names import network_name
from partialnas.analysis.plotting.style import (
    DARK_COLOR,
    MUTED_COLOR,
    SERIES_COLORS,
    Style,
    characters_that_fit,
)
from partialnas.runs.config.quantities import QUANTITIES
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.frozen_model import final_subject
from partialnas.runs.records.subject import parse_subject
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError

_MAX_NETWORKS = 8
_ROW, _AROUND = 0.26, 0.95
_NAME_SHARE = 0.32
"""Largest share of the width for names of networks."""

_COLORS = {
    "stem": MUTED_COLOR,
    "stage 1": SERIES_COLORS[5],
    "stage 2": SERIES_COLORS[0],
    "stage 3": SERIES_COLORS[2],
    "stage 4": SERIES_COLORS[1],
    "merges": "#555555",
    "head": SERIES_COLORS[4],
}
"""Color of each part of a network, in the order of parts."""


def cost_figure_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of the blocks' costs by closed formula; by default for the front.

    A trial with learned ratios counts as the static network that it froze to. Models of timm are
    left out: the costs of their blocks are unknown.
    """
    trials = load_requested_trials(folders, request)
    chosen = _shown_trials(trials, request)
    if chosen.empty:
        raise UserError("nothing to draw: the front is empty; choose trials by their numbers")
    chosen = chosen.assign(label=network_labels(chosen))
    crossed = _excluded(trials, chosen)
    studies = chosen.groupby("folder", sort=False)
    table = pd.concat([_block_costs(Path(str(folder)), rows) for folder, rows in studies])
    if table.empty:
        raise UserError("nothing to draw: the costs of blocks are unknown for models of timm")
    table = table.reset_index(drop=True)
    parts = table.groupby(["label", "part"], sort=False)[["macs", "params"]].sum().reset_index()
    return FigureSpec(
        table=table,
        readable=_readable(parts),
        caption=_caption(table).plus(limit_marks_sentence(crossed, lines=False)),
        plot_data=table[["label", "block", "macs", "params"]],
        draw=partial(_draw, table, {*crossed["label"]}),
    )


def _shown_trials(trials: Trials, request: FigureRequest) -> pd.DataFrame:
    """Return one trial of each network that the figure shows."""
    frame = trials.frame
    first = frame.drop_duplicates(["folder", "digest"])
    if request.trials:
        return request.requested_rows(frame).drop_duplicates(["folder", "digest"])
    try:
        points = pareto_table(trials)
    except UserError:  # no front: show the first networks
        return first.head(_MAX_NETWORKS)
    wanted = points[points["on_front"] | points["family"].ne("")].head(_MAX_NETWORKS)
    places = wanted.set_index(["folder", "trial"]).index
    return frame.set_index(["folder", "trial"], drop=False).loc[places].reset_index(drop=True)


def _excluded(trials: Trials, chosen: pd.DataFrame) -> pd.DataFrame:
    """Return the shown networks that do not compete for the front (see `excluded_mask`)."""
    try:
        rows = aggregate(trials)
    except UserError:  # the study has no objectives, or no result yet
        return chosen[:0]
    rows = rows[excluded_mask(rows)]
    labeled = chosen.drop_duplicates(["folder", "digest"])[["folder", "digest", "label"]]
    return rows.merge(labeled, on=["folder", "digest"])


def _block_costs(folder: Path, trials: pd.DataFrame) -> pd.DataFrame:
    shown = zip(*(trials[key] for key in ("trial", "condition", "study", "label")), strict=True)
    rows = []
    with Ledger.open(folder) as ledger:
        tasks = ledger.study.tasks
        proposals = {row.number: row for row in ledger.proposals()}
        for number, condition, study, label in shown:
            row = ledger.trial(int(number))
            subject = parse_subject(proposals[row.proposal].subject)
            network = final_subject(subject, ledger.last_ratios(row.key))
            if isinstance(network, Architecture):
                task = tasks[str(condition)]
                counted = compute_cost(network, task.input_spec)
                rows += [
                    (study, str(folder), row.number, label, block.name, _part(block.name),
                     block.params, block.macs, block.macs_core, block.activations)
                    for block in counted.rows
                ]  # fmt: skip
    heads = ("study", "folder", "trial", "label", "block", "part")
    return pd.DataFrame(rows, columns=[*heads, "params", "macs", "macs_core", "activations"])


def _part(block: str) -> str:
    """Return the part of the network that a block belongs to."""
    return "merges" if block.startswith("merge") else block.partition(",")[0]


def _readable(parts: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for label, rows_of_label in parts.groupby("label", sort=False):
        costs = rows_of_label.set_index("part")
        whole = costs["macs"].sum()
        shares = [f"{100 * costs['macs'].get(part, 0) / whole:.0f} %" for part in _COLORS]
        sums = [QUANTITIES[key].text(float(costs[key].sum())) for key in ("macs", "params")]
        rows.append([label, *sums, *shares])
    heads = ["", QUANTITIES["macs"].label, "Parameters", *(f"{part}, of MACs" for part in _COLORS)]
    return pd.DataFrame(rows, columns=heads)


def _caption(table: pd.DataFrame) -> Caption:
    networks = pluralize(table["label"].nunique(), "network")
    parts = [part for part in _COLORS if table["part"].eq(part).any()]
    merges = "all merges between stages together, " if "merges" in parts else ""
    return Caption(
        [f"MACs (for one image) and parameters of {networks}, block by block: white lines separate "
         f"the blocks of a stage; {merges}by closed formula."],
        ["MACs in fvcore's convention. Training form in evaluation mode."],
    )  # fmt: skip


def _draw(table: pd.DataFrame, crossed: Set[str], style: Style) -> AnyFigure:
    names = [*table["label"].unique()]
    height = _AROUND + _ROW * max(len(names), 2)
    figure, grid = style.new_panels(height, columns=2, sharey=True)
    panels = grid[0]
    for axes, key in zip(panels, ("macs", "params"), strict=True):
        label, factor = QUANTITIES[key].scaled_label(float(table.groupby("label")[key].sum().max()))
        for row, name in enumerate(names):
            width = _draw_bar(axes, row, table[table["label"].eq(name)], key, factor)
            if name in crossed:
                look = {"s": 12, "color": DARK_COLOR, "linewidths": 0, "zorder": 3}
                axes.scatter(width, row, marker=EXCLUDED_MARKER, **look)
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        set_ticks(axes.xaxis, max_ticks=4)
        axes.grid(visible=True, axis="x")
    longest = int(characters_that_fit(_NAME_SHARE * style.width, style.small_font_size))
    labels = distinct_labels([*map(network_name, names)], longest)
    panels[0].set_yticks(range(len(names)), labels)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    for part in _COLORS:
        if table["part"].eq(part).any():
            panels[0].barh(0, 0, color=_COLORS[part], label=part)
    draw_legend(figure, panels[0], style)
    return figure


def _draw_bar(axes: Axes, row: int, blocks: pd.DataFrame, key: str, factor: float) -> float:
    """Draw one network's bar: its blocks in order, all merges together; return its length."""
    order = blocks["part"].map({part: place for place, part in enumerate(_COLORS)})
    blocks = blocks.iloc[order.argsort(kind="stable")]
    widths = blocks[key].to_numpy(float) / factor
    colors = [_COLORS[part] for part in blocks["part"]]
    axes.barh(
        [row] * len(widths), widths, left=widths.cumsum() - widths, height=0.62, color=colors,
        edgecolor="white", linewidth=0.3, zorder=2,
    )  # fmt: skip
    return float(widths.sum())
