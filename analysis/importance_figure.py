"""The figure of the importance of axes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.axes import set_ticks
from partialnas.analysis.caption import count, training
from partialnas.analysis.choices import choices, codes
from partialnas.analysis.importance import REPEATS, TREES, importance
from partialnas.analysis.labels import elide
from partialnas.analysis.quantities import Quantity
from partialnas.analysis.shown import Asked, Shown, architectures, metric_of, trials_of
from partialnas.analysis.style import INK, SERIES, Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW, _AROUND = 0.24, 0.75


def importance_shown(folders: Sequence[Path], asked: Asked) -> Shown:
    """How much each axis matters for one quantity, see `analysis.importance`."""
    frame = trials_of(folders, asked)
    quantity = metric_of(frame, asked)
    rows = architectures(frame, quantity)
    chosen = choices(folders, rows)
    rows = rows.loc[chosen.index]
    table = importance(codes(chosen), rows[quantity.key].to_numpy(float))
    explained = table.attrs["explained"]
    table.insert(1, "levels", [chosen[axis].nunique() for axis in table["axis"]])
    interval = zip(table["low"], table["high"], strict=True)
    readable = pd.DataFrame(
        {
            "Axis": table["axis"],
            "Levels": table["levels"].astype(str),
            "Fall of R²": [f"{value:.3f}" for value in table["importance"]],
            "95 % over repeats": [f"{low:.3f} to {high:.3f}" for low, high in interval],
        }
    )
    return Shown(
        table=table.assign(metric=quantity.key, explained=explained),
        readable=readable,
        caption=_caption(rows, quantity, explained),
        drawn=table,
        draw=partial(_draw, table, quantity),
    )


def _caption(rows: pd.DataFrame, quantity: Quantity, explained: float) -> str:
    doubt = (
        " The forest explains nothing that was held out: the order means nothing."
        if explained <= 0
        else ""
    )
    return (
        f"Importance of the axes for {quantity.label}: {count(len(rows), 'architecture')}, trained "
        f"on {training(rows)}. Permutation importance: a random forest of {TREES} trees learns "
        "four fifths of the architectures; how much less of the variance of the last fifth it "
        f"explains when an axis is shuffled. Bars: 95 % of {REPEATS} repeats with other folds and "
        "forests; the sample of architectures is the same in all, its own chance is not in them. "
        f"Held-out R²: {explained:.2f}.{doubt}"
    )


def _draw(table: pd.DataFrame, quantity: Quantity, style: Style) -> "Figure":
    from matplotlib.figure import Figure

    size = (style.width, _AROUND + _ROW * max(len(table), 3))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(table))
    axes.barh(rows, table["importance"], height=0.6, color=SERIES[0], zorder=2)
    axes.hlines(rows, table["low"], table["high"], INK, linewidth=0.9, zorder=3)
    axes.axvline(0, color=INK, linewidth=0.6, zorder=3)
    axes.set_yticks(rows, [elide(axis) for axis in table["axis"]])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    set_ticks(axes.xaxis, most=5)
    axes.set_xlabel(f"{quantity.name}: fall of held-out R²")
    return figure
