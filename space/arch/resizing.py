"""Resizing: the plans that differ from a plan in their widths alone, and how much they differ."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice
from typing import NamedTuple

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import NUM_STAGES, Plan

MAX_WIDTH_FACTOR = 8
"""No width is changed by more than this factor."""

_STAGES = range(NUM_STAGES)
_COARSEST = 4
_FINENESS = 8


@dataclass(frozen=True)
class Twin:
    """A plan changed to cost what was asked.

    Attributes:
        plan: the twin; the plan itself where it was within the tolerance already.
        original_cost: what the plan costs.
        final_cost: what the twin costs.
        problem: why the twin is not within the tolerance but only the nearest; empty where it is.
    """

    plan: Plan
    original_cost: float
    final_cost: float
    problem: str = ""


def within_tolerance(value: float, target: float, tolerance: float) -> bool:
    """Whether a value is within the tolerance, relatively, of its target."""
    return abs(value / target - 1) <= tolerance


def width_change(plan: Plan, other: Plan) -> float:
    """How far a plan's widths and hidden widths are from another's: the largest |log(a / b)|."""
    return _change(plan.widths, plan.mlp_ratio, other.widths, other.mlp_ratio)


def _change(
    widths: Sequence[int], ratio: Fraction, others: Sequence[int], other_ratio: Fraction
) -> float:
    quotients = [a / b for a, b in zip(widths, others, strict=True)]
    hidden = float(ratio / other_ratio)
    return max(abs(math.log(q * by)) for q in quotients for by in (1.0, hidden))


def resized(plan: Plan, widths: Sequence[int], mlp_ratio: Fraction) -> Plan:
    """The plan with these numbers; widths that double are written as one, as people do."""
    first = widths[0]
    doubled = all(width == first * 2**stage for stage, width in enumerate(widths))
    width = first if doubled else tuple(widths)
    return plan.model_copy(update={"width": width, "mlp_ratio": mlp_ratio})


def scale_plan(plan: Plan, factor: float, builder: "BuildableWidths") -> Plan:
    """The plan with all widths times a factor, each the nearest whole one that can be built."""
    widths = [builder.nearest(stage, width * factor) for stage, width in enumerate(plan.widths)]
    return resized(plan, widths, plan.mlp_ratio)


class BuildableWidths:
    """Which widths the blocks of each stage of a network can be built with."""

    def __init__(self, architecture: Architecture) -> None:
        self._blocks = [set(stage.blocks) for stage in architecture.stages]

    def is_buildable(self, stage: int, width: int) -> bool:
        """Whether the stage (from 0) can be built with this width."""
        try:
            for block in self._blocks[stage]:
                block.realize(width)
        except ValueError:
            return False
        return True

    def nearest(self, stage: int, width: float) -> int:
        """The nearest width that can be built; there is one: the network's own."""
        middle = max(round(width), 1)
        outwards = (middle + sign * away for away in count() for sign in (-1, 1))
        return next(w for w in outwards if w > 0 and self.is_buildable(stage, w))


class GridOffset(NamedTuple):
    """How many steps the numbers of a twin are away from the plan's own."""

    widths: tuple[int, ...]
    mlp_ratio: int


class WidthGrid:
    """The numbers that a twin may have: widths all above the plan's own, or all below.

    Widths go in steps of one channel. The MLP ratio goes in steps that leave hidden widths whole as
    long as widths are the plan's own; hidden widths of others are rounded down, as always.
    """

    def __init__(self, plan: Plan, sign: int, builder: BuildableWidths) -> None:
        common = math.gcd(*plan.widths)
        self.origin = GridOffset((0,) * NUM_STAGES, 0)
        self._plan = plan
        self._sign = sign
        self._step = Fraction(sign, common if common >= _COARSEST else _FINENESS)
        self._builder = builder

    def plan(self, steps: GridOffset) -> Plan:
        """The plan that is so many steps away."""
        return resized(self._plan, self._widths(steps), self._mlp_ratio(steps))

    def allows(self, steps: GridOffset, radius: float) -> bool:
        """Whether there is such a plan, with no larger a change than `radius`."""
        widths, ratio = self._widths(steps), self._mlp_ratio(steps)
        if min(widths) < 1 or ratio <= 0 or not all(map(self._builder.is_buildable, _STAGES, widths)):
            return False
        return _change(widths, ratio, self._plan.widths, self._plan.mlp_ratio) <= radius

    def radii(self) -> list[float]:
        """The changes at which one more number may take a step, in rising order."""
        found = set(_radii(self._plan.mlp_ratio, self._step))
        return sorted(found.union(*(_radii(width, self._sign) for width in self._plan.widths)))

    def corners(self, radius: float) -> Iterator[GridOffset]:
        """As many steps as a change of `radius` allows: of widths first, of the MLP ratio first."""
        yield self._more_hidden(self._wider(self.origin, radius), radius)
        yield self._wider(self._more_hidden(self.origin, radius), radius)

    def _wider(self, steps: GridOffset, radius: float) -> GridOffset:
        hidden = float(self._mlp_ratio(steps) / self._plan.mlp_ratio)
        factor = math.exp(self._sign * radius) / hidden
        for stage, width in enumerate(self._plan.widths):
            most = abs(int(width * factor) - width) + 1
            takes = (self._taking(steps, stage, taken) for taken in range(most, 0, -1))
            steps = next((other for other in takes if self.allows(other, radius)), steps)
        return steps

    def _more_hidden(self, steps: GridOffset, radius: float) -> GridOffset:
        while self.allows(more := steps._replace(mlp_ratio=steps.mlp_ratio + 1), radius):
            steps = more
        return steps

    def smaller_changes(self, steps: GridOffset, radius: float) -> Iterator[GridOffset]:
        """One number after the other taken back by as little as can be, the most changed first."""
        order = sorted(_STAGES, key=lambda s: -steps.widths[s] / self._plan.widths[s])
        for stage in order:
            less_wide = range(steps.widths[stage] - 1, -1, -1)
            takes = (self._taking(steps, stage, taken) for taken in less_wide)
            yield from islice((other for other in takes if self.allows(other, radius)), 1)
        less = steps._replace(mlp_ratio=steps.mlp_ratio - 1)
        if self.allows(less, radius):
            yield less

    @staticmethod
    def _taking(steps: GridOffset, stage: int, taken: int) -> GridOffset:
        widths = (*steps.widths[:stage], taken, *steps.widths[stage + 1 :])
        return steps._replace(widths=widths)

    def _widths(self, steps: GridOffset) -> list[int]:
        pairs = zip(self._plan.widths, steps.widths, strict=True)
        return [width + self._sign * taken for width, taken in pairs]

    def _mlp_ratio(self, steps: GridOffset) -> Fraction:
        return self._plan.mlp_ratio + steps.mlp_ratio * self._step


def _radii(start: Fraction | int, step: Fraction | int) -> Iterator[float]:
    number = start + step
    while number > 0 and (radius := abs(math.log(number / start))) <= math.log(MAX_WIDTH_FACTOR):
        yield radius * (1 + 1e-12)  # so that rounding does not refuse the step itself
        number += step


def narrow_architecture(architecture: Architecture, share: Fraction) -> Architecture:
    """The architecture with this share of every stage's width, the nearest that can be built.

    The blocks keep their ratios, so the parts become narrower with them. Learned ratios are found
    for the widths that they are learned at: an architecture that has any stays as it is.
    """
    if share == 1 or architecture.learned is not None:
        return architecture
    builder = BuildableWidths(architecture)
    stages = tuple(
        stage.model_copy(update={"width": builder.nearest(index, float(stage.width * share))})
        for index, stage in enumerate(architecture.stages)
    )
    return architecture.model_copy(update={"stages": stages})
