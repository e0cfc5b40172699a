"""Twins matched by formula: resize a plan as little as possible to reach a target cost.

A twin keeps the depths, parts and attention placement of its plan; only the stage widths and the
MLP ratio change. The size of a change is the largest |log(new / old)| of the four widths and the
four hidden widths. The smallest change thus scales all stages alike, up to whole channels, and
keeps the MLP ratio unless steps of one channel are too coarse.
"""

import math
from bisect import bisect_left
from collections.abc import Callable

from partialnas.space.arch import resizing
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError

_MAX_RADII = 32
"""Number of changes, from the smallest that may suffice, that are searched for a twin."""


def cost_matched_twin(
    plan: Plan,
    target: float,
    plan_cost: Callable[[Plan], float],
    tolerance: float = 0.02,
    build: Callable[[Plan], Architecture] = Plan.architecture,
) -> resizing.Twin:
    """Return the plan with the smallest change whose cost is within the tolerance.

    Costs are assumed to increase with widths, up to rounding. Widths that cannot be built are
    skipped.

    Args:
        plan: the plan to resize.
        target: cost to reach, above 0.
        plan_cost: function that returns the cost of a plan, or raises UserError if it has none.
        tolerance: allowed relative distance of the cost from the target.
        build: function that builds a plan's network, for blocks with settings of their own.

    Raises:
        UserError: The plan itself has no cost, or cannot be built.
    """
    original = plan_cost(plan)
    if resizing.within_tolerance(original, target, tolerance):
        return resizing.Twin(plan, original, original)
    sign = 1 if original < target else -1
    grid = resizing.WidthGrid(plan, sign, resizing.BuildableWidths(build(plan)))
    search = _Search(grid, target, plan_cost, tolerance)
    steps = search.first()
    if steps is not None:
        return resizing.Twin(grid.plan(steps), original, search.costs[steps])
    steps = search.nearest()
    return resizing.Twin(grid.plan(steps), original, search.costs[steps], search.problem(steps))


class _Search:
    """Search for the smallest change that reaches the target, with a cache of costs."""

    def __init__(
        self,
        grid: resizing.WidthGrid,
        target: float,
        plan_cost: Callable[[Plan], float],
        tolerance: float,
    ) -> None:
        self.costs: dict[resizing.GridOffset, float] = {}
        self._grid = grid
        self._target = target
        self._plan_cost = plan_cost
        self._tolerance = tolerance
        self._increase = self._cost(grid.origin) < target
        self._radii = grid.radii()

    def first(self) -> resizing.GridOffset | None:
        """Return the smallest change within the tolerance, or None if none is found.

        The most expensive (or cheapest) plan within a change takes all steps that it allows.
        Bisection finds the first change for which that plan reaches the tolerance. If it
        overshoots, steps are taken back; if that fails, the next changes are tried.
        """
        start = bisect_left(self._radii, True, key=self._suffices)
        for radius in self._radii[start : start + _MAX_RADII]:
            for corner in self._grid.corners(radius):
                steps = self._take_back(corner, radius)
                if self._within(steps):
                    return steps
        return None

    def _suffices(self, radius: float) -> bool:
        return any(map(self._reaches, self._grid.corners(radius)))

    def nearest(self) -> resizing.GridOffset:
        """Return the tried change with the cost nearest to the target."""
        return min(self.costs, key=lambda steps: (self._distance(steps), steps))

    def problem(self, nearest: resizing.GridOffset) -> str:
        """Explain why there is no twin, and describe the nearest one."""
        reached = self.costs[nearest]
        message = (
            f"no twin within {self._tolerance:.1%} of {self._target:,.0f}: the nearest costs "
            f"{reached:,.0f} ({reached / self._target - 1:+.1%})"
        )
        if any(self._reaches(steps) for steps in self.costs):
            return f"{message}, and the next valid widths overshoot"
        limit, most = "widest" if self._increase else "narrowest", resizing.MAX_WIDTH_FACTOR
        return f"{message}, at the {limit} valid widths (at most a factor of {most})"

    def _take_back(self, steps: resizing.GridOffset, radius: float) -> resizing.GridOffset:
        """Take steps back until the cost no longer overshoots, as far as possible."""
        while self._reaches(steps) and not self._within(steps):
            changes = self._grid.smaller_changes(steps, radius)
            smaller = next(filter(self._reaches, changes), None)
            if smaller is None:
                break
            steps = smaller
        return steps

    def _cost(self, steps: resizing.GridOffset) -> float:
        if steps not in self.costs:
            try:
                self.costs[steps] = self._plan_cost(self._grid.plan(steps))
            except UserError:
                self.costs[steps] = math.nan
        return self.costs[steps]

    def _reaches(self, steps: resizing.GridOffset) -> bool:
        """Return whether the cost has reached the tolerance or overshoots; False without a cost."""
        excess = self._cost(steps) / self._target - 1
        return excess >= -self._tolerance if self._increase else excess <= self._tolerance

    def _within(self, steps: resizing.GridOffset) -> bool:
        return resizing.within_tolerance(self._cost(steps), self._target, self._tolerance)

    def _distance(self, steps: resizing.GridOffset) -> float:
        value = self._cost(steps)
        return abs(math.log(value / self._target)) if value > 0 else math.inf
