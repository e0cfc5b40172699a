"""Lineage of an exported network: its study, its training and its other seeds."""

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
    """Facts of a ledger about a trial beyond its record.

    Attributes:
        study: name of the study.
        question: question of the study, or empty.
        frozen: the study with all settings.
        arm: arm of the trial, or empty in a search.
        condition: condition of the trial, or empty.
        stage: later stage of the trial, or None if it belongs to the study itself.
        recipe: recipe of the training with all settings.
        trials: number of the study's trials by state.
        networks: number of distinct networks that the study trained.
        seeds: metrics by seed of the network's trials with the same training, this trial included.
        fresh: metrics by seed of the network's trials of `partialnas confirm`, with seeds that
            were not used for its selection.
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
    """Return the lineage of a trial's network.

    Raises:
        MachineError: the ledger is damaged.
    """
    with Ledger.open(trial.folder) as ledger:
        study, rows = ledger.study, ledger.trials()
        proposals = {row.number: row for row in ledger.proposals()}
    proposal = proposals[trial.row.proposal]
    condition, stage = condition_of(proposal), stage_of(proposal)
    study_rows = [row for row in rows if not stage_of(proposals[row.proposal])]
    return Lineage(
        study=study.name or trial.folder.name,
        question=str(study.frozen.get("question") or ""),
        frozen=study.frozen,
        arm=proposal.arm or "",
        condition=condition,
        stage=study.stages.get(stage),
        recipe=_recipe(trial, study, proposal),
        trials=_count_states(study_rows),
        networks=len({row.digest for row in study_rows}),
        seeds=_replicates(trial, rows, proposals, (condition, stage)),
        fresh={} if stage else _replicates(trial, rows, proposals, (condition, "confirm")),
    )


def _recipe(trial: TrainedTrial, study: RecordedStudy, proposal: ProposalRow) -> dict[str, Any]:
    """Return the trial's recipe, from the study, its condition, its arm or its stage."""
    stage = study.stages.get(stage_of(proposal))
    settings = study.settings(condition_of(proposal))["recipe"]
    arm = study.design.arm(proposal.arm or "") if study.design else None
    arm_settings = arm.recipe if arm else {}
    return {**(stage.recipe if stage else settings), **arm_settings, "epochs": trial.row.fidelity}


def _count_states(rows: list[TrialRow]) -> dict[str, int]:
    states = [row.state for row in rows]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def _replicates(
    trial: TrainedTrial,
    rows: list[TrialRow],
    proposals: dict[int, ProposalRow],
    group: tuple[str, str],
) -> dict[int, Metrics]:
    """Return metrics by seed of the network's finished trials of one condition and stage."""
    recipe = proposals[trial.row.proposal].proposal.get("recipe")

    def is_replicate(row: TrialRow) -> bool:
        proposal = proposals[row.proposal]
        same = row.digest == trial.row.digest and row.fidelity == trial.row.fidelity
        in_group = (condition_of(proposal), stage_of(proposal)) == group
        return (
            same and in_group and proposal.proposal.get("recipe") == recipe and row.state == "done"
        )

    return {row.seed: row.metrics for row in rows if is_replicate(row)}
