"""The one registry of known quantities: what a column means, its unit, and which way is better."""

import math
from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["min", "max"]
Source = Literal["trained", "counted", "measured"]

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY_PREFIXES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A column of numbers as tables and figures speak of it.

    Attributes:
        key: the column's name, unit included where it has one.
        name: the words for an axis, without the unit.
        unit: the unit or the counting convention; empty where there is none.
        better: the direction in which it improves.
        spec: how one value is written in a table (a format specification); without one, with
            four significant digits.
        source: trained (differs between seeds), counted by formula, or measured on a device.
        count: large whole numbers, drawn in thousands, millions or billions.
        logarithmic: may stand on a logarithmic axis.
    """

    key: str
    name: str
    unit: str = ""
    better: Direction
    spec: str = ""
    source: Source = "trained"
    count: bool = False
    logarithmic: bool = True

    @property
    def label(self) -> str:
        """The words for a table's head: name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def text(self, value: float, *, noisy: bool = False) -> str:
        """One value as a table writes it, a noisy timing after `~`; nothing where there is none."""
        if math.isnan(value):
            return ""
        mark = "~" if noisy and self.timed else ""
        return mark + (format(value, self.spec) if self.spec else format_significant(value))

    @property
    def timed(self) -> bool:
        """Whether it was read off a clock, and may be noisy."""
        return self.source == "measured" and self.unit != "bytes"

    def scaled_label(self, largest: float) -> tuple[str, float]:
        """The label of an axis up to `largest`, and what values are divided by to stand on it."""
        if not self.count:
            return self.label, 1.0
        prefixes = _BINARY_PREFIXES if self.unit == "bytes" else _PREFIXES
        factor, prefix = next((p for p in prefixes if largest >= p[0]), (1.0, ""))
        if self.unit == "bytes":
            return f"{self.name} ({prefix or self.unit})", factor
        words = ", ".join(filter(None, (prefix, self.unit)))
        return (f"{self.name} ({words})" if words else self.name), factor


def _percent(key: str, name: str) -> Quantity:
    return Quantity(key=key, name=name, unit="%", better="max", spec=".2f", logarithmic=False)


def _nats(key: str, name: str) -> Quantity:
    return Quantity(key=key, name=name, unit="nats", better="min", spec=".4f")


def _count(key: str, name: str, unit: str = "") -> Quantity:
    return Quantity(
        key=key, name=name, unit=unit, better="min", spec=",.0f", source="counted", count=True
    )


def _measured(key: str, name: str, unit: str, better: Direction) -> Quantity:
    return Quantity(key=key, name=name, unit=unit, better=better, source="measured")


QUANTITIES: dict[str, Quantity] = {
    quantity.key: quantity
    for quantity in (
        _percent("val_accuracy", "Validation accuracy"),
        _percent("test_accuracy", "Test accuracy"),
        _nats("val_nll", "Validation NLL"),
        _nats("test_nll", "Test NLL"),
        _nats("train_nll", "Training NLL"),
        _count("params", "Parameters"),
        _count("macs", "Multiply–accumulates", "fvcore"),
        _count("macs_core", "Multiply–accumulates", "convolutions and products"),
        _count("activations", "Activations"),
        _measured("throughput_img_s", "Throughput", "img/s", "max"),
        _measured("throughput_raw_img_s", "Throughput, as timed", "img/s", "max"),
        _measured("latency_ms", "Latency", "ms", "min"),
        _measured("relative_throughput", "Throughput", "reference = 1", "max"),
        replace(_count("peak_memory_bytes", "Peak memory", "bytes"), source="measured"),
        Quantity(key="seconds", name="Training time", unit="s", better="min"),
    )
}
"""Every known quantity by its key."""


def format_significant(value: float, digits: int = 4) -> str:
    """A number with at least `digits` significant digits, never in powers of ten: 1,234 or 0.5."""
    if not math.isfinite(value) or value == 0:
        return format(value, "g")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def differs_by_seed(key: str) -> bool:
    """Whether a quantity comes from training, so that every seed has a value of its own."""
    return key not in QUANTITIES or QUANTITIES[key].source == "trained"
