"""Registry of quantities: name, unit, direction and format of each column of numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from partialnas.runs.config.metric_limits import Limit

Direction = Literal["min", "max"]
Source = Literal["trained", "counted", "measured"]

LARGEST_METRIC = 1e100
"""Largest magnitude of a metric: sums, squares and products of a few of them stay finite."""

_SHORTEST, _LONGEST = 1e-12, 1e18
"""Numbers beyond these are written as powers of ten."""

_MAX_DIGITS = 17
"""Significant digits that tell any two numbers apart."""

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY_PREFIXES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity as tables and figures show it.

    Attributes:
        key: name of the column, including the unit if there is one.
        name: label of an axis, without the unit.
        unit: unit or counting convention; empty if there is none.
        better: direction of improvement.
        spec: format specification of a value in a table; empty for four significant digits.
        source: trained (differs between seeds), counted by formula, or measured on a device.
        count: whether it is a large whole number, scaled to k, M or G on an axis.
        logarithmic: whether a logarithmic axis suits it.
        bounds: smallest and largest possible value; intervals of a mean end there.
    """

    key: str
    name: str
    unit: str = ""
    better: Direction
    spec: str = ""
    source: Source = "trained"
    count: bool = False
    logarithmic: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @property
    def label(self) -> str:
        """Name and unit, as in the head of a table."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def text(
        self,
        value: float,
        *,
        noisy: bool = False,
        eager: bool = False,
        limit: Limit | None = None,
    ) -> str:
        """Return a value as text, with the marks of a timing; empty for NaN.

        Args:
            value: the value.
            noisy: whether it comes from a noisy timing, which is marked by `~`.
            eager: whether it comes from an eager network beside captured ones, marked by `§`.
            limit: limit of the value. The text has as many digits as it takes to be on the same
                side of the limit.
        """
        if math.isnan(value):
            return ""
        noise, runtime = "~" * (noisy and self.timed), "§" * (eager and self.timed)
        plain = self.spec and abs(value) < _LONGEST
        text = format_value(value, self.spec) if plain else format_significant(value)
        for digits in range(5, _MAX_DIGITS + 1):
            if limit is None or limit.is_met(float(text.replace(",", ""))) == limit.is_met(value):
                break
            text = format_significant(value, digits)
        return noise + text + runtime

    @property
    def timed(self) -> bool:
        """Whether it is a timing, which may be noisy."""
        return self.source == "measured" and self.unit != "bytes"

    def scaled_label(self, largest: float) -> tuple[str, float]:
        """Return the label of an axis up to `largest`, and the divisor of its values."""
        if not self.count:
            return self.label, 1.0
        prefixes = _BINARY_PREFIXES if self.unit == "bytes" else _PREFIXES
        factor, prefix = next((p for p in prefixes if largest >= p[0]), (1.0, ""))
        if self.unit == "bytes":
            return f"{self.name} ({prefix or self.unit})", factor
        unit = ", ".join(filter(None, (prefix, self.unit)))
        return (f"{self.name} ({unit})" if unit else self.name), factor


def _percent(key: str, name: str) -> Quantity:
    return Quantity(
        key=key, name=name, unit="%", better="max", spec=".2f", logarithmic=False, bounds=(0, 100)
    )


def _nats(key: str, name: str) -> Quantity:
    return Quantity(key=key, name=name, unit="nats", better="min", spec=".4f", bounds=(0, math.inf))


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
        _count("macs", "MACs"),
        _count("macs_core", "MACs of convolutions and products"),
        _count("activations", "Activations"),
        _measured("throughput_img_s", "Throughput", "images/s", "max"),
        _measured("throughput_raw_img_s", "Throughput, as timed", "images/s", "max"),
        _measured("latency_ms", "Latency", "ms", "min"),
        _measured("relative_throughput", "Throughput", "reference = 1", "max"),
        replace(_count("peak_memory_bytes", "Peak memory", "bytes"), source="measured"),
        Quantity(key="seconds", name="Training time", unit="s", better="min"),
    )
}
"""All registered quantities by key."""

DEFINITIONS: dict[str, str] = {
    "val_accuracy": "Share of the validation images whose most likely class is right, after the "
    "last epoch.",
    "test_accuracy": "The same on the test split, which no search and no selection uses.",
    "val_nll": "Mean negative log-likelihood of the right class over the validation images. Short "
    "trainings rank networks more steadily by it than by accuracy.",
    "test_nll": "The same on the test split, which no search and no selection uses.",
    "train_nll": "Mean loss of the last epoch over augmented batches, during training.",
    "params": "Parameters of the network with its head, by closed formula.",
    "macs": "Multiply-accumulates for one image as fvcore counts them, norms and pooling included, "
    "by closed formula.",
    "macs_core": "Multiply-accumulates for one image in convolutions and matrix products only, by "
    "closed formula.",
    "activations": "Elements of the outputs of convolutions and matrix products for one image, by "
    "closed formula.",
    "throughput_img_s": "Images per second: relative throughput times the median of all timings of "
    "the reference, so that drift of the machine cancels.",
    "throughput_raw_img_s": "Images per second as timed, drift of the machine included.",
    "latency_ms": "Time of one forward pass of a batch, on the same scale as `throughput_img_s`.",
    "relative_throughput": "Throughput divided by that of the reference, timed in alternation with "
    "it.",
    "peak_memory_bytes": "Largest memory of a forward pass, weights included; on GPUs only.",
    "seconds": "Wall-clock time of a trial, without measuring.",
}
"""How the registered quantities are determined, for the documentation."""


def format_significant(value: float, digits: int = 4) -> str:
    """Return a number with at least `digits` significant digits.

    Only numbers that no quantity of a network has are written as powers of ten.
    """
    if not math.isfinite(value) or value == 0:
        return format(value, "g")
    if not _SHORTEST < abs(value) < _LONGEST:
        return format(value, f".{digits}g")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_value(value: float, spec: str) -> str:
    """Return a number in a format, with two significant digits where the format shows a zero.

    Numbers below 1e-12 stay zeros: they are rounding errors.

    Args:
        value: a finite number or NaN.
        spec: format specification of a fixed number of decimals, or of significant digits.
    """
    text = format(value, spec)
    if _SHORTEST < abs(value) < 1 and not any(digit in text for digit in "123456789"):
        sign = "+" if value > 0 and "+" in spec else ""
        return sign + format_significant(value, 2)
    return text


def readable_name(key: str) -> str:
    """Return the name of a quantity for texts; a user's metric is named by its key's words."""
    if key in QUANTITIES:
        return QUANTITIES[key].name
    words = key.replace("_", " ").strip() or key
    return words[0].upper() + words[1:]


def name_in_sentence(key: str) -> str:
    """Return the name of a quantity as it stands within a sentence: `validation NLL`, `MACs`."""
    name = readable_name(key)
    return name if name[1:2].isupper() else name[0].lower() + name[1:]


def differs_by_seed(key: str) -> bool:
    """Return whether a quantity is trained, so that it differs between seeds."""
    return key not in QUANTITIES or QUANTITIES[key].source == "trained"


def is_measured(key: str) -> bool:
    """Return whether a quantity is measured on a device."""
    return key in QUANTITIES and QUANTITIES[key].source == "measured"


def direction_error(key: str, direction: str) -> str:
    """Return why a direction is wrong for a registered quantity; empty if it is not.

    Quantities that are not registered, such as the metrics of a user function, have no direction
    of their own: any is accepted.
    """
    if key not in QUANTITIES or QUANTITIES[key].better == direction:
        return ""
    better = QUANTITIES[key].better
    size = "smaller" if better == "min" else "larger"
    return f"expected {better}, got {direction}: a {size} {key} is better"


def is_recordable(metrics: Iterable[float]) -> bool:
    """Return whether all metrics are within `LARGEST_METRIC`; ledgers of older versions may differ.

    Such a result counts as a failure, so that means and spreads are finite.
    """
    return all(abs(value) <= LARGEST_METRIC for value in metrics)
