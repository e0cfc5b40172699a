"""Axes, ticks and label placement of the report's figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.plotting.axes import (
    ARROWS,
    axis_extent,
    axis_limits,
    spans_a_decade,
    tick_texts,
)
from partialnas.runs.config.quantities import Quantity

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_BETTER_PADDING = 0.10


class Tick(NamedTuple):
    """A tick of an axis: its pixel and its text."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One axis of a figure.

    Attributes:
        label: label with the unit and an arrow towards better values.
        low: value at the first pixel.
        high: value at the last pixel.
        start: first pixel.
        end: last pixel.
        factor: divisor of the values in tick labels.
        log: whether the axis is logarithmic.
    """

    label: str
    low: float
    high: float
    start: float
    end: float
    factor: float = 1.0
    log: bool = False

    def to_pixels(self, values: ArrayLike) -> Floats:
        """Return the pixels of values, to a tenth; values off the axis are clipped to its ends."""
        numbers = np.asarray(values, dtype=float)
        ends = np.array([self.low, self.high])
        if self.log:
            with np.errstate(invalid="ignore", divide="ignore"):
                numbers, ends = np.log10(np.maximum(numbers, self.low)), np.log10(ends)
        share = np.clip((numbers - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)
        pixels: Floats = np.round(self.start + share * (self.end - self.start), 1)
        return pixels

    def ticks(self, max_ticks: int) -> list[Tick]:
        """Return about `max_ticks` ticks at most, at round values."""
        low, high = self.low / self.factor, self.high / self.factor
        values = _log_ticks(low, high, max_ticks) if self.log else _even_ticks(low, high, max_ticks)
        pixels = self.to_pixels([value * self.factor for value in values])
        texts = tick_texts(values, log=self.log)
        return [Tick(float(p), text) for p, text in zip(pixels, texts, strict=True)]


def quantity_scale(quantity: Quantity, values: Floats, start: float, end: float) -> Scale:
    """Return an axis that holds all finite values of a quantity, with padding."""
    finite = values[np.isfinite(values)]
    label, factor = quantity.scaled_label(float(np.abs(finite).max()))
    log = quantity.logarithmic and spans_a_decade(finite)
    low, high = axis_limits(finite, quantity, better=_BETTER_PADDING, log=log)
    label = f"{label} {ARROWS[quantity.better]}"
    return Scale(label=label, low=low, high=high, start=start, end=end, factor=factor, log=log)


def linear_scale(label: str, values: Floats, start: float, end: float) -> Scale:
    """Return a linear axis that holds all finite values."""
    finite = values[np.isfinite(values)]
    ends = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    extent = axis_extent(*ends)
    padding = 0.06 * extent if extent == ends[1] - ends[0] else extent
    return Scale(label=label, low=ends[0] - padding, high=ends[1] + padding, start=start, end=end)


def _even_ticks(low: float, high: float, max_ticks: int) -> list[float]:
    """Return multiples of a round step."""
    rough = (high - low) / max(1, max_ticks - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in _STEPS if s * power >= rough * (1 - 1e-9))
    values = _multiples(low, high, step)
    return values if len(values) > 1 else _multiples(low, high, step / 2)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _log_ticks(low: float, high: float, max_ticks: int) -> list[float]:
    """Return one, two and five times powers of ten, or fewer of them if they do not fit."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [s * 10.0**p for p in powers for s in steps]
        inside = [float(f"{value:.12g}") for value in values if low <= value <= high]
        if len(inside) <= max_ticks:
            return inside if len(inside) > 1 else _even_ticks(low, high, max_ticks)
    return inside[:: 1 + len(inside) // max_ticks]


_HEIGHT = 12.0
_RADIUS = 5.0
_DISTANCES = (8.0, 14.0, 22.0)

MAX_LABELS = 12
"""Largest number of labels in a figure."""


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Return whether two boxes share more than an edge."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def contains(self, other: "Box") -> bool:
        """Return whether another box lies inside."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


class Label(NamedTuple):
    """A text, anchored at the start, middle or end of its baseline."""

    x: float
    y: float
    anchor: str
    text: str


def place_labels(
    spots: Floats,
    texts: Sequence[str],
    occupied: Floats,
    area: Box,
    better: tuple[int, int],
    letter: float,
) -> list[Label]:
    """Return labels of points, in order of priority; labels without room are left out.

    Args:
        spots: points (x, y) to label.
        texts: texts of the labels.
        occupied: points (x, y) that labels must not cover.
        area: box that labels must stay in.
        better: direction (-1 or 1 in x and y) of better values, where no points are.
        letter: width of a character in pixels.
    """
    taken = [Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in occupied.tolist()]
    labels: list[Label] = []
    for (x, y), text in zip(spots.tolist(), texts, strict=True):
        if len(labels) == MAX_LABELS:
            break
        for label, box in _candidates(x, y, text, better, letter):
            if area.contains(box) and not any(box.overlaps(other) for other in taken):
                labels.append(label)
                taken.append(box)
                break
    return labels


def _candidates(
    x: float, y: float, text: str, better: tuple[int, int], letter: float
) -> list[tuple[Label, Box]]:
    """Return positions of a label: towards better values first, then around, then farther."""
    width, (right, down) = letter * len(text), better
    directions = [(right, down), (0, down), (right, 0), (-right, down), (right, -down), (0, -down)]
    candidates = []
    for distance in _DISTANCES:
        for across, along in directions:
            far = distance * (0.75 if across and along else 1.0)
            at, base = x + across * far, y + along * far
            left = at if across > 0 else at - width if across < 0 else at - width / 2
            top = base if along > 0 else base - _HEIGHT if along < 0 else base - _HEIGHT / 2
            anchor = {1: "start", 0: "middle", -1: "end"}[across]
            label = Label(round(at, 1), round(top + _HEIGHT - 3, 1), anchor, text)
            candidates.append((label, Box(left, top, left + width, top + _HEIGHT)))
    return candidates
