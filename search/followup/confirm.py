"""Confirm chosen arms: train them again with fresh seeds, as a separate stage of the study.

The values of networks that were chosen by their own trials are optimistic (selection bias). Trials
with fresh seeds are independent of the choice.
"""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from partialnas.runs.config.design import StudyStage
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import Subject, subject_digest
from partialnas.search.followup.stages import named_recipe, resolve_stage
from partialnas.search.session.run_study import run_stage
from partialnas.search.study.directions import check_directions
from partialnas.search.study.study_file import recorded_study

FIRST_SEED = 10_000
"""First seed of every confirmation, above the seeds of studies."""


def confirm(
    folder: Path,
    chosen: Mapping[str, Subject],
    *,
    seeds: int,
    selection: str,
    recipe: str | None = None,
    condition: str = "",
    base_dir: Path | None = None,
    address: str | None = None,
    console: Console | None = None,
) -> StudyStage:
    """Train chosen arms with fresh seeds and record them in the study's ledger.

    Call it again with the same arguments to resume.

    Args:
        folder: the study's folder.
        chosen: the networks to train, by name.
        seeds: number of seeds for each network.
        selection: description of how the networks were chosen.
        recipe: name of a recipe that replaces the study's, if any.
        condition: condition of the study to train under.
        base_dir: folder that the study's relative paths start from; by default the recorded one.
        address: address of a Ray cluster to join, if any.
        console: where to print progress; default: standard error.

    Returns:
        The stage with the new trials.

    Raises:
        UserError: the recipe is unknown, another process is running the study, or the study favors
            worse networks, so that its front is no choice to confirm.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: Ctrl-C was pressed; all finished trials are in the ledger.
    """
    with Ledger.open(folder) as ledger:
        study = ledger.study
    check_directions(recorded_study(study.frozen))
    study_recipe = study.recipe(condition)
    stage_recipe = study_recipe if recipe is None else named_recipe(recipe, study_recipe)
    stage = StudyStage(
        name="confirm" if stage_recipe == study_recipe else f"confirm-{recipe}",
        recipe=stage_recipe.identity_data(),
        seeds=tuple(range(FIRST_SEED, FIRST_SEED + seeds)),
        chosen=selection,
        origins={name: subject_digest(subject) for name, subject in chosen.items()},
        condition=condition,
    )
    resolved = resolve_stage(study, stage, chosen)
    run_stage(resolved, folder, base_dir=base_dir, address=address, console=console)
    return stage
