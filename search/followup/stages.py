"""Later stages of a study: some of its networks, trained again otherwise, in the same ledger."""

import json
from collections.abc import Mapping

from partialnas.runs.config.design import StudyStage, design_of, stages_of
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.study_meta import settings_under, task_under
from partialnas.runs.records.subject import Subject, parse_subject
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.study.condition import Condition
from partialnas.search.study.sections import Budget
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError


def study_from_meta(meta: Mapping[str, str]) -> Study:
    """The study of a ledger."""
    return Study.model_validate_json(meta["frozen"])


def recipe_under(meta: Mapping[str, str], condition: str) -> Recipe:
    """How a study trains under one of its conditions."""
    return Recipe.model_validate(settings_under(json.loads(meta["frozen"]), condition)["recipe"])


def named_recipe(name: str, own: Recipe) -> Recipe:
    """A named recipe, on as many threads as the study's.

    Raises:
        UserError: there is no such recipe.
    """
    if name not in RECIPES:
        raise UserError(f"--recipe: there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    kept = {"threads": own.threads, "keep_weights": own.keep_weights}
    return RECIPES[name].model_copy(update=kept)


def resolve_stage(
    meta: Mapping[str, str],
    stage: StudyStage,
    chosen: Mapping[str, Subject],
    task: Task | None = None,
) -> ResolvedStudy:
    """What `run_stage` takes: the study of a ledger with a stage's arms and recipe.

    Args:
        meta: of the ledger.
        stage: how the arms are trained; one that was begun keeps the arms and seeds that it has.
        chosen: the arms, by what they are called.
        task: in the place of the condition's.

    Raises:
        UserError: the stage was begun under another condition.
    """
    study, frozen = study_from_meta(meta), json.loads(meta["frozen"])
    protocol = Protocol.model_validate(settings_under(frozen, stage.condition)["measure"])
    own = task_under(json.loads(meta["task"]), stage.condition)
    how = Condition(stage.condition, task or own, Recipe.model_validate(stage.recipe), protocol)
    return ResolvedStudy(
        study=study.model_copy(update={"budget": Budget()}),
        conditions=(how,),
        base=study.base,
        space=None,
        arms=dict(chosen),
        controls={},
        reference=parse_subject(json.loads(meta["reference"])),
        design=design_of(meta),
        stage=_joined(stages_of(meta).get(stage.name), stage),
    )


def _joined(before: StudyStage | None, now: StudyStage) -> StudyStage:
    """A stage that was begun with other arms or fewer seeds keeps what it has."""
    if before is None:
        return now
    if before.condition != now.condition:
        raise UserError(
            f"--condition: the stage {now.name} was begun under {before.condition}: choose that "
            "one, or name another --recipe"
        )
    return before.merged_with(now)
