"""Audits: a sample of a study's networks, trained longer, and again as the study trained them.

How far a short training ranks networks as a longer one does is seen only where both are known. The
sample is trained longer with seeds of its own, and with further seeds by every fidelity that the
study has: their differences are the noise that no ranking can see through.
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
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError

FIRST_SEED = 20_000
"""Of the longer trainings of a study's first audit: no study itself gets so far."""

FIRST_REPEAT = 60_000
"""Of further trainings by the study's own fidelities: other seeds than the longer ones."""

_APART = 1000
"""Seeds from one audit to the next, and from one condition to the next."""

_LONGER = re.compile(r"(\d+(?:\.\d+)?)x|(\d+)")


@dataclass(frozen=True, kw_only=True)
class LongerTraining:
    """What an audit trains.

    Attributes:
        length: epochs, or how many times the study's, as `4x`; without it those of the recipe
            named, or else four times the study's.
        recipe: a named recipe in the place of the study's.
        seeds: longer trainings of each network.
        repeats: further trainings of each network by every fidelity of the study, and one more by
            the last of several.
    """

    length: str | None = None
    recipe: str | None = None
    seeds: int = 2
    repeats: int = 1

    def longer_recipe(self, own: Recipe) -> Recipe:
        """How networks are trained longer.

        Raises:
            UserError: there is no such recipe or length, or it is no longer than the study's.
        """
        named = own if self.recipe is None else named_recipe(self.recipe, own)
        length = self.length or (None if self.recipe else "4x")
        epochs = named.epochs if length is None else _epochs(length, own.epochs)
        if epochs <= own.epochs:
            raise UserError(
                f"--longer: {epochs} epochs are no longer training than the study's {own.epochs}"
            )
        return _unkept(named.model_copy(update={"epochs": epochs}))


def audit(
    folder: Path,
    chosen: Mapping[str, Subject],
    *,
    longer: LongerTraining,
    selection: str,
    condition: str = "",
    base_dir: Path = Path(),
    address: str | None = None,
    console: Console | None = None,
) -> str:
    """Train a sample longer, into the study's ledger; the same call again carries on.

    Args:
        folder: the study's.
        chosen: the sample, by what each network is called.
        longer: how, and how often.
        selection: how it was chosen.
        condition: of the study that it is trained under.
        base_dir: folder that the study's relative paths start from.
        address: a Ray cluster to join.
        console: where progress goes; standard error unless given.

    Returns:
        The name of the stage that holds the longer trainings.

    Raises:
        UserError: no such recipe or length, or another driver works on the study.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: Ctrl-C; everything finished is in the ledger.
    """
    with Ledger.open(folder) as ledger:
        study = ledger.study
    stage = _longer_stage(study, chosen, longer, selection, condition)
    for each, task in [(stage, None), *_repeats(study, stage, longer)]:
        with Ledger.open(folder) as ledger:  # which knows the stage before by now
            prepared = resolve_stage(ledger.study, each, chosen, task)
        run_stage(prepared, folder, base_dir=base_dir, address=address, console=console)
    return stage.name


def _longer_stage(
    study: RecordedStudy,
    chosen: Mapping[str, Subject],
    longer: LongerTraining,
    words: str,
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
        chosen=words,
        origins={name: subject_digest(subject) for name, subject in chosen.items()},
        condition=condition,
        timed=False,
    )


def _repeats(
    study: RecordedStudy, longer: StudyStage, how: LongerTraining
) -> Iterator[tuple[StudyStage, Task | None]]:
    """The stages of further trainings by the study's own fidelities, from cheap to dear."""
    ways = study.fidelities(longer.condition) if how.repeats else ()
    conditions = sorted(study.conditions)
    number = conditions.index(longer.condition) if longer.condition else 0
    for fidelity in ways:
        # few of a sample were trained in full by a search that has rungs
        seldom = len(ways) > 1 and not fidelity.rung
        recipe, task = _trained(study, fidelity, longer.condition)
        changes = {
            "name": fidelity.stage,
            "recipe": _unkept(recipe).identity_data(),
            "seeds": _seeds(FIRST_REPEAT, number, how.repeats + seldom),
        }
        yield longer.model_copy(update=changes), task


def _trained(
    recorded: RecordedStudy, fidelity: Fidelity, condition: str
) -> tuple[Recipe, Task | None]:
    """The recipe of a fidelity, and its task where that is another than the condition's."""
    study = Study.model_validate(recorded.frozen)
    if not fidelity.rung or study.search is None:
        return recorded.recipe(condition), None
    recipe, spec = resolve_rung(study.search.rungs[fidelity.rung - 1], study.recipe, study.task)
    task = recorded.tasks[condition]
    side = {"resolution": spec.resolution} if spec.resolution else {}
    return recipe, task.model_copy(update=side)


def _seeds(first: int, number: int, count: int) -> tuple[int, ...]:
    """So many seeds, other ones for every number."""
    start = first + _APART * number
    return tuple(range(start, start + count))


def _epochs(length: str, own: int) -> int:
    found = _LONGER.fullmatch(length)
    if found is None:
        raise UserError(f"--longer: expected epochs, as 40, or a multiple, as 4x; got {length!r}")
    return int(found[2]) if found[2] else round(float(found[1]) * own)


def _unkept(recipe: Recipe) -> Recipe:
    """The same, without weights on disk: nobody asks for those of an audit."""
    return recipe.model_copy(update={"keep_weights": "none"})
