"""Feasibility: which choices of a space build a network within its constraints."""

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.axes.choices import Choice, ChoiceTree
from partialnas.space.axes.decoder import Assignment, Decoder
from partialnas.space.cost.constraints import Constraints
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.formulas import NetworkCost
from partialnas.space.cost.mac_budget import budget_limits
from partialnas.space.errors import UserError

_UNREACHABLE_BUDGET = 1e6
"""Violation of an unreachable budget, above that of any network with a cost."""


class FeasibleSet:
    """Choices, and the constraints that the networks built from them must satisfy.

    Attributes:
        decoder: builds an architecture from chosen levels.
        choice_tree: the choices, in the order in which they are made.
        constraints: bounds on the cost of a network.
        input_spec: shape of the images and number of classes, on which costs depend.
        constrained: whether a network whose blocks can all be built may still be infeasible.
    """

    def __init__(self, decoder: Decoder, constraints: Constraints, input_spec: InputSpec) -> None:
        self.decoder = decoder
        self.choice_tree = ChoiceTree(decoder)
        self.constraints = constraints
        self.input_spec = input_spec
        self.constrained = any(constraints.stated()) or decoder.may_conflict

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All choices, active or not, in the order in which they are made and encoded."""
        return self.choice_tree.choices

    def cost(self, architecture: Architecture) -> NetworkCost:
        """Return the cost of an architecture at the space's input and number of classes.

        Raises:
            UserError: the budget of its learned ratios is out of reach.
        """
        return compute_cost(architecture, self.input_spec)

    def total_violation(self, architecture: Architecture) -> float:
        """Return how far an architecture is from the constraints and a reachable budget.

        0 for an architecture that satisfies them.
        """
        budget = budget_limits(architecture, self.input_spec)
        if budget is not None and budget.relative_gap:
            return _UNREACHABLE_BUDGET + budget.relative_gap
        bounded = any(self.constraints.stated())
        return self.constraints.total_violation(self.cost(architecture)) if bounded else 0.0

    def satisfies(self, architecture: Architecture) -> bool:
        """Return whether an architecture satisfies the constraints."""
        return not self.constrained or not self.total_violation(architecture)

    def feasible_architecture(self, chosen: Assignment) -> Architecture | None:
        """Return the architecture of these choices, or None if it is infeasible."""
        try:
            architecture = self.decoder.architecture(chosen)
        except UserError:
            return None
        return architecture if self.satisfies(architecture) else None
