"""Run every timm model of a study once: whether it can be trained is not known by formula."""

from collections.abc import Iterator
from itertools import product

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.subject import TimmModel
from partialnas.runs.trials.build import check_trainable
from partialnas.search.resolve.resolve import check_reference
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.space.errors import UserError


def check_networks(resolved: ResolvedStudy) -> None:
    """Check that all timm models among the arms can be trained, and the reference measured.

    Raises:
        UserError: some cannot; the message lists them with their reasons.
        MachineError: the device is missing or out of memory.
    """
    errors = [*_arm_errors(resolved)]
    try:
        check_reference(resolved)
    except UserError as error:
        errors.append(f"reference: {error}")
    if errors:
        raise UserError("the study cannot run:\n  " + "\n  ".join(errors))


def _arm_errors(resolved: ResolvedStudy) -> Iterator[str]:
    results: dict[tuple[TimmModel, Task, Recipe], str] = {}
    for (name, subject), condition in product(resolved.arms.items(), resolved.conditions):
        if not isinstance(subject, TimmModel):
            continue
        key = subject, condition.task, resolved.arm_condition(name, condition).recipe
        if key not in results:
            results[key] = _error(*key)
        if results[key]:
            under = f" under {condition.name}" if condition.name else ""
            yield f"arms.{name}{under}: {results[key]}"


def _error(model: TimmModel, task: Task, recipe: Recipe) -> str:
    try:
        check_trainable(model, task, recipe)
    except UserError as error:
        return str(error)
    return ""
