"""Figure of learning curves: a quantity over epochs, with chosen trials highlighted."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from partialnas.analysis.figures.base import (
    LINE_COLORS,
    FigureRequest,
    FigureSpec,
    load_requested_trials,
    network_labels,
    requested_metric,
)
from partialnas.analysis.formats.caption_sentences import compute_sentence, pluralize
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.table import pareto_table
from partialnas.analysis.plotting.artists import Figure
from partialnas.analysis.plotting.axes import configure_axis
from partialnas.analysis.plotting.labels import distinct_labels, draw_legend
from partialnas.analysis.plotting.style import MUTED_COLOR, Style
from partialnas.runs.config.quantities import Quantity
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import UserError

_MAX_OTHERS = 200
_MAX_HIGHLIGHTED = 6
_KEYS = ("val_nll", "val_accuracy", "train_nll")


def learning_curves_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of one quantity after every epoch; failed trials end early."""
    requested = load_requested_trials(folders, request)
    frame = requested.frame
    quantity = _quantity(requested, request)
    named = _highlighted_trials(requested, request)
    others = frame[~frame["key"].isin(named["key"])]
    others = others.iloc[:: 1 + len(others) // _MAX_OTHERS]
    labels = network_labels(frame)
    parts = [
        _curves(trials.assign(label=labels[trials.index]), quantity.key, highlighted)
        for trials, highlighted in ((named, True), (others, False))
    ]
    # an empty part would change the types of the columns
    table = pd.concat([part for part in parts if len(part)] or parts)
    if table.empty:
        raise UserError(f"nothing to draw: no trial has a curve of {quantity.key}")
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
        caption=_caption(frame, table, quantity),
        plot_data=table[["label", "seed", "epoch", "value", "highlighted"]],
        draw=partial(_draw, table, quantity),
    )


def _quantity(trials: Trials, request: FigureRequest) -> Quantity:
    quantity = requested_metric(trials, request)
    if quantity.key in _KEYS:
        return quantity
    if request.metric:
        raise UserError(
            f"{quantity.key}: no learning curves; they are recorded for {', '.join(_KEYS)}"
        )
    return trials.quantity("val_nll")


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


def _caption(frame: pd.DataFrame, table: pd.DataFrame, quantity: Quantity) -> str:
    number = table["key"].nunique()
    part = f" of {len(frame):,}" if number < len(frame) else ""
    named = table.loc[table["highlighted"], "key"].nunique()
    return (
        f"{quantity.label} after each epoch: {pluralize(number, 'trial')}{part}, {named} "
        f"highlighted; seeds of one architecture share a color. {compute_sentence(frame)}"
    )


def _draw(table: pd.DataFrame, quantity: Quantity, style: Style) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure = style.new_figure()
    axes = figure.add_subplot()
    factor = configure_axis(axes, "y", quantity, table["value"].to_numpy(float))
    groups = [*table[table["highlighted"]].groupby(["folder", "label"], sort=False)]
    others = table[~table["highlighted"]]
    for _, curve in others.groupby("key", sort=False):
        axes.plot(
            curve["epoch"], curve["value"] / factor, color=MUTED_COLOR, linewidth=0.5, alpha=0.5,
            marker="." if len(curve) == 1 else None, markersize=2,
        )  # fmt: skip
    if len(others):
        label = f"others ({others['key'].nunique()})"
        axes.plot([], [], color=MUTED_COLOR, linewidth=0.8, label=label)
    labels = distinct_labels([str(label) for (_, label), _ in groups])
    for place, (label, (_, rows)) in enumerate(zip(labels, groups, strict=True)):
        color = LINE_COLORS[place % len(LINE_COLORS)]
        for at, (_, curve) in enumerate(rows.groupby("key", sort=False)):
            axes.plot(curve["epoch"], curve["value"] / factor, color=color, linewidth=1.1,
                      marker="o", markersize=2, label=None if at else label)  # fmt: skip
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(visible=True)
    draw_legend(figure, axes, style)
    return figure
