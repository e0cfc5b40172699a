"""Where an exported network comes from: its study, how it was trained, and its other seeds."""

from dataclasses import dataclass
from typing import Any

from partialnas.runs.config.design import StudyStage
from partialnas.runs.export.trained_trial import TrainedTrial
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import ProposalRow, TrialRow
from partialnas.runs.ledger.study_meta import RecordedStudy, condition_of, stage_of

Metrics = dict[str, float]


@dataclass(frozen=True)
class Lineage:
    """What a ledger tells of a trial beside its own record.

    Attributes:
        study: its name.
        question: that the study asks; empty where it states none.
        frozen: the study, every setting stated.
        arm: the arm that the trial is of; empty in a search.
        condition: of the study that it was trained under.
        stage: the later stage that it belongs to; None for the study itself.
        recipe: how it was trained, every setting stated.
        trials: of the study, by state.
        networks: how many different ones the study has trained.
        seeds: metrics of the same network's trials that were trained alike, by seed; the trial's
            own among them.
        fresh: metrics of the same network with seeds that it was not chosen by, by seed (see
            `partialnas confirm`), trained by the study's recipe.
    """

    study: str
    question: str
    frozen: dict[str, Any]
    arm: str
    condition: str
    stage: StudyStage | None
    recipe: dict[str, Any]
    trials: dict[str, int]
    networks: int
    seeds: dict[int, Metrics]
    fresh: dict[int, Metrics]


def trace_lineage(trial: TrainedTrial) -> Lineage:
    """Where the network of a trial comes from.

    Raises:
        MachineError: the ledger is damaged.
    """
    with Ledger.open(trial.folder) as ledger:
        study, rows = ledger.study, ledger.trials()
        proposals = {row.number: row for row in ledger.proposals()}
    proposal = proposals[trial.row.proposal]
    condition, stage = condition_of(proposal), stage_of(proposal)
    own = [row for row in rows if not stage_of(proposals[row.proposal])]
    return Lineage(
        study=study.name or trial.folder.name,
        question=str(study.frozen.get("question") or ""),
        frozen=study.frozen,
        arm=proposal.arm or "",
        condition=condition,
        stage=study.stages.get(stage),
        recipe=_recipe(trial, study, proposal),
        trials=_states(own),
        networks=len({row.digest for row in own}),
        seeds=_replicates(trial, rows, proposals, (condition, stage)),
        fresh={} if stage else _replicates(trial, rows, proposals, (condition, "confirm")),
    )


def _recipe(trial: TrainedTrial, study: RecordedStudy, proposal: ProposalRow) -> dict[str, Any]:
    """How the trial was trained: by the study, its condition, its arm or its stage."""
    stage = study.stages.get(stage_of(proposal))
    settings = study.settings(condition_of(proposal))["recipe"]
    arm = study.design.arm(proposal.arm or "") if study.design else None
    own = arm.recipe if arm else {}
    return {**(stage.recipe if stage else settings), **own, "epochs": trial.row.fidelity}


def _states(rows: list[TrialRow]) -> dict[str, int]:
    states = [row.state for row in rows]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def _replicates(
    trial: TrainedTrial,
    rows: list[TrialRow],
    proposals: dict[int, ProposalRow],
    where: tuple[str, str],
) -> dict[int, Metrics]:
    """Metrics by seed of the same network's finished trials of one condition and stage."""
    own = proposals[trial.row.proposal].proposal.get("recipe")

    def alike(row: TrialRow) -> bool:
        proposal = proposals[row.proposal]
        same = row.digest == trial.row.digest and row.fidelity == trial.row.fidelity
        placed = (condition_of(proposal), stage_of(proposal)) == where
        return same and placed and proposal.proposal.get("recipe") == own and row.state == "done"

    return {row.seed: row.metrics for row in rows if alike(row)}
