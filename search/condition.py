"""Conditions: under which task, recipe and protocol an arm is trained and timed."""

from dataclasses import dataclass

from partialnas.runs.measurement import Protocol
from partialnas.runs.recipe import Recipe
from partialnas.runs.task import Task


@dataclass(frozen=True)
class Condition:
    """How networks are trained and timed: of a study without conditions, the one way it has.

    Attributes:
        name: as the study calls it; empty where it names none.
        task: what is learned.
        recipe: how.
        protocol: how the speed of what comes of it is measured.
    """

    name: str
    task: Task
    recipe: Recipe
    protocol: Protocol
