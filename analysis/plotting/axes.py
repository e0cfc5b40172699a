"""Axes of figures: labels with unit and protocol, limits, and readable ticks."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.timings import eager_rows
from partialnas.analysis.plotting.artists import Artist, Axes, Axis, Figure
from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError

AxisName = Literal["x", "y"]

ARROWS = {"min": "↓", "max": "↑"}
"""Arrow in the direction in which a quantity improves, by that direction."""

NBSP = "\u00a0"
"""Space at which no label is broken, as between a word and its arrow."""

_PROTOCOL = ("device", "processor", "threads", "batch_size", "resolution", "precision")
_RUNTIMES = {"cuda_graph": "CUDA graphs"}
_WORSE_MARGIN, _BETTER_MARGIN = 0.05, 0.12
_DECADE = 10.0
_MIN_LOG_RANGE = 4.0
_SMALLEST = 1e-100  # smaller values are zero on any axis
_SAME = 1e-12  # values whose relative difference is smaller are one value on an axis
_MAX_DECIMALS = 5
_NARROW = 3.0  # inches; labels such as 5,000, 10,000 and 20,000 touch below this width


def protocol_label(table: pd.DataFrame, quantity: Quantity) -> str:
    """Return the measuring protocol of a measured quantity in one line, or "" for other quantities.

    Baselines without a deploy form are compared with deployed networks in their training form; the
    line states this.

    Raises:
        UserError: the rows were measured with different protocols and cannot share an axis.
    """
    if quantity.source != "measured":
        return ""
    rows = table[table[quantity.key].notna() & table["device"].notna()]
    if rows.empty:
        return "reported by the study's own trial function"
    protocols = rows[[*_PROTOCOL]].drop_duplicates().to_dict("records")
    searched = rows[rows["family"].eq("")] if rows["family"].eq("").any() else rows
    forms = searched["form"].unique()
    runtime = _runtimes(rows)
    texts = [f"{_protocol_text(p)}, {form} form{runtime}" for p in protocols for form in forms]
    if len(texts) > 1:
        raise UserError(
            f"{quantity.key} was measured with {len(texts)} protocols, which cannot share an axis: "
            f"{'; '.join(texts[:3])}. Draw them in separate figures, or measure them alike"
        )
    other = rows[rows["form"].ne(forms[0])]
    if other.empty:
        return texts[0]
    names = other["arm"].iloc[0] if len(other) == 1 else f"{len(other)} baselines"
    return f"{texts[0]} ({names}: {other['form'].iloc[0]} form)"


def _runtimes(rows: pd.DataFrame) -> str:
    """Return the runtimes, each after a comma; on a CPU, only those other than eager PyTorch."""
    if "runtime" not in rows:
        return ""
    eager = eager_rows(rows)
    shown = rows[~eager & (rows["runtime"].ne("eager") | rows["device"].ne("cpu"))]
    text = "".join(f", {_RUNTIMES.get(name, name)}" for name in shown["runtime"].dropna().unique())
    if not eager.any():
        return text
    names = network_names(rows[eager]).unique()
    return f"{text} ({names[0] if len(names) == 1 else f'{len(names)} networks'}: eager)"


def _protocol_text(protocol: dict[Any, Any]) -> str:
    """Return the device and the settings in words."""
    on_cpu = str(protocol["device"]).lower() == "cpu"
    threads = f"{protocol['threads']} thread{'s' * (protocol['threads'] != 1)}"
    words = (
        _processor_name(protocol["processor"]) if on_cpu else protocol["device"],
        threads if on_cpu else "",
        "" if pd.isna(protocol["batch_size"]) else f"batch {protocol['batch_size']}",
        f"{protocol['resolution']} px",
        protocol["precision"],
    )
    return ", ".join(word for word in words if isinstance(word, str) and word)


def _processor_name(model: object) -> str:
    """Return the processor's model without trademarks and clock rate, or CPU if unknown."""
    noise = r"\((R|TM)\)|\b(CPU|Processor)\b|@.*|\d+-Core"
    return " ".join(re.sub(noise, "", model).split()) if isinstance(model, str) else "CPU"


def configure_axis(
    axes: Axes,
    which: AxisName,
    quantity: Quantity,
    values: Floats,
    *,
    log: bool | None = None,
    room: float = _WORSE_MARGIN,
) -> float:
    """Set label, scale and limits of one axis so that all `values` are well inside.

    Args:
        axes: axes to configure.
        which: name of the axis.
        quantity: quantity on the axis.
        values: all values to be drawn, ends of error bars included.
        log: whether the scale is logarithmic; by default if the values span a decade.
        room: margin beyond the worst value as a share of the range.

    Returns:
        Factor by which values must be divided before they are drawn.

    Raises:
        UserError: a logarithmic scale is requested for values that are not above zero.
    """
    finite = values[np.isfinite(values)]
    label, factor = quantity.scaled_label(float(np.abs(finite).max()))
    if log is None:
        log = quantity.logarithmic and spans_a_decade(finite)
    elif log:
        finite = _require_positive(finite, values, quantity)
    settings = {
        "label": f"{label} {ARROWS[quantity.better]}",
        "scale": "log" if log else "linear",
        "lim": axis_limits(finite / factor, quantity, room, log=log),
    }
    axes.set(**{which + key: value for key, value in settings.items()})
    set_ticks(axes.xaxis if which == "x" else axes.yaxis, log=log)
    return factor


def _require_positive(finite: Floats, values: Floats, quantity: Quantity) -> Floats:
    """Return the positive values; only the ends of error bars may be zero or less."""
    centers = values[:, 0] if values.ndim > 1 else values
    if (centers[np.isfinite(centers)] <= _SMALLEST).any():
        raise UserError(
            f"{quantity.key}: a logarithmic axis cannot show values of zero or less; make this "
            "axis linear"
        )
    return finite[finite > _SMALLEST]


def spans_a_decade(finite: Floats) -> bool:
    """Return whether all values are positive and the largest is over ten times the smallest."""
    return bool(finite.min() > _SMALLEST and finite.max() > _DECADE * finite.min())


def axis_limits(
    finite: Floats,
    quantity: Quantity,
    worse: float = _WORSE_MARGIN,
    better: float = _BETTER_MARGIN,
    *,
    log: bool,
) -> tuple[float, float]:
    """Return the ends of an axis, with a larger margin for labels on the better side."""
    ends = np.array([finite.min(), finite.max()])
    ends = np.log10(ends) if log else ends
    extent = axis_extent(*ends.tolist())
    margins = (better, worse) if quantity.better == "min" else (worse, better)
    ends += extent * np.array([-margins[0], margins[1]])
    return tuple((10.0**ends if log else ends).tolist())


def axis_extent(low: float, high: float) -> float:
    """Return the range of values on an axis, or a range around them if they are all the same."""
    size = max(abs(low), abs(high))
    if high - low > max(_SAME * size, _SMALLEST):
        return high - low
    return 0.5 * size if size > _SMALLEST else 1.0


def parent_figure(artist: Artist) -> Figure:
    """Return the figure that axes or other artists belong to."""
    figure = artist.get_figure(root=True)
    assert figure is not None, "the artist belongs to no figure"
    return figure


def set_ticks(axis: Axis, *, log: bool = False, max_ticks: int = 6) -> None:
    """Place ticks at round values, labeled without powers of ten.

    Args:
        axis: axis with its limits set.
        log: whether the scale is logarithmic.
        max_ticks: approximate number of ticks of a linear axis.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if log:
        low, high = axis.get_view_interval()
        steps: tuple[float, ...] = (1.0, 2.0, 5.0) if high < _DECADE**2.5 * low else (1.0,)
        if axis is axis.axes.xaxis and parent_figure(axis).get_figwidth() < _NARROW:
            steps = (1.0, 3.0)[: len(steps)]
        axis.set_major_locator(
            MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
            if high < _MIN_LOG_RANGE * low
            else LogLocator(subs=steps, numticks=12)
        )
        axis.set_minor_locator(LogLocator(subs=range(1, 10), numticks=12))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(nbins=max_ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: tick_texts([value], axis.get_majorticklocs(), log=log)[0])
    )


def tick_texts(
    values: Sequence[float], others: Iterable[float] = (), *, log: bool = False
) -> list[str]:
    """Return labels of ticks without powers of ten.

    Args:
        values: values of the ticks.
        others: further ticks of the axis.
        log: whether the scale is logarithmic; on a linear one all labels have the same decimals.
    """
    digits = 0 if log else max(map(_decimals, (*values, *others)), default=0)
    spec = f",.{digits}f" if 0 < digits <= _MAX_DECIMALS else ",.6g"
    return [re.sub("^-", "−", format(value, spec)) for value in values]


def _decimals(value: float) -> int:
    """Return the number of decimals of a round value."""
    text = np.format_float_positional(value, precision=6, fractional=False, trim="-")
    return len(text.partition(".")[2])
