"""Confirmation: chosen arms of a study, trained again with fresh seeds, as a stage of their own.

What a search or a comparison chose looks better than it is, for it was chosen by the same trials
that tell how good it is. Fresh seeds do not know of that choice.
"""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from partialnas.runs.config.design import StudyStage
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import Subject, subject_digest
from partialnas.search.followup.stages import named_recipe, resolve_stage
from partialnas.search.session.run_study import run_stage

FIRST_SEED = 10_000
"""Of every confirmation: no study itself gets so far."""


def confirm(
    folder: Path,
    chosen: Mapping[str, Subject],
    *,
    seeds: int,
    selection: str,
    recipe: str | None = None,
    condition: str = "",
    base_dir: Path = Path(),
    address: str | None = None,
    console: Console | None = None,
) -> StudyStage:
    """Train chosen arms with fresh seeds, into the study's ledger; the same call again carries on.

    Args:
        folder: the study's.
        chosen: what is trained, by what it is called.
        seeds: how many each.
        selection: how they were chosen.
        recipe: a named recipe in the place of the study's.
        condition: of the study that they are trained under.
        base_dir: folder that the study's relative paths start from.
        address: a Ray cluster to join.
        console: where progress goes; standard error unless given.

    Raises:
        UserError: no such recipe, or another driver works on the study.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: Ctrl-C; everything finished is in the ledger.
    """
    with Ledger.open(folder) as ledger:
        study = ledger.study
    own = study.recipe(condition)
    named = own if recipe is None else named_recipe(recipe, own)
    stage = StudyStage(
        name="confirm" if named == own else f"confirm-{recipe}",
        recipe=named.identity_data(),
        seeds=tuple(range(FIRST_SEED, FIRST_SEED + seeds)),
        chosen=selection,
        origins={name: subject_digest(subject) for name, subject in chosen.items()},
        condition=condition,
    )
    prepared = resolve_stage(study, stage, chosen)
    run_stage(prepared, folder, base_dir=base_dir, address=address, console=console)
    return stage
