"""Later stages of a study: some of its networks, trained again otherwise, in the same ledger."""

from collections.abc import Mapping

from partialnas.runs.config.design import StudyStage
from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.runs.records.subject import Subject
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.sections import Budget
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError


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
    recorded: RecordedStudy,
    stage: StudyStage,
    chosen: Mapping[str, Subject],
    task: Task | None = None,
) -> ResolvedStudy:
    """What `run_stage` takes: the study of a ledger with a stage's arms and recipe.

    Args:
        recorded: the study as its ledger records it.
        stage: how the arms are trained; one that was begun keeps the arms and seeds that it has.
        chosen: the arms, by what they are called.
        task: in the place of the condition's.

    Raises:
        UserError: the stage was begun under another condition.
    """
    study = Study.model_validate(recorded.frozen)
    recorded_task, _, protocol = recorded.under(stage.condition)
    how = Condition(
        stage.condition, task or recorded_task, Recipe.model_validate(stage.recipe), protocol
    )
    return ResolvedStudy(
        study=study.model_copy(update={"budget": Budget()}),
        conditions=(how,),
        base=study.base,
        space=None,
        arms=dict(chosen),
        controls={},
        reference=recorded.reference,
        design=recorded.design,
        stage=_joined(recorded.stages.get(stage.name), stage),
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
