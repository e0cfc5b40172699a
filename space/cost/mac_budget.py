"""Budgets of learned ratios: what they allow, and whether that is in reach.

All counts are multiply-accumulates for one image, as fvcore counts them (see `formulas`).
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.cost.formulas import cost_rows, sum_costs
from partialnas.space.cost.learned_blocks import BlockIndex, PartSizes, learned_blocks, mac_range
from partialnas.space.errors import UserError


@dataclass(frozen=True)
class BudgetLimits:
    """What a budget allows the mixers with learned ratios, beside what they can cost.

    Attributes:
        budget: as it was stated.
        allowed: what they may cost together.
        min_macs: the least that they can cost.
        max_macs: the most that they can cost.
        dense: what they would cost as 3x3 convolutions over all channels.
        fixed: what the rest of the network costs.
    """

    budget: Fraction | int | str
    allowed: int
    min_macs: int
    max_macs: int
    dense: int
    fixed: int

    @property
    def relative_gap(self) -> float:
        """How far, relatively, the budget is out of reach; 0 where it is in reach.

        A share above all that can be spent is in reach: it is spent as far as possible.
        """
        if self.allowed < self.min_macs:
            return self.min_macs / max(self.allowed, 1) - 1
        shared = isinstance(self.budget, Fraction)
        return 0.0 if shared else max(self.allowed / max(self.max_macs, 1) - 1, 0.0)

    def __str__(self) -> str:
        """The budgets that are in reach."""
        everything = (
            f"a whole number from {self.fixed + self.min_macs:,} to {self.fixed + self.max_macs:,} "
            "multiply-accumulates of the network"
        )
        share = Fraction(ceil(Fraction(1000 * self.min_macs, self.dense)), 1000)
        if share >= 1:
            return everything
        return (
            f"a share from {float(max(share, Fraction(1, 1000))):.3f} to below 1, or {everything}"
        )


def budget_limits(architecture: Architecture, input_spec: InputSpec) -> BudgetLimits | None:
    """What the budget of the learned ratios allows; None without learned ratios or a budget."""
    found = learned_blocks(architecture, input_spec)
    budget = found[0].learning.parsed_budget if found else None
    if budget is None:
        return None
    dense, start = sum(slot.dense_macs for slot in found), sum(slot.macs(slot.start) for slot in found)
    built = cost_rows(architecture, architecture.realized, input_spec)
    fixed = sum_costs(built).macs - start
    if isinstance(budget, str):
        allowed = start
    else:
        allowed = int(budget * dense) if isinstance(budget, Fraction) else budget - fixed
    return BudgetLimits(budget, allowed, *mac_range(found), dense, fixed)


def allowed_macs(architecture: Architecture, input_spec: InputSpec) -> int | None:
    """What the mixers with learned ratios may cost together; None without a budget.

    Raises:
        UserError: the budget is out of reach; tells the range that is not.
    """
    found = budget_limits(architecture, input_spec)
    if found is None:
        return None
    if found.relative_gap:
        raise UserError(
            f"budget {found.budget} of the learned ratios is out of reach: expected {found}"
        )
    return found.allowed


def uniform_sizes(architecture: Architecture, input_spec: InputSpec) -> dict[BlockIndex, PartSizes]:
    """The sizes that spend the budget with the same ratio in all layers, as far as the grain lets.

    Without a budget, or with a static one, those that learning starts from.

    Raises:
        UserError: the budget is out of reach.
    """
    found = learned_blocks(architecture, input_spec)
    allowed = allowed_macs(architecture, input_spec)
    if allowed is None or found[0].learning.budget == "static":
        return {slot.block_index: slot.start for slot in found}
    from partialnas.space.cost.budget_projection import (
        uniform_allocation,  # takes numpy, which other spaces need not load
    )

    return uniform_allocation(found, [[1.0] * len(slot.learning.parts) for slot in found], allowed)
