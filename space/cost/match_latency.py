"""Twins matched by measurement: scale a plan's widths to reach a target latency."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from partialnas.space.arch import resizing
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan

_EXPONENT = 1.5
"""Assumed exponent of latency over width: 1 for memory-bound layers, 2 for compute-bound ones."""

_EXPONENTS = (0.4, 2.5)
_INTERPOLATION = (0.1, 0.9)
_SUBDIVISIONS = 64

_Point = tuple[float, float]
"""Position of a plan, log(factor), and log(latency / target)."""


def latency_matched_twin(
    plan: Plan,
    target: float,
    measure: Callable[[Plan], float],
    tolerance: float = 0.03,
    max_measurements: int = 8,
    build: Callable[[Plan], Architecture] = Plan.architecture,
) -> resizing.Twin:
    """Scale all widths of a plan by one factor, so that its latency reaches the target.

    Measuring latency is expensive and noisy. A plan within the tolerance is therefore measured
    again, and the mean of both measurements decides. The MLP ratio does not change.

    Args:
        plan: the plan to resize.
        target: latency to reach, above 0.
        measure: function that measures a plan once; latency roughly increases with the widths.
        tolerance: allowed relative distance of the mean latency from the target.
        max_measurements: maximum number of measurements.
        build: function that builds a plan's network, for blocks with settings of their own.
    """
    readings = _Readings(plan, target, resizing.BuildableWidths(build(plan)))
    factor: float | None = 1.0
    for _ in range(max_measurements):
        if factor is None:
            break
        reading = readings.add(factor, measure)
        if not resizing.within_tolerance(reading.mean, target, tolerance):
            factor = readings.next_factor()
        elif len(reading.values) > 1:
            break
    return readings.twin(tolerance, max_measurements)


@dataclass(frozen=True)
class _Reading:
    """Measurements of one plan."""

    plan: Plan
    position: float
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)


class _Readings:
    """Measurements of the plans of one search."""

    def __init__(self, plan: Plan, target: float, builder: resizing.BuildableWidths) -> None:
        self._plan = plan
        self._builder = builder
        self._target = target
        self._readings: dict[Plan, _Reading] = {}

    def add(self, factor: float, measure: Callable[[Plan], float]) -> _Reading:
        """Measure the plan at this factor and add the measurement to earlier ones of it."""
        plan = self._at(factor)
        old = self._readings.get(plan, _Reading(plan, math.log(factor), ()))
        reading = _Reading(plan, old.position, (*old.values, measure(plan)))
        self._readings[plan] = reading
        return reading

    def next_factor(self) -> float | None:
        """Return the factor to try next, or None if no other widths are left."""
        points = sorted((r.position, self._excess(r)) for r in self._readings.values())
        crossings = [(a, b) for a, b in pairwise(points) if a[1] * b[1] < 0]
        if crossings:
            narrowest = min(crossings, key=lambda pair: pair[1][0] - pair[0][0])
            return self._interpolated_factor(*narrowest)
        return self._extrapolated_factor(points)

    def twin(self, tolerance: float, max_measurements: int) -> resizing.Twin:
        """Return the plan nearest to the target, and why there is no nearer one."""
        original = self._readings[self._plan].mean
        best = min(self._readings.values(), key=lambda r: (abs(self._excess(r)), abs(r.position)))
        reached = resizing.within_tolerance(best.mean, self._target, tolerance)
        problem = "" if reached else self._problem(best, tolerance, max_measurements)
        return resizing.Twin(best.plan, original, best.mean, problem)

    def _excess(self, reading: _Reading) -> float:
        return math.log(reading.mean / self._target)

    def _interpolated_factor(self, low: _Point, high: _Point) -> float | None:
        """Return the factor on the line between two points, or the nearest one with a new plan."""
        share = low[1] / (low[1] - high[1])
        share = min(max(share, _INTERPOLATION[0]), _INTERPOLATION[1])
        shares = [share, *(step / _SUBDIVISIONS for step in range(1, _SUBDIVISIONS))]
        shares.sort(key=lambda other: abs(other - share))
        factors = (math.exp(low[0] + other * (high[0] - low[0])) for other in shares)
        return next((factor for factor in factors if self._is_new(factor)), None)

    def _extrapolated_factor(self, points: list[_Point]) -> float | None:
        """Return a factor beyond the nearest point, on the line through the two nearest points."""
        nearest, *others = sorted(points, key=lambda point: abs(point[1]))
        exponent = _EXPONENT
        if others:
            (x, y), (u, v) = nearest, others[0]
            exponent = min(max((y - v) / (x - u), _EXPONENTS[0]), _EXPONENTS[1])
        limit = math.log(resizing.MAX_WIDTH_FACTOR)
        step = -nearest[1] / exponent
        ends = (nearest[0] + step * eighths / 8 for eighths in range(8, 8 * _SUBDIVISIONS))
        factors = (math.exp(min(max(end, -limit), limit)) for end in ends)
        return next((factor for factor in factors if self._is_new(factor)), None)

    def _is_new(self, factor: float) -> bool:
        return self._at(factor) not in self._readings

    def _at(self, factor: float) -> Plan:
        plan = resizing.scale_plan(self._plan, factor, self._builder)
        return self._plan if plan.widths == self._plan.widths else plan

    def _problem(self, best: _Reading, tolerance: float, limit: int) -> str:
        spent = sum(len(reading.values) for reading in self._readings.values())
        reason = f"after {spent} measurements" if spent >= limit else "no other widths are left"
        return (
            f"no twin within {tolerance:.1%} of {self._target:.4g}: the nearest measures "
            f"{best.mean:.4g} ({best.mean / self._target - 1:+.1%}), {reason}"
        )
