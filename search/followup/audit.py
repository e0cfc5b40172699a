"""Audit a study's short trainings: train a sample of its networks longer, and repeat them.

The longer trainings, with separate seeds, show how well short trainings rank networks. Repetitions
of every fidelity of the study, with further seeds, estimate the noise that limits any ranking.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from partialnas.runs.config.design import StudyStage
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import Fidelity, RecordedStudy
from partialnas.runs.records.subject import Subject, subject_digest
from partialnas.search.followup.stages import named_recipe, resolve_stage
from partialnas.search.session.run_study import run_stage
from partialnas.search.study.fidelity import resolve_rung
from partialnas.search.study.study_file import recorded_study
from partialnas.space.errors import UserError
from partialnas.space.validation import quote

FIRST_SEED = 20_000
"""First seed of the longer trainings of a study's first audit, above the seeds of studies."""

FIRST_REPEAT = 60_000
"""First seed of the repetitions."""

_SEED_STEP = 1000
"""Difference between the first seeds of two audits or two conditions."""

_LENGTH = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)x|([0-9]{1,6})")


@dataclass(frozen=True, kw_only=True)
class LongerTraining:
    """Trainings of an audit.

    Attributes:
        length: number of epochs, or a multiple of the study's such as `4x`; default: the epochs of
            `recipe`, or `4x` without one.
        recipe: name of a recipe that replaces the study's, if any.
        seeds: number of longer trainings of each network.
        repeats: number of repetitions of each network at every fidelity of the study; at the last
            of several fidelities there is one more.
    """

    length: str | None = None
    recipe: str | None = None
    seeds: int = 2
    repeats: int = 1

    def longer_recipe(self, study_recipe: Recipe) -> Recipe:
        """Return the recipe of the longer trainings.

        Raises:
            UserError: the recipe is unknown, the length is invalid, or the training is not longer
                than the study's.
        """
        recipe = study_recipe if self.recipe is None else named_recipe(self.recipe, study_recipe)
        length = self.length or (None if self.recipe else "4x")
        shorter = study_recipe.epochs
        epochs = recipe.epochs if length is None else _epochs(length, shorter)
        if epochs <= shorter:
            raise UserError(f"--longer: {epochs} epochs are not longer than the study's {shorter}")
        return _without_weights(recipe.model_copy(update={"epochs": epochs}))


def audit(
    folder: Path,
    chosen: Mapping[str, Subject],
    *,
    longer: LongerTraining,
    selection: str,
    condition: str = "",
    base_dir: Path | None = None,
    address: str | None = None,
    console: Console | None = None,
) -> str:
    """Train a sample of networks longer and record the trials in the study's ledger.

    Call it again with the same arguments to resume.

    Args:
        folder: the study's folder.
        chosen: the networks of the sample, by name.
        longer: the trainings of the audit.
        selection: description of how the sample was chosen.
        condition: condition of the study to train under.
        base_dir: folder that the study's relative paths start from; by default the recorded one.
        address: address of a Ray cluster to join, if any.
        console: where to print progress; default: standard error.

    Returns:
        The name of the stage with the longer trainings.

    Raises:
        UserError: the recipe or length is invalid, or another process is running the study.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: Ctrl-C was pressed; all finished trials are in the ledger.
    """
    with Ledger.open(folder) as ledger:
        study = ledger.study
    longer_stage = _longer_stage(study, chosen, longer, selection, condition)
    for stage, task in [(longer_stage, None), *_repeats(study, longer_stage, longer)]:
        with Ledger.open(folder) as ledger:  # reopened: it has recorded the previous stage
            resolved = resolve_stage(ledger.study, stage, chosen, task)
        run_stage(resolved, folder, base_dir=base_dir, address=address, console=console)
    return longer_stage.name


def _longer_stage(
    study: RecordedStudy,
    chosen: Mapping[str, Subject],
    longer: LongerTraining,
    selection: str,
    condition: str,
) -> StudyStage:
    recipe = longer.longer_recipe(study.recipe(condition)).identity_data()
    name = study.longer_audit_name(recipe, condition)
    audits = [*study.longer_audit_stages]
    number = audits.index(name) if name in audits else len(audits)
    return StudyStage(
        name=name,
        recipe=recipe,
        seeds=_seeds(FIRST_SEED, number, longer.seeds),
        chosen=selection,
        origins={name: subject_digest(subject) for name, subject in chosen.items()},
        condition=condition,
        timed=False,
    )


def _repeats(
    study: RecordedStudy, longer_stage: StudyStage, longer: LongerTraining
) -> Iterator[tuple[StudyStage, Task | None]]:
    """Yield the stages that repeat the study's own fidelities, cheapest first."""
    fidelities = study.fidelities(longer_stage.condition) if longer.repeats else ()
    condition = longer_stage.condition
    number = sorted(study.conditions).index(condition) if condition else 0
    for fidelity in fidelities:
        # a search with rungs trains only few networks of the sample at full fidelity
        extra = len(fidelities) > 1 and not fidelity.rung
        recipe, task = _recipe_and_task(study, fidelity, condition)
        changes = {
            "name": fidelity.stage,
            "recipe": _without_weights(recipe).identity_data(),
            "seeds": _seeds(FIRST_REPEAT, number, longer.repeats + extra),
        }
        yield longer_stage.model_copy(update=changes), task


def _recipe_and_task(
    recorded: RecordedStudy, fidelity: Fidelity, condition: str
) -> tuple[Recipe, Task | None]:
    """Return the recipe of a fidelity, and its task if it differs from the condition's."""
    study = recorded_study(recorded.frozen)
    if not fidelity.rung or study.search is None:
        return recorded.recipe(condition), None
    recipe, spec = resolve_rung(study.search.rungs[fidelity.rung - 1], study.recipe, study.task)
    task = recorded.tasks[condition]
    side = {"resolution": spec.resolution} if spec.resolution else {}
    return recipe, task.model_copy(update=side)


def _seeds(first: int, number: int, count: int) -> tuple[int, ...]:
    """Return `count` seeds; each `number` has different ones."""
    start = first + _SEED_STEP * number
    return tuple(range(start, start + count))


def _epochs(length: str, study_epochs: int) -> int:
    match = _LENGTH.fullmatch(length)
    if match is None:
        raise UserError(
            f"--longer: expected epochs such as 40 or a multiple such as 4x, got {quote(length)}"
        )
    return int(match[2]) if match[2] else round(float(match[1]) * study_epochs)


def _without_weights(recipe: Recipe) -> Recipe:
    """Return the recipe without keeping weights, which an audit does not need."""
    return recipe.model_copy(update={"keep_weights": "none"})
