"""Capacity twins: the smallest change of a plan's widths that makes it cost what another costs.

A twin has its plan's depths, parts and placement; the widths of its stages and the hidden widths of
its MLPs differ. How much a plan is changed is told by the width that changes most: the largest
|log(new / old)| of the eight. The smallest change so defined scales all stages alike, as nearly as
whole channels let it, and leaves the MLP ratio as it is unless channels are too coarse a step.
"""

import math
from bisect import bisect_left
from collections.abc import Callable

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.resizing import (
    MAX_WIDTH_FACTOR,
    BuildableWidths,
    GridOffset,
    Twin,
    WidthGrid,
    within_tolerance,
)
from partialnas.space.errors import UserError

_TRIES = 32


def cost_matched_twin(
    plan: Plan,
    target: float,
    price: Callable[[Plan], float],
    tolerance: float = 0.02,
    build: Callable[[Plan], Architecture] = Plan.architecture,
) -> Twin:
    """The plan with the smallest change (see `change`) whose price is within the tolerance.

    Prices are taken to rise with the numbers, but for what rounding does. Widths that cannot be
    built are passed over.

    Args:
        plan: what is to be changed.
        target: the price to be reached, above 0.
        price: of a plan; raises UserError where it has none.
        tolerance: how far, relatively, the price may be from the target.
        build: what makes a network of a plan, where single blocks have settings of their own.

    Raises:
        UserError: the plan itself has no price, or cannot be built.
    """
    before = price(plan)
    if within_tolerance(before, target, tolerance):
        return Twin(plan, before, before)
    grid = WidthGrid(plan, 1 if before < target else -1, BuildableWidths(build(plan)))
    search = _Search(grid, target, price, tolerance)
    found = search.first()
    if found is not None:
        return Twin(grid.plan(found), before, search.prices[found])
    nearest = search.nearest()
    reached = search.prices[nearest]
    return Twin(grid.plan(nearest), before, reached, search.problem(nearest))


class _Search:
    """Looks for the smallest change that reaches a price, and remembers the prices it was told."""

    def __init__(
        self, grid: WidthGrid, target: float, price: Callable[[Plan], float], tolerance: float
    ) -> None:
        self.prices: dict[GridOffset, float] = {}
        self._grid = grid
        self._target = target
        self._price = price
        self._tolerance = tolerance
        self._rises = self._of(grid.origin) < target
        self._radii = grid.radii()

    def first(self) -> GridOffset | None:
        """The smallest change that is within the tolerance; None if none is found.

        The dearest (cheapest) plan that a change allows is the one with all steps that it allows:
        the first change whose dearest plan comes to the tolerance is found by halving. Where that
        plan goes beyond, numbers are taken back; where that fails, the next changes are tried.
        """
        start = bisect_left(self._radii, True, key=self._is_enough)
        for radius in self._radii[start : start + _TRIES]:
            for corner in self._grid.corners(radius):
                found = self._taken_back(corner, radius)
                if self._within(found):
                    return found
        return None

    def _is_enough(self, radius: float) -> bool:
        return any(map(self._reaches, self._grid.corners(radius)))

    def nearest(self) -> GridOffset:
        """Of all that were tried the one nearest to the target."""
        return min(self.prices, key=lambda steps: (self._distance(steps), steps))

    def problem(self, nearest: GridOffset) -> str:
        """Why there is no twin, beside the nearest."""
        reached = self.prices[nearest]
        told = (
            f"no twin within {self._tolerance:.1%} of {self._target:,.0f}: the nearest costs "
            f"{reached:,.0f} ({reached / self._target - 1:+.1%})"
        )
        if any(self._reaches(steps) for steps in self.prices):
            return f"{told}, and the next widths that can be built go beyond"
        way = "wide" if self._rises else "narrow"
        return f"{told}, as {way} as it can be built or may get (a factor of {MAX_WIDTH_FACTOR})"

    def _taken_back(self, steps: GridOffset, radius: float) -> GridOffset:
        """With fewer steps, until the price is no longer beyond the tolerance, if possible."""
        while self._reaches(steps) and not self._within(steps):
            less = (other for other in self._grid.smaller_changes(steps, radius) if self._reaches(other))
            found = next(less, None)
            if found is None:
                break
            steps = found
        return steps

    def _of(self, steps: GridOffset) -> float:
        if steps not in self.prices:
            try:
                self.prices[steps] = self._price(self._grid.plan(steps))
            except UserError:
                self.prices[steps] = math.nan
        return self.prices[steps]

    def _reaches(self, steps: GridOffset) -> bool:
        """Whether the price has come to the tolerance or gone beyond; not without a price."""
        excess = self._of(steps) / self._target - 1
        return excess >= -self._tolerance if self._rises else excess <= self._tolerance

    def _within(self, steps: GridOffset) -> bool:
        return within_tolerance(self._of(steps), self._target, self._tolerance)

    def _distance(self, steps: GridOffset) -> float:
        value = self._of(steps)
        return abs(math.log(value / self._target)) if value > 0 else math.inf
