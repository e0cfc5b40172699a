"""Conditions: under which task, recipe and protocol a network is trained and timed."""

from dataclasses import dataclass
from functools import cached_property

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task


@dataclass(frozen=True)
class Condition:
    """How networks are trained and timed: of a study without conditions, the one way it has.

    Attributes:
        name: as the study calls it; empty where it names none.
        task: what is learned.
        recipe: how.
        protocol: how the speed of what comes of it is measured.
        rung: of a search in several fidelities, what records say of the rung below the last that
            this is; empty where what is reached is final.
        branches: whether trainings of other lengths share the trunk of these.
        full_fidelity: the last rung, of one below it: there its networks are timed.
    """

    name: str
    task: Task
    recipe: Recipe
    protocol: Protocol
    rung: str = ""
    branches: bool = False
    full_fidelity: "Condition | None" = None

    @cached_property
    def _hash(self) -> int:
        values = (self.name, self.task, self.recipe, self.protocol, self.rung, self.branches)
        return hash((*values, self.full_fidelity))

    def __hash__(self) -> int:
        return self._hash  # asked for once a network, and its values hash all of their fields
