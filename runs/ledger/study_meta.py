"""The conditions of a study, as its ledger remembers them: plain data, no torch."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from partialnas.runs.config.design import StudyStage, stages_of
from partialnas.runs.config.overrides import apply_overrides
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.rows import ProposalKey, ProposalRow


def condition_of(proposal: ProposalRow | ProposalKey) -> str:
    """The condition that the trials of a proposal run under; empty where there is none."""
    return str(proposal.proposal.get("condition", "")) if proposal.arm is not None else ""


def stage_of(proposal: ProposalRow | ProposalKey) -> str:
    """The later stage of a study that a proposal belongs to; empty for the study itself."""
    return str(proposal.proposal.get("stage", "")) if proposal.arm is not None else ""


def rung_of(proposal: ProposalRow | ProposalKey) -> int:
    """The rung that a searched network is to be trained on, from 1: where it is not promoted, 1."""
    if proposal.arm is not None or '"rung"' not in proposal.proposal_json:
        return 1
    return int(proposal.proposal.get("rung", 1))


def settings_under(study: dict[str, Any], condition: str) -> dict[str, dict[str, Any]]:
    """A frozen study's `task`, `recipe` and `measure`, those of a condition in their place."""
    own = {part: study.get(part) or {} for part in ("task", "recipe", "measure")}
    return apply_overrides(own, study.get("conditions", {}).get(condition, {}))


def task_under(task: dict[str, Any], condition: str) -> Task:
    """The task of a condition, out of what a ledger says under `task`: one, or one for each."""
    return Task.model_validate(task[condition] if condition else task)


def task_identities(tasks: dict[str, Any]) -> dict[str, Any]:
    """The tasks of a ledger, one or one for each condition, without where their data lie."""
    if isinstance(tasks.get("data"), str):
        return Task.model_validate(tasks).identity()
    return {name: Task.model_validate(task).identity() for name, task in tasks.items()}


_AUDIT = "audit"
_REPEAT = "audit-proxy"


class Fidelity(NamedTuple):
    """One way in which a study trains networks.

    Attributes:
        rung: of its search, from 1; 0 for the study's own, which is the last.
        name: what it is called, as `4 epochs`.
        stage: the stage that holds further trainings by it for an audit.
    """

    rung: int
    name: str
    stage: str


def fidelities(meta: Mapping[str, str], condition: str) -> tuple[Fidelity, ...]:
    """How a study trains networks, from cheap to dear."""
    study = json.loads(meta.get("frozen", "{}"))
    rungs = ((study.get("search") or {}).get("rungs") or ()) if not condition else ()
    own = int(settings_under(study, condition)["recipe"].get("epochs", 1))
    below = [
        Fidelity(rung, _told(settings, own), f"{_REPEAT}-rung-{rung}")
        for rung, settings in enumerate(rungs, start=1)
    ]
    last = f"{_REPEAT}-{condition}" if condition else _REPEAT
    return (*below, Fidelity(0, format_epochs(own), last))


def _told(settings: Mapping[str, Any], own: int) -> str:
    """A rung in words, as `1 epoch, data_share 1/4`."""
    others = [f"{key.split('.')[-1]} {value}" for key, value in settings.items()]
    others = [told for told in others if not told.startswith("epochs ")]
    return ", ".join([format_epochs(int(settings.get("recipe.epochs", own))), *others])


def format_epochs(epochs: int) -> str:
    """A length of training, as `1 epoch`."""
    return f"{epochs} epoch{'s' * (epochs != 1)}"


def longer_audit_stages(meta: Mapping[str, str]) -> dict[str, StudyStage]:
    """The stages of a study whose networks were trained longer for an audit, by name."""
    found = stages_of(meta)
    return {
        name: stage
        for name, stage in found.items()
        if name.partition("-")[0] == _AUDIT and not name.startswith(_REPEAT)
    }


def longer_audit_name(meta: Mapping[str, str], recipe: Mapping[str, Any], condition: str) -> str:
    """What the stage with this recipe is called: that of an earlier sitting, or a new name."""
    known = longer_audit_stages(meta)
    for name, stage in known.items():
        if stage.condition == condition and _alike(stage.recipe, recipe):
            return name
    return f"{_AUDIT}-{len(known) + 1}" if known else _AUDIT


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two recipes train alike, whichever weights are kept."""
    return {**one, "keep_weights": ""} == {**other, "keep_weights": ""}


SUFFIX = "-rehearsal"
"""How the name of every rehearsal ends, and of no other study."""

DRY_RUN_NOTICE = "Rehearsal: made-up results, nothing was trained or measured."
"""What captions and tables of a rehearsal say."""

_LONGEST = 64


def dry_run_name(study: str) -> str:
    """The name of a study's rehearsal."""
    return study[: _LONGEST - len(SUFFIX)] + SUFFIX


def is_dry_run(study: str) -> bool:
    """Whether a study of this name is a rehearsal."""
    return study.endswith(SUFFIX)
