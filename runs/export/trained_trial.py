"""Lookup of a study's finished trial with its trained network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import TrialRow
from partialnas.runs.ledger.study_meta import condition_of, is_dry_run
from partialnas.runs.records.frozen_model import frozen_subject
from partialnas.runs.records.subject import Subject, TimmModel, parse_subject
from partialnas.runs.system.files import TrialWeights, weights_path
from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import MachineError, UserError


@dataclass(frozen=True)
class TrainedTrial:
    """A finished trial that can be exported.

    Attributes:
        folder: folder of the study.
        row: row of the trial in the ledger.
        subject: the trained network.
        architecture: the static network, with the final values of learned ratios.
        task: task of the training.
        protocol: measurement protocol of the study.
    """

    folder: Path
    row: TrialRow
    subject: Architecture
    architecture: Architecture
    task: Task
    protocol: Protocol

    @property
    def name(self) -> str:
        """Name on the command line, such as `results/mine:7`."""
        return f"{self.folder}:{self.row.number}"

    @property
    def weights(self) -> TrialWeights:
        """File of the final weights."""
        path, loss = weights_path(self.folder, self.row.key), self.row.metrics.get("val_nll")
        return TrialWeights(path, self.row.key, loss, self.row.device)


def load_trained_trial(folder: Path, number: int) -> TrainedTrial:
    """Return the trial of this number.

    Raises:
        UserError: there is no such trial, it is not done, its network is a timm model or has ratios
            that depend on the image, or its weights were not kept. The message suggests a remedy.
        MachineError: the ledger is damaged.
    """
    with Ledger.open(folder) as ledger:
        row, study = ledger.trial(number), ledger.study
        proposal = next(p for p in ledger.proposals() if p.number == row.proposal)
        last = ledger.last_ratios(row.key)
    name = f"{folder}:{number}"
    if is_dry_run(study.name):
        raise UserError(
            f"{name}: belongs to a dry run (`run --rehearse`), which trains nothing; run the study "
            "without --rehearse"
        )
    _check_done(name, row)
    subject = _check_architecture(name, parse_subject(proposal.subject))
    if subject.learned is not None and subject.learned.per == "input":
        raise UserError(
            f"{name}: its ratios depend on the image, so that no static network is equivalent; "
            "learn the ratios per layer (learned: {per: layer}) to freeze them"
        )
    if not weights_path(folder, row.key).is_file():
        raise UserError(f"{name}: its weights were not kept; {_remedy(study.frozen)}")
    if "task" not in study.meta or (subject.learned is not None and last is None):
        raise MachineError(
            f"{folder}: ledger metadata is missing (task or learned ratios); restore the ledger "
            "from a backup"
        )
    architecture = frozen_subject(subject, last.channels) if last else subject
    if last and last.frozen != architecture.digest:
        raise MachineError(
            f"{name}: learned ratios and frozen network in the ledger do not match; restore the "
            "ledger from a backup"
        )
    task, _, protocol = study.under(condition_of(proposal))
    return TrainedTrial(folder, row, subject, architecture, task, protocol)


def _check_done(name: str, row: TrialRow) -> None:
    if row.state in ("planned", "running"):
        raise UserError(f"{name} is {row.state}: it can be exported once it is done")
    if row.state != "done":
        raise UserError(
            f"{name} ended as {row.state} ({row.reason}) and has no finished network; "
            "`partialnas status DIR --trials` lists the trials that are done"
        )


def _check_architecture(name: str, subject: Subject) -> Architecture:
    if isinstance(subject, TimmModel):
        raise UserError(
            f"{name} is {subject.timm}, a model of timm: export-model writes only networks of "
            "partialnas; build this one with timm.create_model"
        )
    return subject


def _remedy(study: dict[str, Any]) -> str:
    if study.get("trial"):
        return (
            f"the study calls {study['trial']} instead of training, and partialnas has no weights "
            "of it; save them in your function (docs/functions.md, weights of the winner)"
        )
    if study.get("recipe", {}).get("keep_weights") == "front":
        return (
            "this study keeps only those of its front and its arms: choose one of their trials "
            "(`partialnas status DIR --trials` lists those whose weights are kept), or run a "
            "study with recipe.keep_weights: all"
        )
    if study.get("recipe", {}).get("keep_weights") == "all":
        return "they were removed (`partialnas clean` does so); run the study with another --out"
    return "run the study again with recipe.keep_weights: all and another --out"
