"""Axes of the report's figures: where values stand, and ticks that a reader can use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from partialnas.analysis.plotting.axes import Floats
from partialnas.runs.config.quantities import Quantity

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

    def to_pixels(self, values: Floats | Sequence[float]) -> Floats:
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
        pixels = self.to_pixels([value * self.factor for value in values])
        return [Tick(float(p), f"{v:,.6g}") for p, v in zip(pixels, values, strict=True)]


def quantity_scale(quantity: Quantity, values: Floats, start: float, end: float) -> Scale:
    """The axis of a quantity on which all finite values stand well inside."""
    finite = values[np.isfinite(values)]
    label, factor = quantity.scaled_label(float(np.abs(finite).max()))
    log = bool(quantity.logarithmic and finite.min() > 0 and finite.max() > _DECADE * finite.min())
    low, high = _room(finite, quantity.better == "min", log=log)
    text = f"{label} {_ARROW[quantity.better]}"
    return Scale(label=text, low=low, high=high, start=start, end=end, factor=factor, log=log)


def linear_scale(label: str, values: Floats, start: float, end: float) -> Scale:
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


_HEIGHT = 12.0
_RADIUS = 5.0
_DISTANCES = (8.0, 14.0, 22.0)

MAX_LABELS = 12
"""Labels of one figure."""


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether the two share more than an edge."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: "Box") -> bool:
        """Whether the other lies wholly inside."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


class Label(NamedTuple):
    """A text: where its baseline begins, ends or has its middle (`anchor`)."""

    x: float
    y: float
    anchor: str
    text: str


def place_labels(
    spots: Floats,
    texts: Sequence[str],
    crowd: Floats,
    area: Box,
    better: tuple[int, int],
    letter: float,
) -> list[Label]:
    """Labels for points, the first ones first; a label for which there is no room is left out.

    Args:
        spots: the points (x, y) that are named.
        texts: their names.
        crowd: all points, which no label covers.
        area: that labels stay in.
        better: towards which side (-1, 1) both quantities improve: no point is beyond there.
        letter: how wide a letter is.
    """
    taken = [Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in crowd.tolist()]
    labels: list[Label] = []
    for (x, y), text in zip(spots.tolist(), texts, strict=True):
        if len(labels) == MAX_LABELS:
            break
        for label, box in _candidates(x, y, text, better, letter):
            if area.holds(box) and not any(box.meets(other) for other in taken):
                labels.append(label)
                taken.append(box)
                break
    return labels


def _candidates(
    x: float, y: float, text: str, better: tuple[int, int], letter: float
) -> list[tuple[Label, Box]]:
    """Where a label may stand: towards the better side first, then elsewhere, then farther off."""
    right, down = better
    ways = [(right, down), (0, down), (right, 0), (-right, down), (right, -down), (0, -down)]
    found = []
    for distance in _DISTANCES:
        for across, along in ways:
            far = distance * (0.75 if across and along else 1.0)
            found.append(_label(x + across * far, y + along * far, (across, along), text, letter))
    return found


def _label(x: float, y: float, way: tuple[int, int], text: str, letter: float) -> tuple[Label, Box]:
    across, along = way
    wide = letter * len(text)
    left = x if across > 0 else x - wide if across < 0 else x - wide / 2
    top = y if along > 0 else y - _HEIGHT if along < 0 else y - _HEIGHT / 2
    anchor = {1: "start", 0: "middle", -1: "end"}[across]
    label = Label(round(x, 1), round(top + _HEIGHT - 3, 1), anchor, text)
    return label, Box(left, top, left + wide, top + _HEIGHT)
