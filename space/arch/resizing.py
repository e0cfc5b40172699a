"""Plans that differ from another plan in their widths only, and narrowed architectures."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice
from typing import NamedTuple

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import NUM_STAGES, Plan

MAX_WIDTH_FACTOR = 8
"""Largest factor by which a width may change."""

_STAGES = range(NUM_STAGES)
_MIN_COMMON_WIDTH = 4
_RATIO_DENOMINATOR = 8


@dataclass(frozen=True)
class Twin:
    """A plan resized to a target cost.

    Attributes:
        plan: the twin, or the original plan if that is within the tolerance.
        original_cost: cost of the original plan.
        final_cost: cost of the twin.
        problem: why no twin within the tolerance exists, or empty; `plan` is then the nearest.
    """

    plan: Plan
    original_cost: float
    final_cost: float
    problem: str = ""


def within_tolerance(value: float, target: float, tolerance: float) -> bool:
    """Return whether a value is within the relative tolerance of its target."""
    return abs(value / target - 1) <= tolerance


def width_change(plan: Plan, widths: Sequence[int], mlp_ratio: Fraction) -> float:
    """Return the largest |log(a / b)| of other widths and hidden widths over a plan's."""
    quotients = [a / b for a, b in zip(widths, plan.widths, strict=True)]
    hidden = float(mlp_ratio / plan.mlp_ratio)
    return max(abs(math.log(q * by)) for q in quotients for by in (1.0, hidden))


def resized(plan: Plan, widths: Sequence[int], mlp_ratio: Fraction) -> Plan:
    """Return the plan with other widths; widths that double per stage are written as one."""
    first = widths[0]
    doubled = all(width == first * 2**stage for stage, width in enumerate(widths))
    width = first if doubled else tuple(widths)
    return plan.model_copy(update={"width": width, "mlp_ratio": mlp_ratio})


def scale_plan(plan: Plan, factor: float, builder: "BuildableWidths") -> Plan:
    """Return the plan with all widths scaled by a factor, each to the nearest valid width."""
    widths = [builder.nearest(stage, width * factor) for stage, width in enumerate(plan.widths)]
    return resized(plan, widths, plan.mlp_ratio)


class BuildableWidths:
    """Widths that the blocks of each stage of a network can be built with."""

    def __init__(self, architecture: Architecture) -> None:
        self._blocks = [set(stage.blocks) for stage in architecture.stages]

    def is_buildable(self, stage: int, width: int) -> bool:
        """Return whether a stage, counted from 0, can be built with this width."""
        try:
            for block in self._blocks[stage]:
                block.realize(width)
        except ValueError:
            return False
        return True

    def nearest(self, stage: int, width: float) -> int:
        """Return the nearest width that can be built; the network's present width always can."""
        middle = max(round(width), 1)
        candidates = (middle + sign * distance for distance in count() for sign in (-1, 1))
        return next(w for w in candidates if w > 0 and self.is_buildable(stage, w))


class GridOffset(NamedTuple):
    """Number of steps between a twin's widths and MLP ratio and the original plan's."""

    widths: tuple[int, ...]
    mlp_ratio: int


class WidthGrid:
    """Candidate widths and MLP ratios of a twin, all above the plan's or all below.

    Widths change in steps of one channel. The MLP ratio changes in steps that keep hidden widths
    whole at the plan's widths; at other widths, hidden widths are rounded down.

    Args:
        plan: the original plan.
        sign: 1 for larger plans, -1 for smaller ones.
        builder: widths that can be built.
    """

    def __init__(self, plan: Plan, sign: int, builder: BuildableWidths) -> None:
        common = math.gcd(*plan.widths)
        self.origin = GridOffset((0,) * NUM_STAGES, 0)
        self._plan = plan
        self._sign = sign
        self._step = Fraction(sign, common if common >= _MIN_COMMON_WIDTH else _RATIO_DENOMINATOR)
        self._builder = builder

    def plan(self, steps: GridOffset) -> Plan:
        """Return the plan at this offset."""
        return resized(self._plan, self._widths(steps), self._mlp_ratio(steps))

    def allows(self, steps: GridOffset, radius: float) -> bool:
        """Return whether the plan at this offset exists and changes by at most `radius`."""
        widths, ratio = self._widths(steps), self._mlp_ratio(steps)
        if min(widths) < 1 or ratio <= 0:
            return False
        buildable = all(map(self._builder.is_buildable, _STAGES, widths))
        return buildable and width_change(self._plan, widths, ratio) <= radius

    def radii(self) -> list[float]:
        """Return the changes at which another step becomes possible, in ascending order."""
        radii = set(_radii(self._plan.mlp_ratio, self._step))
        return sorted(radii.union(*(_radii(width, self._sign) for width in self._plan.widths)))

    def corners(self, radius: float) -> Iterator[GridOffset]:
        """Yield the largest offsets within `radius`: widths first, then MLP ratio first."""
        yield self._more_hidden(self._wider(self.origin, radius), radius)
        yield self._wider(self._more_hidden(self.origin, radius), radius)

    def _wider(self, steps: GridOffset, radius: float) -> GridOffset:
        hidden = float(self._mlp_ratio(steps) / self._plan.mlp_ratio)
        factor = math.exp(self._sign * radius) / hidden
        for stage, width in enumerate(self._plan.widths):
            limit = abs(int(width * factor) - width) + 1
            offsets = (self._with_width(steps, stage, count) for count in range(limit, 0, -1))
            steps = next((other for other in offsets if self.allows(other, radius)), steps)
        return steps

    def _more_hidden(self, steps: GridOffset, radius: float) -> GridOffset:
        while self.allows(more := steps._replace(mlp_ratio=steps.mlp_ratio + 1), radius):
            steps = more
        return steps

    def smaller_changes(self, steps: GridOffset, radius: float) -> Iterator[GridOffset]:
        """Yield offsets with one value moved back by the least, the most changed value first."""
        order = sorted(_STAGES, key=lambda s: -steps.widths[s] / self._plan.widths[s])
        for stage in order:
            counts = range(steps.widths[stage] - 1, -1, -1)
            offsets = (self._with_width(steps, stage, count) for count in counts)
            yield from islice((other for other in offsets if self.allows(other, radius)), 1)
        less = steps._replace(mlp_ratio=steps.mlp_ratio - 1)
        if self.allows(less, radius):
            yield less

    @staticmethod
    def _with_width(steps: GridOffset, stage: int, count: int) -> GridOffset:
        widths = (*steps.widths[:stage], count, *steps.widths[stage + 1 :])
        return steps._replace(widths=widths)

    def _widths(self, steps: GridOffset) -> list[int]:
        pairs = zip(self._plan.widths, steps.widths, strict=True)
        return [width + self._sign * count for width, count in pairs]

    def _mlp_ratio(self, steps: GridOffset) -> Fraction:
        return self._plan.mlp_ratio + steps.mlp_ratio * self._step


def _radii(start: Fraction | int, step: Fraction | int) -> Iterator[float]:
    value = start + step
    while value > 0 and (radius := abs(math.log(value / start))) <= math.log(MAX_WIDTH_FACTOR):
        yield radius * (1 + 1e-12)  # keeps rounding from rejecting the step itself
        value += step


def narrow_architecture(architecture: Architecture, share: Fraction) -> Architecture:
    """Return the architecture with this share of every stage's width, to the nearest valid width.

    The blocks keep their ratios. An architecture with learned ratios is returned unchanged, because
    these are learned for its widths.
    """
    if share == 1 or architecture.learned is not None:
        return architecture
    builder = BuildableWidths(architecture)
    stages = tuple(
        stage.model_copy(update={"width": builder.nearest(index, float(stage.width * share))})
        for index, stage in enumerate(architecture.stages)
    )
    return architecture.model_copy(update={"stages": stages})
