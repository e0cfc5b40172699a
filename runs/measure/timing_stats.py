"""Statistics of repeated timings: median, confidence interval and noise check."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from statistics import median
from typing import NamedTuple

MIN_VALUES = 6
"""Fewest values whose range is a 95 % confidence interval of the median: 1 - 2 / 2**6 > 0.95."""

MAX_CLOCK_GAP = 0.05
"""Largest relative difference of the two clocks; above it, other processes used the device."""

_TAIL = Fraction(1, 40)  # probability on each side of a 95 % interval


class Timing(NamedTuple):
    """Seconds of one forward pass by two clocks.

    Attributes:
        primary: seconds by the deciding clock, which counts only the work of this process.
        secondary: seconds by a second clock, which agrees with the first if the device is not
            shared.
    """

    primary: float
    secondary: float


ONE_SECOND = Timing(1.0, 1.0)
"""Default timing of the reference; speeds are then forward passes per second."""


class Round(NamedTuple):
    """Mean timings of two interleaved networks: reference, candidate, candidate, reference."""

    candidate: Timing
    reference: Timing = ONE_SECOND


class Interval(NamedTuple):
    """A median and its 95 % confidence interval."""

    median: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Length of the longer side as a share of the median."""
        return max(self.median - self.low, self.high - self.median) / self.median


class RoundSummary(NamedTuple):
    """Speed of a candidate over a number of rounds.

    Attributes:
        speed: speed relative to the reference by the primary clock.
        reference_seconds: median seconds of one forward pass of the reference.
        clock_gap: relative difference of the speed by the secondary clock.
        noisy: whether the clocks disagree or the interval is wider than requested.
    """

    speed: Interval
    reference_seconds: float
    clock_gap: float
    noisy: bool


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median and its distribution-free 95 % interval by order statistics.

    With fewer than `MIN_VALUES` values no such interval exists; their range is returned.
    """
    ordered = sorted(values)
    outside = _num_outside(len(ordered))
    return Interval(median(ordered), ordered[outside], ordered[-1 - outside])


@cache
def _num_outside(count: int) -> int:
    """Return how many of `count` sorted values lie outside the interval on each side.

    The number of independent values below the true median is binomial with probability 1/2, so
    the k-th smallest value exceeds the median with the probability of fewer than k. Counted
    exactly; `scipy.stats` has the same, but takes a second to import.
    """
    allowed = _TAIL * 2**count
    combinations, tail, outside = 1, 0, -1
    while tail + combinations <= allowed:
        outside, tail = outside + 1, tail + combinations
        combinations = combinations * (count - outside) // (outside + 1)
    return max(outside, 0)


def relative_speeds(rounds: Iterable[Round]) -> list[float]:
    """Return the relative speed of the candidate in each round by the primary clock."""
    return [round_.reference.primary / round_.candidate.primary for round_ in rounds]


def is_precise_enough(rounds: Sequence[Round], target_half_width: float) -> bool:
    """Return whether the interval of the relative speed is as narrow as requested."""
    if len(rounds) < MIN_VALUES:
        return False
    return median_interval(relative_speeds(rounds)).half_width <= target_half_width


def summarize_rounds(rounds: Sequence[Round], target_half_width: float) -> RoundSummary:
    """Return the summary of one or more rounds."""
    speed = median_interval(relative_speeds(rounds))
    secondary = median(round_.reference.secondary / round_.candidate.secondary for round_ in rounds)
    gap = abs(secondary / speed.median - 1)
    noisy = gap > MAX_CLOCK_GAP or not is_precise_enough(rounds, target_half_width)
    reference_seconds = median(round_.reference.primary for round_ in rounds)
    return RoundSummary(speed, reference_seconds, gap, noisy)
