"""Twins by measurement: the widths with which a plan is as fast as another."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.resizing import (
    MAX_WIDTH_FACTOR,
    BuildableWidths,
    Twin,
    scale_plan,
    within_tolerance,
)

_RISE = 1.5
"""Latency grows about with this power of the widths: memory-bound layers with the first,
compute-bound ones with the second."""

_RISES = (0.4, 2.5)
_WITHIN = (0.1, 0.9)
_FINE = 64


def latency_matched_twin(
    plan: Plan,
    target: float,
    measure: Callable[[Plan], float],
    tolerance: float = 0.03,
    max_measurements: int = 8,
    build: Callable[[Plan], Architecture] = Plan.architecture,
) -> Twin:
    """The plan, its widths all scaled by one factor, that measures within the tolerance.

    For latency, which is dear to measure and noisy: a plan that measures within the tolerance is
    measured once more, and the mean decides, so that no lucky measurement does. The MLP ratio
    stays.

    Args:
        plan: what is to be changed.
        target: the measurement to be reached, above 0.
        measure: one measurement of a plan; about rises with its widths.
        tolerance: how far, relatively, the mean may be from the target.
        max_measurements: measurements at most.
        build: what makes a network of a plan, where single blocks have settings of their own.
    """
    readings = _Readings(plan, target, BuildableWidths(build(plan)))
    factor: float | None = 1.0
    for _ in range(max_measurements):
        if factor is None:
            break
        reading = readings.add(factor, measure)
        if not within_tolerance(reading.mean, target, tolerance):
            factor = readings.guess()
        elif len(reading.values) > 1:
            break
    return readings.twin(tolerance, max_measurements)


@dataclass(frozen=True)
class _Reading:
    """What a plan measured."""

    plan: Plan
    position: float
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)


class _Readings:
    """What the plans of one search measured, by the factor of their widths."""

    def __init__(self, plan: Plan, target: float, builder: BuildableWidths) -> None:
        self._plan = plan
        self._builder = builder
        self._target = target
        self._found: dict[Plan, _Reading] = {}

    def add(self, factor: float, measure: Callable[[Plan], float]) -> _Reading:
        """Measure the plan at this factor, once more if need be."""
        plan = self._at(factor)
        old = self._found.get(plan, _Reading(plan, math.log(factor), ()))
        reading = _Reading(plan, old.position, (*old.values, measure(plan)))
        self._found[plan] = reading
        return reading

    def guess(self) -> float | None:
        """The factor to try next; None if there is no other between those that were tried."""
        points = sorted((r.position, self._excess(r)) for r in self._found.values())
        crossings = [(a, b) for a, b in pairwise(points) if a[1] * b[1] < 0]
        if crossings:
            return self._between(*min(crossings, key=lambda pair: pair[1][0] - pair[0][0]))
        return self._beyond(points)

    def twin(self, tolerance: float, most: int) -> Twin:
        """The nearest of all, and what stood in the way of a nearer one."""
        before = self._found[self._plan].mean
        best = min(self._found.values(), key=lambda r: (abs(self._excess(r)), abs(r.position)))
        if within_tolerance(best.mean, self._target, tolerance):
            return Twin(best.plan, before, best.mean)
        return Twin(best.plan, before, best.mean, self._problem(best, tolerance, most))

    def _excess(self, reading: _Reading) -> float:
        return math.log(reading.mean / self._target)

    def _between(self, low: tuple[float, float], high: tuple[float, float]) -> float | None:
        """On the line between two points, or else the nearest to it where a plan is new."""
        share = low[1] / (low[1] - high[1])
        share = min(max(share, _WITHIN[0]), _WITHIN[1])
        shares = [share, *(step / _FINE for step in range(1, _FINE))]
        shares.sort(key=lambda other: abs(other - share))
        factors = (math.exp(low[0] + other * (high[0] - low[0])) for other in shares)
        return next((factor for factor in factors if self._is_new(factor)), None)

    def _beyond(self, points: list[tuple[float, float]]) -> float | None:
        """Past the nearest point, along the line through the two nearest."""
        nearest, *others = sorted(points, key=lambda point: abs(point[1]))
        rise = _RISE
        if others:
            (x, y), (u, v) = nearest, others[0]
            rise = min(max((y - v) / (x - u), _RISES[0]), _RISES[1])
        furthest = math.log(MAX_WIDTH_FACTOR)
        step = -nearest[1] / rise
        ends = (nearest[0] + step * more / 8 for more in range(8, 8 * _FINE))
        factors = (math.exp(min(max(end, -furthest), furthest)) for end in ends)
        return next((factor for factor in factors if self._is_new(factor)), None)

    def _is_new(self, factor: float) -> bool:
        return self._at(factor) not in self._found

    def _at(self, factor: float) -> Plan:
        plan = scale_plan(self._plan, factor, self._builder)
        return self._plan if plan.widths == self._plan.widths else plan

    def _problem(self, best: _Reading, tolerance: float, most: int) -> str:
        spent = sum(len(reading.values) for reading in self._found.values())
        way = f"after {spent} measurements" if spent >= most else "no other widths are left to try"
        return (
            f"no twin within {tolerance:.1%} of {self._target:.4g}: the nearest measures "
            f"{best.mean:.4g} ({best.mean / self._target - 1:+.1%}), {way}"
        )
