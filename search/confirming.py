"""Confirmation: chosen arms of a study, trained again with fresh seeds, as a stage of their own.

What a search or a comparison chose looks better than it is, for it was chosen by the same trials
that tell how good it is. Fresh seeds do not know of that choice.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from partialnas.runs.conditions import settings_under, task_under
from partialnas.runs.design import Stage, design_of, stages_of
from partialnas.runs.ledger import Ledger
from partialnas.runs.measurement import Protocol
from partialnas.runs.recipe import RECIPES, Recipe
from partialnas.runs.subject import Subject, subject_digest, subject_from
from partialnas.search.condition import Condition
from partialnas.search.prepared import Prepared
from partialnas.search.runner import run_stage
from partialnas.search.specs import Budget
from partialnas.search.study import Study
from partialnas.space.errors import UserError

FIRST_SEED = 10_000
"""Of every confirmation: no study itself gets so far."""


def confirm(
    folder: Path,
    chosen: Mapping[str, Subject],
    *,
    seeds: int,
    words: str,
    recipe: str | None = None,
    condition: str = "",
    beside: Path = Path(),
    address: str | None = None,
    console: Console | None = None,
) -> Stage:
    """Train chosen arms with fresh seeds, into the study's ledger; the same call again carries on.

    Args:
        folder: the study's.
        chosen: what is trained, by what it is called.
        seeds: how many each.
        words: how they were chosen.
        recipe: a named recipe in the place of the study's.
        condition: of the study that they are trained under.
        beside: folder that the study's relative paths start from.
        address: a Ray cluster to join.
        console: where progress goes; standard error unless given.

    Raises:
        UserError: no such recipe, or another driver works on the study.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: Ctrl-C; everything finished is in the ledger.
    """
    with Ledger.open(folder) as ledger:
        meta = ledger.meta
    study = Study.model_validate_json(meta["frozen"])
    settings = settings_under(json.loads(meta["frozen"]), condition)
    own = Recipe.model_validate(settings["recipe"])
    named = own if recipe is None else _named(recipe, own)
    stage = Stage(
        name="confirm" if named == own else f"confirm-{recipe}",
        recipe=named.model_dump(mode="json"),
        seeds=tuple(range(FIRST_SEED, FIRST_SEED + seeds)),
        chosen=words,
        origins={name: subject_digest(subject) for name, subject in chosen.items()},
        condition=condition,
    )
    task = task_under(json.loads(meta["task"]), condition)
    how = Condition(condition, task, named, Protocol.model_validate(settings["measure"]))
    prepared = Prepared(
        study=study.model_copy(update={"budget": Budget()}),
        conditions=(how,),
        base=study.base,
        space=None,
        arms=dict(chosen),
        controls={},
        reference=subject_from(json.loads(meta["reference"])),
        design=design_of(meta),
        stage=_joined(stages_of(meta).get(stage.name), stage),
    )
    run_stage(prepared, folder, beside=beside, address=address, console=console)
    return stage


def _named(name: str, own: Recipe) -> Recipe:
    """A named recipe, on as many threads as the study's."""
    if name not in RECIPES:
        raise UserError(f"--recipe: there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    kept = {"threads": own.threads, "keep_weights": own.keep_weights}
    return RECIPES[name].model_copy(update=kept)


def _joined(before: Stage | None, now: Stage) -> Stage:
    """A stage that was begun with other arms or fewer seeds keeps what it has."""
    if before is None:
        return now
    if before.condition != now.condition:
        raise UserError(
            f"--condition: the stage {now.name} was begun under {before.condition}: confirm that "
            "one, or name another --recipe"
        )
    kept = {
        "seeds": max(before.seeds, now.seeds, key=len),
        "origins": {**before.origins, **now.origins},
        "chosen": ", then ".join(dict.fromkeys([*before.chosen.split(", then "), now.chosen])),
    }
    return now.model_copy(update=kept)
