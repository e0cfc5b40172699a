"""Budgets of learned ratios: the cost that they allow, and whether it can be reached.

All costs are multiply-accumulates for one image; see `cost` for the conventions.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.ratio import parse_budget
from partialnas.space.cost.formulas import cost_rows, sum_costs
from partialnas.space.cost.learned_blocks import BlockIndex, PartSizes, learned_blocks, mac_range
from partialnas.space.errors import UserError


@dataclass(frozen=True)
class BudgetLimits:
    """Cost that a budget allows the mixers with learned ratios, and the cost that they can have.

    Attributes:
        budget: budget as stated.
        allowed: allowed cost of these mixers.
        min_macs: lowest possible cost of these mixers.
        max_macs: highest possible cost of these mixers.
        dense: cost of 3x3 convolutions over all channels in their place.
        fixed: cost of the rest of the network.
    """

    budget: Fraction | int | str
    allowed: int
    min_macs: int
    max_macs: int
    dense: int
    fixed: int

    @property
    def relative_gap(self) -> float:
        """Relative distance of the budget from the possible costs; 0 if it can be reached.

        A share above the highest possible cost counts as reached.
        """
        if self.allowed < self.min_macs:
            return self.min_macs / max(self.allowed, 1) - 1
        shared = isinstance(self.budget, Fraction)
        return 0.0 if shared else max(self.allowed / max(self.max_macs, 1) - 1, 0.0)

    def __str__(self) -> str:
        """Return the valid budgets, for messages."""
        absolute = (
            f"a whole number from {self.fixed + self.min_macs:,} to {self.fixed + self.max_macs:,} "
            "multiply-accumulates of the network"
        )
        share = Fraction(ceil(Fraction(1000 * self.min_macs, self.dense)), 1000)
        if share >= 1:
            return absolute
        return f"a share from {float(max(share, Fraction(1, 1000))):.3f} to below 1, or {absolute}"


def budget_limits(architecture: Architecture, input_spec: InputSpec) -> BudgetLimits | None:
    """Return the limits of the learned ratios' budget, or None if there is no budget."""
    blocks = learned_blocks(architecture, input_spec)
    budget = parse_budget(blocks[0].learning.budget) if blocks else None
    if budget is None:
        return None
    dense = sum(learned.dense_macs for learned in blocks)
    start = sum(learned.macs(learned.start) for learned in blocks)
    rows = cost_rows(architecture, architecture.realized, input_spec)
    fixed = sum_costs(rows).macs - start
    if isinstance(budget, str):
        allowed = start
    else:
        allowed = int(budget * dense) if isinstance(budget, Fraction) else budget - fixed
    return BudgetLimits(budget, allowed, *mac_range(blocks), dense, fixed)


def allowed_macs(architecture: Architecture, input_spec: InputSpec) -> int | None:
    """Return the allowed cost of the mixers with learned ratios, or None if there is no budget.

    Raises:
        UserError: The budget cannot be reached; the message names the valid budgets.
    """
    limits = budget_limits(architecture, input_spec)
    if limits is None:
        return None
    if limits.relative_gap:
        raise UserError(
            f"budget {limits.budget} of the learned ratios is out of reach: expected {limits}"
        )
    return limits.allowed


def uniform_sizes(architecture: Architecture, input_spec: InputSpec) -> dict[BlockIndex, PartSizes]:
    """Return the sizes that spend the budget with one ratio for all layers, up to the grain.

    Without a budget, or with a static one, return the sizes that learning starts from.

    Raises:
        UserError: The budget cannot be reached.
    """
    blocks = learned_blocks(architecture, input_spec)
    allowed = allowed_macs(architecture, input_spec)
    if allowed is None or blocks[0].learning.budget == "static":
        return {learned.block_index: learned.start for learned in blocks}
    # imports numpy, which spaces without learned ratios do not need
    from partialnas.space.cost.budget_projection import uniform_allocation

    weights = [[1.0] * len(learned.learning.parts) for learned in blocks]
    return uniform_allocation(blocks, weights, allowed)
