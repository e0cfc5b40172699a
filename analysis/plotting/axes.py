"""Axes of figures: labels with unit and protocol, limits, and ticks that a reader can use."""

import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
AxisName = Literal["x", "y"]

_PROTOCOL = ("device", "processor", "threads", "batch_size", "resolution", "precision")
_WORSE, _BETTER = 0.05, 0.12
_DECADE = 10.0
_FEW_STEPS = 4.0
_NARROW = 3.0  # inches in which labels of 5,000, 10,000 and 20,000 touch
_ARROW = {"min": "↓", "max": "↑"}


def protocol_label(table: pd.DataFrame, quantity: Quantity) -> str:
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
    texts = [f"{_way(way)}, {form} form{_runtime(rows)}" for way in ways for form in forms]
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


def _runtime(rows: pd.DataFrame) -> str:
    """What executed the networks, where it was not PyTorch's operators."""
    found = rows["runtime"].dropna().unique() if "runtime" in rows else ()
    return "".join(f", {each}" for each in found if each not in ("eager", "cuda_graph"))


def _way(way: dict[Any, Any]) -> str:
    """Device and settings in words."""
    on_cpu = str(way["device"]).lower() == "cpu"
    threads = f"{way['threads']} thread{'s' * (way['threads'] != 1)}"
    words = (
        _processor(way["processor"]) if on_cpu else way["device"],
        threads if on_cpu else "",
        "" if pd.isna(way["batch_size"]) else f"batch {way['batch_size']}",
        f"{way['resolution']} px",
        way["precision"],
    )
    return ", ".join(word for word in words if isinstance(word, str) and word)


def _processor(model: object) -> str:
    """The processor's model without the vendors' ornaments, or CPU where it is not known."""
    ornaments = r"\((R|TM)\)|\b(CPU|Processor)\b|@.*|\d+-Core"
    return " ".join(re.sub(ornaments, "", model).split()) if isinstance(model, str) else "CPU"


def configure_axis(
    axes: "Axes",
    which: AxisName,
    quantity: Quantity,
    values: Floats,
    *,
    log: bool | None = None,
    room: float = _WORSE,
) -> float:
    """Labels, scales and limits one axis so that all `values` stand well inside.

    Args:
        axes: the axes to set.
        which: the axis of them.
        quantity: what stands on it.
        values: everything that will be drawn, ends of error bars included.
        log: whether its scale is logarithmic; without it where the values span a decade.
        room: the share of the axis beyond the worst value.

    Returns:
        What values are divided by before they are drawn.

    Raises:
        UserError: a logarithmic scale is asked for values that are not above zero.
    """
    finite = values[np.isfinite(values)]
    label, factor = quantity.scaled_label(float(np.abs(finite).max()))
    if log is None:
        log = quantity.logarithmic and _spans_a_decade(finite)
    elif log:
        finite = _above_zero(finite, values, quantity)
    settings = {
        "label": f"{label} {_ARROW[quantity.better]}",
        "scale": "log" if log else "linear",
        "lim": _limits(finite / factor, quantity, room, log=log),
    }
    axes.set(**{which + key: value for key, value in settings.items()})
    set_ticks(axes.xaxis if which == "x" else axes.yaxis, log=log)
    return factor


def _above_zero(finite: Floats, values: Floats, quantity: Quantity) -> Floats:
    """What can stand on a logarithmic axis; ends of error bars may lie below it."""
    middles = values[:, 0] if values.ndim > 1 else values
    if (middles[np.isfinite(middles)] <= 0).any():
        raise UserError(
            f"{quantity.key}: has values that are not above zero, which no logarithmic axis shows; "
            "leave it out of --log"
        )
    return finite[finite > 0]


def _spans_a_decade(finite: Floats) -> bool:
    return bool(finite.min() > 0 and finite.max() > _DECADE * finite.min())


def _limits(finite: Floats, quantity: Quantity, worse: float, *, log: bool) -> tuple[float, float]:
    """The ends of an axis: some room on the worse side, more for labels on the better one."""
    ends = np.array([finite.min(), finite.max()])
    ends = np.log10(ends) if log else ends
    room = (ends[1] - ends[0]) or 0.5 * abs(ends[1]) or 1.0
    low, high = (_BETTER, worse) if quantity.better == "min" else (worse, _BETTER)
    ends += room * np.array([-low, high])
    return tuple(10.0**ends if log else ends)


def parent_figure(artist: "Artist") -> "Figure":
    """The whole figure that axes, or what stands in them, belong to."""
    figure = artist.get_figure(root=True)
    assert figure is not None, "what is drawn belongs to a figure"
    return figure


def set_ticks(axis: "Axis", *, log: bool = False, max_ticks: int = 6) -> None:
    """Ticks at round values, written without powers of ten.

    Args:
        axis: with its limits set.
        log: whether its scale is logarithmic.
        max_ticks: about how many ticks a linear axis has.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if log:
        low, high = axis.get_view_interval()
        steps: tuple[float, ...] = (1.0, 2.0, 5.0) if high < _DECADE**2.5 * low else (1.0,)
        if axis is axis.axes.xaxis and parent_figure(axis).get_figwidth() < _NARROW:
            steps = (1.0, 3.0)[: len(steps)]
        few = high < _FEW_STEPS * low  # too narrow for steps of 1, 2, 5
        axis.set_major_locator(
            MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
            if few
            else LogLocator(subs=steps, numticks=12)
        )
        axis.set_minor_locator(LogLocator(subs=range(1, 10), numticks=12))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        return
    axis.set_major_locator(MaxNLocator(nbins=max_ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
