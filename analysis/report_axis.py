"""Axes of the report's figures: where values stand, and ticks that a reader can use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from partialnas.analysis.axes import Floats
from partialnas.analysis.quantities import Quantity

_DECADE = 10.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_WORSE, _BETTER = 0.05, 0.10
_ARROW = {"min": "↓", "max": "↑"}


class Tick(NamedTuple):
    """A mark on an axis: where, and what stands beside it."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One axis of a figure.

    Attributes:
        label: what stands on it, with unit and an arrow towards the better side.
        low: the value at its first pixel.
        high: the value at its last.
        start: the first pixel.
        end: the last.
        factor: what values are divided by before ticks tell them.
        log: whether it is logarithmic.
    """

    label: str
    low: float
    high: float
    start: float
    end: float
    factor: float = 1.0
    log: bool = False

    def at(self, values: Floats | Sequence[float]) -> Floats:
        """The pixels of values, to a tenth; those off the axis at its nearer end."""
        numbers = np.asarray(values, dtype=float)
        ends = np.array([self.low, self.high])
        if self.log:
            with np.errstate(invalid="ignore", divide="ignore"):
                numbers, ends = np.log10(np.maximum(numbers, self.low)), np.log10(ends)
        share = np.clip((numbers - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)
        pixels: Floats = np.round(self.start + share * (self.end - self.start), 1)
        return pixels

    def ticks(self, most: int) -> list[Tick]:
        """At most about so many ticks, at round values."""
        low, high = self.low / self.factor, self.high / self.factor
        values = _decades(low, high, most) if self.log else _even(low, high, most)
        pixels = self.at([value * self.factor for value in values])
        return [Tick(float(p), f"{v:,.6g}") for p, v in zip(pixels, values, strict=True)]


def scale_of(quantity: Quantity, values: Floats, start: float, end: float) -> Scale:
    """The axis of a quantity on which all finite values stand well inside."""
    finite = values[np.isfinite(values)]
    label, factor = quantity.scaled(float(np.abs(finite).max()))
    log = bool(quantity.logarithmic and finite.min() > 0 and finite.max() > _DECADE * finite.min())
    low, high = _room(finite, quantity.better == "min", log=log)
    text = f"{label} {_ARROW[quantity.better]}"
    return Scale(label=text, low=low, high=high, start=start, end=end, factor=factor, log=log)


def plain_scale(label: str, values: Floats, start: float, end: float) -> Scale:
    """A linear axis on which all finite values stand inside."""
    finite = values[np.isfinite(values)]
    ends = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    room = 0.06 * (ends[1] - ends[0]) or 0.5 * abs(ends[1]) or 1.0
    return Scale(label=label, low=ends[0] - room, high=ends[1] + room, start=start, end=end)


def _room(finite: Floats, better_is_low: bool, *, log: bool) -> tuple[float, float]:
    """The ends of an axis: some room on the worse side, more for labels on the better one."""
    ends = np.array([finite.min(), finite.max()])
    ends = np.log10(ends) if log else ends
    room = (ends[1] - ends[0]) or 0.5 * abs(ends[1]) or 1.0
    low, high = (_BETTER, _WORSE) if better_is_low else (_WORSE, _BETTER)
    ends = ends + room * np.array([-low, high])
    ends = 10.0**ends if log else ends
    return float(ends[0]), float(ends[1])


def _even(low: float, high: float, most: int) -> list[float]:
    """Multiples of a round step between the ends."""
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in _STEPS if s * power >= rough * (1 - 1e-9))
    values = _multiples(low, high, step)
    return values if len(values) > 1 else _multiples(low, high, step / 2)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    """One, two and five times powers of ten, as far as they fit; else fewer of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [s * 10.0**p for p in powers for s in steps]
        inside = [float(f"{value:.12g}") for value in values if low <= value <= high]
        if len(inside) <= most:
            return inside if len(inside) > 1 else _even(low, high, most)
    return inside[:: 1 + len(inside) // most]
