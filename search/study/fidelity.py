"""Fidelities: in what the rungs of a search differ, and whether they go from cheap to dear."""

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from partialnas.runs.config.overrides import PlainData
from partialnas.runs.config.recipe import Recipe
from partialnas.search.study.sections import FIDELITIES, PromotionScheme, SearchSpec, TaskSpec
from partialnas.space.errors import UserError
from partialnas.space.values import validate_as

_EPOCHS, _DATA, _WIDTH, _RESOLUTION = FIDELITIES
_IN_RECIPE = "recipe."


def resolve_rung(rung: PlainData, recipe: Recipe, task: TaskSpec) -> tuple[Recipe, TaskSpec]:
    """The recipe and the task of a rung.

    Args:
        rung: its settings, as a search states them.
        recipe: of the study, which is that of the last rung.
        task: likewise.

    Raises:
        UserError: no recipe has such settings.
    """
    changes = {k.removeprefix(_IN_RECIPE): v for k, v in rung.items() if k.startswith(_IN_RECIPE)}
    changed = validate_as(Recipe, {**recipe.model_dump(), **changes}, "no recipe")
    side = {"resolution": rung[_RESOLUTION]} if _RESOLUTION in rung else {}
    return changed, validate_as(TaskSpec, {**task.model_dump(), **side}, "no task")


def resolve_scheme(search: SearchSpec, recipe: Recipe, *, has_user_function: bool) -> PromotionScheme:
    """How networks that go on to the next rung are trained there.

    Unless the search says so or not, they continue their shorter training wherever they can: the
    result is the same.

    Args:
        search: that may have rungs.
        recipe: of the last rung.
        has_user_function: whether a function stands in for training.
    """
    if search.scheme is not None:
        return search.scheme
    alike = recipe.schedule == "trapezoid" and not has_user_function and not _beside_epochs(search)
    return "cool-down" if search.rungs and alike else "restart"


def rung_errors(
    search: SearchSpec, recipe: Recipe, task: TaskSpec, *, has_user_function: bool
) -> list[str]:
    """What is wrong with the rungs of a search, one sentence each.

    Args:
        search: with rungs.
        recipe: of the last rung.
        task: of the last rung.
        has_user_function: whether a function stands in for training, which is told epochs alone.
    """
    told = _by_epochs(search, recipe, stands_in=has_user_function)
    costs: dict[str, dict[str, float | Fraction]] = {}
    for number, rung in enumerate((*search.rungs, {}), start=1):
        name = f"rungs: {number}" if rung else "the study's own"
        try:
            costs[name] = _costs(*resolve_rung(rung, recipe, task))
        except UserError as error:
            told.append(f"{name}: {error}")
    return told + [told for low, high in pairwise(costs) for told in _cheaper(low, high, costs)]


def _cheaper(
    name: str, above: str, costs: Mapping[str, Mapping[str, float | Fraction]]
) -> Iterator[str]:
    """What is wrong with a rung beside the next one."""
    low, high = costs[name], costs[above]
    for key in low:
        if low[key] > high[key]:
            yield f"{name}: {key}: {low[key]} is more than {high[key]} of {above}"
    if low == high:
        yield f"{name}: trains as {above} does"


def _by_epochs(search: SearchSpec, recipe: Recipe, *, stands_in: bool) -> list[str]:
    """What is wrong where rungs may differ in epochs alone."""
    told = []
    if search.scheme == "cool-down" and recipe.schedule != "trapezoid":
        told.append("scheme: cool-down needs recipe.schedule: trapezoid")
    why = "scheme: cool-down" if search.scheme == "cool-down" else "a trial function"
    if search.scheme == "cool-down" or stands_in:
        others = _beside_epochs(search)
        told += [f"rungs: {key}: with {why} rungs differ in {_EPOCHS} alone" for key in others]
    return told


def _beside_epochs(search: SearchSpec) -> list[str]:
    """In what else than epochs the rungs of a search differ."""
    return sorted({key for rung in search.rungs for key in rung} - {_EPOCHS})


def _costs(recipe: Recipe, task: TaskSpec) -> dict[str, float | Fraction]:
    """All that a rung may have less of; a resolution that is not stated is the data's own."""
    return {
        _EPOCHS: recipe.epochs,
        _DATA: recipe.data_share,
        _WIDTH: recipe.width_share,
        _RESOLUTION: task.resolution or math.inf,
    }


def min_trials_per_rung(rungs: int, promote: Fraction, seeds: int) -> list[int]:
    """Trainings on each rung, the last included, until a first network is trained in full.

    Args:
        rungs: how many there are below the last.
        promote: share of a rung's networks that go on.
        seeds: trainings of a network on the last rung.
    """
    needed = [1]
    for _ in range(rungs):
        needed.insert(0, math.ceil(needed[0] / promote))
    return [*needed[:-1], seeds]


def rung_shares(rungs: int, promote: Fraction, seeds: int) -> Sequence[float]:
    """The share of all trainings that each rung has in the long run, the last one's included."""
    weights = [float(promote) ** rung for rung in range(rungs)]
    weights.append(float(promote) ** rungs * seeds)
    return [weight / sum(weights) for weight in weights]
