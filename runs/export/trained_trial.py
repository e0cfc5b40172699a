"""Trained networks that a study has kept, found by the number of their trial."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import TrialRow
from partialnas.runs.ledger.study_meta import condition_of
from partialnas.runs.records.frozen_model import frozen_subject
from partialnas.runs.records.subject import Subject, TimmModel, parse_subject
from partialnas.runs.system.files import weights_path
from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import MachineError, UserError


@dataclass(frozen=True)
class TrainedTrial:
    """A trial that is done and can be exported.

    Attributes:
        folder: of its study.
        row: what the ledger knows of it.
        subject: that was trained.
        architecture: the static one that it is now: with learned ratios, what they ended with.
        task: what it learned.
        protocol: how its study measures networks.
    """

    folder: Path
    row: TrialRow
    subject: Architecture
    architecture: Architecture
    task: Task
    protocol: Protocol

    @property
    def name(self) -> str:
        """What users call it: `results/mine:7`."""
        return f"{self.folder}:{self.row.number}"

    @property
    def weights(self) -> Path:
        """Where its final weights are."""
        return weights_path(self.folder, self.row.key)


def load_trained_trial(folder: Path, number: int) -> TrainedTrial:
    """The trial of this number, if there is a trained network of it that is one of ours.

    Raises:
        UserError: no such trial, one that is not done or failed, a model of timm, ratios that
            depend on the image, or weights that were not kept; says what would work.
        MachineError: the ledger is damaged.
    """
    with Ledger.open(folder) as ledger:
        row, study = ledger.trial(number), ledger.study
        proposal = next(p for p in ledger.proposals() if p.number == row.proposal)
        last = ledger.last_ratios(row.key)
    name = f"{folder}:{number}"
    _check_done(name, row)
    subject = _check_ours(name, parse_subject(proposal.subject))
    if subject.learned is not None and subject.learned.per == "input":
        raise UserError(
            f"{name}: its ratios depend on the image, so that no static network computes the same; "
            "learn them per layer (learned: {per: layer}) to freeze them"
        )
    if not weights_path(folder, row.key).is_file():
        raise UserError(f"{name}: its weights were not kept; {_how_to_keep(study.frozen)}")
    if "task" not in study.meta or (subject.learned is not None and last is None):
        raise MachineError(f"{folder}: the ledger has lost facts of its trials: put a copy there")
    architecture = frozen_subject(subject, last.channels) if last else subject
    if last and last.frozen != architecture.digest:
        raise MachineError(f"{name}: the ledger contradicts itself in the ratios that it learned")
    task, _, protocol = study.under(condition_of(proposal))
    return TrainedTrial(folder, row, subject, architecture, task, protocol)


def _check_done(name: str, row: TrialRow) -> None:
    if row.state in ("planned", "running"):
        raise UserError(f"{name} is {row.state}: it can be exported once it is done")
    if row.state != "done":
        raise UserError(
            f"{name} ended as {row.state} ({row.reason}): there is no finished network; "
            "`partialnas status` shows the trials that are done"
        )


def _check_ours(name: str, subject: Subject) -> Architecture:
    if isinstance(subject, TimmModel):
        raise UserError(
            f"{name} is {subject.timm}, a model of timm's own: export-model writes networks of "
            "partialnas; timm.create_model builds this one anywhere"
        )
    return subject


def _how_to_keep(study: dict[str, Any]) -> str:
    if study.get("trial"):
        return f"{study['trial']} stood in for its training and leaves none"
    if study.get("recipe", {}).get("keep_weights") == "front":
        return (
            "this study keeps those of its front alone: choose a trial on it (`partialnas status`) "
            "or run a study with recipe.keep_weights: all"
        )
    return "run the study anew with recipe.keep_weights: all and another --out"
