"""What repeated timings say: a median, its interval, and whether to believe it. Pure functions."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from statistics import median
from typing import NamedTuple

MIN_VALUES = 6
"""So many values carry a 95 % interval of their median at all: 1 - 2 / 2**6 > 0.95."""

MAX_CLOCK_GAP = 0.05
"""Clocks that disagree by a larger share say that the device was not ours alone."""

_OUTSIDE = Fraction(1, 40)  # probability on each side of a 95 % interval


class Timing(NamedTuple):
    """Seconds of one forward pass by two clocks.

    Attributes:
        primary: by the clock that decides, which counts what the device did for us.
        secondary: by a second clock, which agrees with the first while the device is ours alone.
    """

    primary: float
    secondary: float


SECOND = Timing(1.0, 1.0)
"""Stands for the reference where there is none: speeds are then forward passes a second."""


class Round(NamedTuple):
    """Mean laps of two networks that ran in turns: reference, candidate, candidate, reference."""

    candidate: Timing
    reference: Timing = SECOND


class Interval(NamedTuple):
    """A median and the ends of its 95 % interval."""

    median: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """How far the longer side reaches, as a share of the median."""
        return max(self.median - self.low, self.high - self.median) / self.median


class RoundSummary(NamedTuple):
    """What rounds say of the candidate.

    Attributes:
        speed: how many times as fast as the reference, by the clock that decides.
        reference_seconds: of one forward pass of the reference.
        clock_gap: share by which the speed differs on the other clock.
        noisy: the clocks disagree, or the interval is wider than was asked for.
    """

    speed: Interval
    reference_seconds: float
    clock_gap: float
    noisy: bool


def median_interval(values: Sequence[float]) -> Interval:
    """Median and 95 % interval by order statistics: right whatever the distribution.

    Fewer than `MIN_VALUES` values cannot carry it; their interval is the range of them all.
    """
    ordered = sorted(values)
    spared = _spared(len(ordered))
    return Interval(median(ordered), ordered[spared], ordered[-1 - spared])


@cache
def _spared(count: int) -> int:
    """How many of so many sorted values lie outside the interval on each side.

    Of independent values the number below the true median is binomial with probability 1/2, so
    that the k-th from below is above it with the probability of fewer than k. Counted exactly;
    scipy has the same, but takes a second to import.
    """
    allowed = _OUTSIDE * 2**count
    ways, tail, spared = 1, 0, -1
    while tail + ways <= allowed:
        spared, tail = spared + 1, tail + ways
        ways = ways * (count - spared) // (spared + 1)
    return max(spared, 0)


def relative_speeds(rounds: Iterable[Round]) -> list[float]:
    """Speed of the candidate relative to the reference in each round, by the clock that decides."""
    return [round_.reference.primary / round_.candidate.primary for round_ in rounds]


def is_precise_enough(rounds: Sequence[Round], target_half_width: float) -> bool:
    """Whether the rounds tell the speed as exactly as asked."""
    if len(rounds) < MIN_VALUES:
        return False
    return median_interval(relative_speeds(rounds)).half_width <= target_half_width


def summarize_rounds(rounds: Sequence[Round], target_half_width: float) -> RoundSummary:
    """What the rounds (at least one) say."""
    speed = median_interval(relative_speeds(rounds))
    by_other = median(round_.reference.secondary / round_.candidate.secondary for round_ in rounds)
    gap = abs(by_other / speed.median - 1)
    noisy = gap > MAX_CLOCK_GAP or not is_precise_enough(rounds, target_half_width)
    reference_seconds = median(round_.reference.primary for round_ in rounds)
    return RoundSummary(speed, reference_seconds, gap, noisy)
