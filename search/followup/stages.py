"""Later stages of a study: train some of its networks again, recorded in the same ledger."""

from collections.abc import Mapping

from partialnas.runs.config.design import StudyStage
from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.runs.records.subject import Subject
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.sections import Budget
from partialnas.search.study.study_file import recorded_study
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest


def named_recipe(name: str, study_recipe: Recipe) -> Recipe:
    """Return a named recipe with the `threads` and `keep_weights` of the study's recipe.

    Raises:
        UserError: the name is unknown.
    """
    if name not in RECIPES:
        raise UserError(f"--recipe: unknown recipe {quote(name)}; {suggest(name, RECIPES)}")
    kept = {"threads": study_recipe.threads, "keep_weights": study_recipe.keep_weights}
    return RECIPES[name].model_copy(update=kept)


def resolve_stage(
    recorded: RecordedStudy,
    stage: StudyStage,
    chosen: Mapping[str, Subject],
    task: Task | None = None,
) -> ResolvedStudy:
    """Return a recorded study with the arms and the recipe of a stage, for `run_stage`.

    Args:
        recorded: the study as recorded in its ledger.
        stage: how the arms are trained. A stage that is already recorded keeps its arms and seeds.
        chosen: the arms by name.
        task: task that replaces the one of the condition, if any.

    Raises:
        UserError: the stage is already recorded under another condition.
    """
    study = recorded_study(recorded.frozen)
    protocol = (study.under(stage.condition) if stage.condition else study).protocol
    recipe = Recipe.model_validate(stage.recipe)
    return ResolvedStudy(
        study=study.model_copy(update={"budget": Budget()}),
        conditions=(
            Condition(stage.condition, task or recorded.tasks[stage.condition], recipe, protocol),
        ),
        space=None,
        arms=dict(chosen),
        controls={},
        reference=recorded.reference,
        design=recorded.design,
        stage=_merged(recorded.stages.get(stage.name), stage),
    )


def _merged(recorded: StudyStage | None, stage: StudyStage) -> StudyStage:
    """Return a stage with the arms and seeds that the ledger already records for it."""
    if recorded is None:
        return stage
    if recorded.condition != stage.condition:
        raise UserError(
            f"--condition: the ledger has stage {stage.name} under condition "
            f"{recorded.condition}; use this condition, or another --recipe"
        )
    return recorded.merged_with(stage)
