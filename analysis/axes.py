"""Axes of figures: labels with unit and protocol, limits, and ticks that a reader can use."""

import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.quantities import Quantity
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Floats = npt.NDArray[np.float64]
Which = Literal["x", "y"]

_PROTOCOL = ("device", "processor", "threads", "batch_size", "resolution", "precision")
_WORSE, _BETTER = 0.05, 0.12
_DECADE = 10.0
_ARROW = {"min": "↓", "max": "↑"}


def protocol(table: pd.DataFrame, quantity: Quantity) -> str:
    """How a measured quantity was measured, in one line; empty for other quantities.

    Baselines without a deploy form stand beside deployed networks in their training form; the
    line says so.

    Raises:
        UserError: the rows were measured in different ways, so that they cannot share an axis.
    """
    if quantity.source != "measured":
        return ""
    rows = table[table[quantity.key].notna() & table["device"].notna()]
    if rows.empty:
        return "as the study's own trial function tells"
    ways = rows[[*_PROTOCOL]].drop_duplicates().to_dict("records")
    searched = rows[rows["family"].eq("")] if rows["family"].eq("").any() else rows
    forms = searched["form"].unique()
    texts = [f"{_way(way)}, {form} form" for way in ways for form in forms]
    if len(texts) > 1:
        raise UserError(
            f"{quantity.key} was measured in {len(texts)} ways, which no axis can compare: "
            f"{'; '.join(texts[:3])}. Draw these apart, or measure them alike"
        )
    other = rows[rows["form"].ne(forms[0])]
    if other.empty:
        return texts[0]
    who = other["arm"].iloc[0] if len(other) == 1 else f"{len(other)} baselines"
    return f"{texts[0]} ({who}: {other['form'].iloc[0]} form)"


def _way(way: dict[Any, Any]) -> str:
    """Device and settings in words."""
    on_cpu = str(way["device"]).lower() == "cpu"
    threads = f"{way['threads']} thread{'s' * (way['threads'] != 1)}"
    words = (
        _processor(way["processor"]) if on_cpu else way["device"],
        threads if on_cpu else "",
        f"batch {way['batch_size']}",
        f"{way['resolution']} px",
        way["precision"],
    )
    return ", ".join(word for word in words if word)


def _processor(model: object) -> str:
    """The processor's model without the vendors' ornaments, or CPU where it is not known."""
    ornaments = r"\((R|TM)\)|\b(CPU|Processor)\b|@.*|\d+-Core"
    return " ".join(re.sub(ornaments, "", model).split()) if isinstance(model, str) else "CPU"


def prepare(axes: "Axes", which: Which, quantity: Quantity, values: Floats) -> float:
    """Labels, scales and limits one axis so that all `values` stand well inside.

    Args:
        axes: the axes to set.
        which: the axis of them.
        quantity: what stands on it.
        values: everything that will be drawn, ends of error bars included.

    Returns:
        What values are divided by before they are drawn.
    """
    finite = values[np.isfinite(values)]
    label, factor = quantity.scaled(float(np.abs(finite).max()))
    log = quantity.logarithmic and _spans_a_decade(finite)
    settings = {
        "label": f"{label} {_ARROW[quantity.better]}",
        "scale": "log" if log else "linear",
        "lim": _limits(finite / factor, quantity, log=log),
    }
    axes.set(**{which + key: value for key, value in settings.items()})
    _set_ticks(axes.xaxis if which == "x" else axes.yaxis, log=log)
    return factor


def _spans_a_decade(finite: Floats) -> bool:
    return bool(finite.min() > 0 and finite.max() > _DECADE * finite.min())


def _limits(finite: Floats, quantity: Quantity, *, log: bool) -> tuple[float, float]:
    """The ends of an axis: some room on the worse side, more for labels on the better one."""
    ends = np.array([finite.min(), finite.max()])
    ends = np.log10(ends) if log else ends
    room = (ends[1] - ends[0]) or 0.5 * abs(ends[1]) or 1.0
    low, high = (_BETTER, _WORSE) if quantity.better == "min" else (_WORSE, _BETTER)
    ends += room * np.array([-low, high])
    return tuple(10.0**ends if log else ends)


def _set_ticks(axis: "Axis", *, log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if log:
        low, high = axis.get_view_interval()
        steps = (1.0, 2.0, 5.0) if high < _DECADE**2 * low else (1.0,)
        axis.set_major_locator(LogLocator(subs=steps, numticks=12))
        axis.set_minor_locator(LogLocator(subs=range(1, 10), numticks=12))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        return
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
