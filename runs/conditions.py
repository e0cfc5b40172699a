"""The conditions of a study, as its ledger remembers them: plain data, no torch."""

from typing import Any

from partialnas.runs.ledger_rows import Asked, ProposalRow
from partialnas.runs.settings import changed
from partialnas.runs.task import Task


def condition_of(proposal: ProposalRow | Asked) -> str:
    """The condition that the trials of a proposal run under; empty where there is none."""
    return str(proposal.proposal.get("condition", "")) if proposal.arm is not None else ""


def stage_of(proposal: ProposalRow | Asked) -> str:
    """The later stage of a study that a proposal belongs to; empty for the study itself."""
    return str(proposal.proposal.get("stage", "")) if proposal.arm is not None else ""


def rung_of(proposal: ProposalRow | Asked) -> int:
    """The rung that a searched network is to be trained on, from 1: where it is not promoted, 1."""
    if proposal.arm is not None or '"rung"' not in proposal.proposal_json:
        return 1
    return int(proposal.proposal.get("rung", 1))


def settings_under(study: dict[str, Any], condition: str) -> dict[str, dict[str, Any]]:
    """A frozen study's `task`, `recipe` and `measure`, those of a condition in their place."""
    own = {part: study.get(part) or {} for part in ("task", "recipe", "measure")}
    return changed(own, study.get("conditions", {}).get(condition, {}))


def task_under(task: dict[str, Any], condition: str) -> Task:
    """The task of a condition, out of what a ledger says under `task`: one, or one for each."""
    return Task.model_validate(task[condition] if condition else task)


def task_identities(tasks: dict[str, Any]) -> dict[str, Any]:
    """The tasks of a ledger, one or one for each condition, without where their data lie."""
    if isinstance(tasks.get("data"), str):
        return Task.model_validate(tasks).identity()
    return {name: Task.model_validate(task).identity() for name, task in tasks.items()}
