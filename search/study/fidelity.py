"""Training conditions and rungs: the task, recipe and protocol that networks are trained under."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

from partialnas.runs.config.overrides import PlainData
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.search.study.sections import FIDELITIES, PromotionScheme, SearchSpec, TaskSpec
from partialnas.space.errors import UserError
from partialnas.space.values import validate_as

_EPOCHS, *_, _RESOLUTION = FIDELITIES
_RECIPE = "recipe."

_Costs = dict[str, float | Fraction]
"""The value of each fidelity."""


@dataclass(frozen=True)
class Condition:
    """How networks are trained and timed; a study without `conditions` has exactly one.

    Attributes:
        name: the key in the study; empty for the only condition of a study without `conditions`.
        task: what is learned.
        recipe: how it is trained.
        protocol: how its speed is measured.
        rung: for a rung below the last, its description in the records; else empty.
        branches: whether trainings of other lengths share the trunk of these trainings.
        full_fidelity: for a rung below the last, the last rung, where networks are timed.
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
        return self._hash  # cached: it hashes every field of the task, recipe and protocol


def resolve_rung(rung: PlainData, recipe: Recipe, task: TaskSpec) -> tuple[Recipe, TaskSpec]:
    """Return the recipe and the task of a rung.

    Args:
        rung: settings of the rung, as listed in the study.
        recipe: the study's recipe.
        task: the study's task.

    Raises:
        UserError: the settings are not valid in a recipe or task.
    """
    changes = {k.removeprefix(_RECIPE): v for k, v in rung.items() if k.startswith(_RECIPE)}
    changed = validate_as(Recipe, {**recipe.model_dump(), **changes}, "invalid recipe")
    side = {"resolution": rung[_RESOLUTION]} if _RESOLUTION in rung else {}
    return changed, validate_as(TaskSpec, {**task.model_dump(), **side}, "invalid task")


def resolve_scheme(
    search: SearchSpec, recipe: Recipe, *, has_user_function: bool
) -> PromotionScheme:
    """Return how promoted networks are trained on the next rung.

    Unless the study states a scheme, training continues from the shorter training wherever
    possible, because the result is the same.

    Args:
        search: the study's search.
        recipe: the study's recipe.
        has_user_function: whether a user function replaces training.
    """
    if search.scheme is not None:
        return search.scheme
    trunk = recipe.schedule == "trapezoid" and not has_user_function and not _other_keys(search)
    return "cool-down" if search.rungs and trunk else "restart"


def rung_errors(
    search: SearchSpec, recipe: Recipe, task: TaskSpec, *, has_user_function: bool
) -> list[str]:
    """Return the errors in the rungs of a search, one sentence each.

    Args:
        search: a search with rungs.
        recipe: the study's recipe.
        task: the study's task.
        has_user_function: whether a user function replaces training; it only receives epochs.
    """
    messages = _scheme_errors(search, recipe, has_user_function=has_user_function)
    costs: list[tuple[str, _Costs]] = []
    for number, rung in enumerate((*search.rungs, {}), start=1):
        name = f"rungs: {number}" if rung else "the study's own settings"
        try:
            costs.append((name, _costs(*resolve_rung(rung, recipe, task))))
        except UserError as error:
            messages.append(f"{name}: {error}")
    return messages + [line for one, two in pairwise(costs) for line in _compare(*one, *two)]


def _compare(name: str, low: _Costs, next_name: str, high: _Costs) -> Iterator[str]:
    """Yield what makes a rung no cheaper than the next one."""
    for key in low:
        if low[key] > high[key]:
            yield f"{name}: {key}: {low[key]} is more than {high[key]} in {next_name}"
    if low == high:
        yield f"{name}: same fidelity as {next_name}; reduce one of {', '.join(FIDELITIES)}"


def _scheme_errors(search: SearchSpec, recipe: Recipe, *, has_user_function: bool) -> list[str]:
    """Return what conflicts with a cool-down scheme or a user function."""
    messages = []
    if search.scheme == "cool-down" and recipe.schedule != "trapezoid":
        messages.append("scheme: cool-down needs recipe.schedule: trapezoid")
    reason = "scheme: cool-down" if search.scheme == "cool-down" else "a trial function"
    if search.scheme == "cool-down" or has_user_function:
        limit = f"with {reason}, rungs may only differ in {_EPOCHS}"
        messages += [f"rungs: {key}: {limit}" for key in _other_keys(search)]
    return messages


def _other_keys(search: SearchSpec) -> list[str]:
    """Return the keys other than epochs that the rungs of a search set."""
    return sorted({key for rung in search.rungs for key in rung} - {_EPOCHS})


def _costs(recipe: Recipe, task: TaskSpec) -> _Costs:
    """Return the value of each fidelity; the data set's own resolution counts as infinite."""
    values = recipe.epochs, recipe.data_share, recipe.width_share, task.resolution or math.inf
    return dict(zip(FIDELITIES, values, strict=True))


def min_trials_per_rung(rungs: int, promote: Fraction, seeds: int) -> list[int]:
    """Return the trials on each rung, the last included, until one network is trained in full.

    Args:
        rungs: number of rungs below the last.
        promote: share of a rung's networks that are promoted.
        seeds: number of seeds on the last rung.
    """
    needed = [1]
    for _ in range(rungs):
        needed.insert(0, math.ceil(needed[0] / promote))
    return [*needed[:-1], seeds]


def rung_shares(rungs: int, promote: Fraction, seeds: int) -> Sequence[float]:
    """Return the long-run share of all trials that each rung has, the last included."""
    weights = [float(promote) ** rung for rung in range(rungs)]
    weights.append(float(promote) ** rungs * seeds)
    return [weight / sum(weights) for weight in weights]
