"""Figure of learning curves: a quantity over epochs, with chosen trials highlighted."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from partialnas.analysis.figures.base import (
    LINE_COLORS,
    FigureRequest,
    FigureSpec,
    load_requested_trials,
    network_labels,
    requested_metric,
)
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import compute_sentence, pluralize
from partialnas.analysis.frames.columns import calls_function
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.table import pareto_table
from partialnas.analysis.plotting.artists import AnyFigure
from partialnas.analysis.plotting.axes import configure_axis
from partialnas.analysis.plotting.labels import distinct_labels, label_line_ends
from partialnas.analysis.plotting.legends import draw_legend
from partialnas.analysis.plotting.limit_lines import (
    draw_limit_lines,
    limit_marks_sentence,
    near_bounds,
)
from partialnas.analysis.plotting.names import network_name
from partialnas.analysis.plotting.style import MUTED_COLOR, Style
from partialnas.runs.config.quantities import Quantity
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import UserError

_MAX_OTHERS = 200
_MAX_HIGHLIGHTED = 6
_AXES_SHARE = 0.75  # of the figure's height
_KEYS = ("val_nll", "val_accuracy", "train_nll")


def learning_curves_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of one quantity after every epoch; failed trials end early."""
    requested = load_requested_trials(folders, request)
    frame = requested.frame
    quantities = _quantities(requested, request)
    named = _highlighted_trials(requested, request)
    others = frame[~frame["key"].isin(named["key"])]
    others = others.iloc[:: 1 + len(others) // _MAX_OTHERS]
    labels = network_labels(frame)
    for quantity in quantities:
        parts = [
            _curves(trials.assign(label=labels[trials.index]), quantity.key, highlighted)
            for trials, highlighted in ((named, True), (others, False))
        ]
        # an empty part would change the types of the columns
        table = pd.concat([part for part in parts if len(part)] or parts)
        if len(table):
            break
    else:
        raise UserError(f"nothing to draw: no trial has a curve of {quantities[0].key}")
    bounds = near_bounds(requested.limits, quantity.key, table["value"].to_numpy(float))
    marks = limit_marks_sentence(frame[:0], lines=bool(bounds))
    ends = table[table["highlighted"]].groupby("key", sort=False).tail(1)
    ends = ends if len(ends) else table.groupby("key", sort=False).tail(1).head(_MAX_HIGHLIGHTED)
    readable = pd.DataFrame(
        {
            "": ends["label"], "Seed": ends["seed"].astype(str),
            "Epochs": ends["epoch"].astype(str),
            quantity.label: [quantity.text(value) for value in ends["value"]],
        }
    )  # fmt: skip
    return FigureSpec(
        table=table,
        readable=readable,
        caption=_caption(frame, table, quantity).plus(marks),
        plot_data=table[["label", "seed", "epoch", "value", "highlighted"]],
        draw=partial(_draw, table, quantity, bounds),
    )


def _quantities(trials: Trials, request: FigureRequest) -> list[Quantity]:
    """Return the quantities to show, the first that has curves; user functions report any."""
    quantity = requested_metric(trials, request)
    recorded = quantity.key in _KEYS or calls_function(trials.frame)
    if request.metric and not recorded:
        raise UserError(
            f"{quantity.key}: no learning curves; they are recorded for {', '.join(_KEYS)}"
        )
    default = [] if request.metric else [trials.quantity("val_nll")]
    return [quantity, *default] if recorded else default


def _highlighted_trials(trials: Trials, request: FigureRequest) -> pd.DataFrame:
    """Return the highlighted trials: the requested ones, or up to six members of the fronts."""
    frame = trials.frame
    if request.trials:
        return request.requested_rows(frame)
    try:
        points = pareto_table(trials)
    except UserError:
        return frame[:0]
    members = points[points["on_front"]].head(_MAX_HIGHLIGHTED)
    pairs = pd.MultiIndex.from_frame(members[["folder", "digest"]])
    return frame[pd.MultiIndex.from_frame(frame[["folder", "digest"]]).isin(pairs)]


def _curves(trials: pd.DataFrame, key: str, highlighted: bool) -> pd.DataFrame:
    rows = []
    for folder, rows_of_folder in trials.groupby("folder", sort=False):
        with Ledger.open(Path(str(folder))) as ledger:
            for trial in rows_of_folder.itertuples():
                facts = (trial.study, folder, trial.trial, trial.key, trial.label, trial.seed)
                rows += [
                    (*facts, int(point["epoch"]), point[key], highlighted)
                    for point in ledger.curve(str(trial.key))
                    if key in point
                ]
    heads = ["study", "folder", "trial", "key", "label", "seed", "epoch", "value", "highlighted"]
    return pd.DataFrame(rows, columns=heads)


def _caption(frame: pd.DataFrame, table: pd.DataFrame, quantity: Quantity) -> Caption:
    number = table["key"].nunique()
    part = f" of {len(frame):,}" if number < len(frame) else ""
    named = table.loc[table["highlighted"]].drop_duplicates("key")
    seeds = named.duplicated(["folder", "label"]).any()
    shared = "; seeds of one architecture share a color" if seeds else ""
    others = "; gray: the others" if len(named) < number else ""
    highlighted = f", {len(named)} highlighted{shared}{others}" if len(named) else ""
    return Caption(
        [f"{quantity.label} after each epoch: {pluralize(number, 'trial')}{part}{highlighted}."],
        [compute_sentence(frame)],
    )


def _draw(
    table: pd.DataFrame, quantity: Quantity, bounds: Sequence[float], style: Style
) -> AnyFigure:
    from matplotlib.ticker import MaxNLocator

    figure, axes = style.new_axes()
    factor = configure_axis(axes, "y", quantity, np.array([*table["value"], *bounds], dtype=float))
    groups = [*table[table["highlighted"]].groupby(["folder", "label"], sort=False)]
    others = table[~table["highlighted"]]
    for _, curve in others.groupby("key", sort=False):
        axes.plot(
            curve["epoch"], curve["value"] / factor, color=MUTED_COLOR, linewidth=0.5, alpha=0.5,
            marker="." if len(curve) == 1 else None, markersize=2,
        )  # fmt: skip
    labels = distinct_labels([network_name(str(label)) for (_, label), _ in groups])
    ends: list[tuple[float, str, str]] = []
    for place, (label, (_, rows)) in enumerate(zip(labels, groups, strict=True)):
        color = LINE_COLORS[place % len(LINE_COLORS)]
        for _, curve in rows.groupby("key", sort=False):
            axes.plot(curve["epoch"], curve["value"] / factor, color=color, linewidth=1.1,
                      marker="o", markersize=2)  # fmt: skip
        last = rows.groupby("key", sort=False)["value"].last()
        ends.append((float(last.mean()) / factor, label, color))
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(visible=True)
    draw_limit_lines(axes, y=[bound / factor for bound in bounds])
    label_line_ends(axes, ends, style, height=_AXES_SHARE * style.height)
    if bounds:
        draw_legend(figure, axes, style)
    return figure
