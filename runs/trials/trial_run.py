"""One trial: its training from start or checkpoint to its record."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from partialnas.runs.datasets.augment import DeviceSplits, epoch_shape
from partialnas.runs.devices.device_lock import shared_access
from partialnas.runs.devices.precision import precision_facts
from partialnas.runs.ratio_learning.tracking import frozen_architecture
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import CurveRow, Record
from partialnas.runs.system.environment import environment
from partialnas.runs.system.files import checkpoint_path, trunk_path, weights_path
from partialnas.runs.system.seeding import derive_seed, seeded
from partialnas.runs.training.loop import Training
from partialnas.runs.trials import checkpoint
from partialnas.runs.trials.build import build_network
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.outcome import (
    Outcome,
    cost_or_empty,
    from_exception,
    make_record,
    succeeded,
)
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.resizing import narrow_architecture
from partialnas.space.errors import MachineError
from partialnas.space.nn.init import initialize

_LOG = logging.getLogger(__name__)


class TrialRun:
    """One seed of a job: its training, its checkpoints and, at the end, its record.

    Args:
        job: job of the trial.
        seed: seed of the trial.
        key: key of the trial.
        data: images on the device.
        context: where and how it runs.

    Attributes:
        record: record of the trial once it has ended.
        lane: number of its training among those that run side by side.
    """

    def __init__(self, job: Job, seed: int, key: str, data: DeviceSplits, context: Context) -> None:
        self.key = key
        self.record: Record | None = None
        self.lane = 0
        self._job, self._seed, self._data, self._context = job, seed, data, context
        self._training: Training | None = None
        self._micro_batches = 1
        self._seconds = self._earlier_seconds = 0.0
        self._saved = 0.0

    @property
    def is_trained(self) -> bool:
        """Whether all epochs are trained."""
        return len(self.training.curve) == self._job.fidelity

    @property
    def training(self) -> Training:
        """The training run of a trial that has started and not ended."""
        assert self._training is not None, "the trial has started"
        return self._training

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of what is done for the trial."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - started

    def start(self, lane: int) -> None:
        """Create the training run at its start, its checkpoint or its trunk.

        With divided batches it starts anew, so that no record mixes whole and divided batches.

        Args:
            lane: number of the training among those that run side by side.
        """
        self.lane = lane
        self._training = self._new_training()
        folder = self._context.folder
        if folder and self._micro_batches == 1:
            state = checkpoint.load_checkpoint(checkpoint_path(folder, self.key), self.key)
            trunk = None if state is not None else self._load_trunk(folder)
            try:
                if state is not None:
                    self._training.load_state_dict(state)
                elif trunk is not None:
                    self._training.resume_from_trunk(trunk)
            except Exception:  # any kind of error: the checkpoint belongs to another run
                _LOG.warning("the checkpoint of trial %s does not fit: starting anew", self.key)
                self._training = self._new_training()
        self._earlier_seconds = self._training.seconds
        self._saved = time.monotonic()

    def release(self) -> None:
        """Release the training run; `start` begins it again."""
        self._training = None

    def halve_batches(self) -> bool:
        """Divide batches in two from the next start on; return False if they cannot be divided."""
        size = epoch_shape(len(self._data.train), self._job.recipe.batch_size)[1]
        if self._is_halved or size == 1:
            return False
        _LOG.info("out of memory with batch size %d: retrying in two parts", size)
        self._micro_batches = 2
        return True

    @property
    def _is_halved(self) -> bool:
        resumed = self._training is not None and self._training.micro_batches > 1
        return self._micro_batches > 1 or resumed

    def add_seconds(self, seconds: float) -> None:
        """Count time that was spent on the trial elsewhere."""
        self._seconds += seconds

    def end_epoch(self, row: CurveRow, *, others_wait: bool) -> None:
        """Save the training after an epoch if it is time to, and report the epoch.

        Args:
            row: row of the epoch.
            others_wait: whether trials of the job have not started yet. The end of this one is then
                saved.
        """
        if folder := self._context.folder:
            if self._job.trunk_epochs:
                self._save_trunk(folder)
            unsaved_s = time.monotonic() - self._saved + row["seconds"]  # with the next epoch
            if unsaved_s >= self._context.checkpoint_every_s or (self.is_trained and others_wait):
                path = checkpoint_path(folder, self.key)
                checkpoint.save_checkpoint(path, self.training.state_dict(), self.key)
                self._saved = time.monotonic()
        try:
            if self._context.on_epoch:
                self._context.on_epoch(self.key, dict(row))
        except Exception as error:  # not an error of the network
            raise MachineError(
                f"cannot report the progress of trial {self.key}: {error}"
            ) from error

    def final_metrics(self) -> dict[str, float]:
        """Evaluate the trained network, and save its weights."""
        training = self.training
        with shared_access(self._context.device):
            metrics = training.metrics()
        if self._context.folder and _keeps_weights(self._job):
            path = weights_path(self._context.folder, self.key)
            checkpoint.save_weights(path, training.evaluated_network, self._job, self.key)
        return metrics

    def succeed(self, metrics: dict[str, float]) -> None:
        """End the trial with its metrics.

        Raises:
            TrialEndedError: See `outcome.succeeded`.
        """
        self._end(succeeded(metrics, self._job))

    def fail(self, error: Exception) -> None:
        """End the trial with an error.

        Raises:
            MachineError: The error is one of the machine.
        """
        self._end(from_exception(error, self._job, self._context, halved=self._is_halved))

    def _end(self, outcome: Outcome) -> None:
        seconds = self._seconds + self._earlier_seconds
        facts = None if self._training is None else _training_facts(self._job, self._training)
        self.record = make_record(self._job, self._seed, self._context, outcome, seconds, facts)
        self.release()

    def _new_training(self) -> Training:
        job, subject = self._job, self._job.subject
        if isinstance(subject, Architecture):
            subject = narrow_architecture(subject, job.recipe.width_share)
        with seeded(derive_seed(self._seed, 0, "weights"), torch.device("cpu")):
            network = build_network(subject, job.task, job.recipe)
            if isinstance(subject, Architecture):
                initialize(network, self._seed)
        return Training(
            network,
            job.recipe,
            job.fidelity,
            self._seed,
            self._data,
            micro_batches=self._micro_batches,
            lane=self.lane,
        )

    def _load_trunk(self, folder: Path) -> dict[str, Any] | None:
        """Return the trunk that a shorter run saved, or None if it cannot be resumed."""
        if not self._job.trunk_epochs:
            return None
        key = self._job.trunk_key(self._seed)
        trunk = checkpoint.load_checkpoint(trunk_path(folder, key), key)
        return trunk if trunk and len(trunk.get("curve", ())) <= self._job.trunk_epochs else None

    def _save_trunk(self, folder: Path) -> None:
        """Save the state that longer runs resume from, or remove it after the last of them."""
        key = self._job.trunk_key(self._seed)
        path, training = trunk_path(folder, key), self.training
        if self._job.rung and len(training.curve) == self._job.trunk_epochs:
            checkpoint.save_checkpoint(path, training.state_dict(), key)
        elif not self._job.rung and self.is_trained:
            checkpoint.remove_checkpoint(path)


def _keeps_weights(job: Job) -> bool:
    """Return whether the weights are kept: on lower rungs only if ratios are learned."""
    learns = isinstance(job.subject, Architecture) and job.subject.learned is not None
    return job.recipe.keep_weights != "none" and (learns or not job.rung)


def _training_facts(job: Job, training: Training) -> dict[str, Any]:
    """Return the fields of a record that come from the training."""
    return {
        "curve": tuple(training.curve),
        "cost": _cost(job, training),
        "ratios": tuple(training.ratio_rows),
        "environment": environment()
        | precision_facts(training.recipe.precision, training.device)
        | _division_facts(training),
    }


def _cost(job: Job, training: Training) -> dict[str, int]:
    """Return the cost of the network with its final ratios; empty if they are not finite."""
    subject = job.subject
    if not training.ratio_learner or not isinstance(subject, Architecture):
        return cost_or_empty(subject, job)
    try:
        frozen = frozen_architecture(training.ratio_learner, subject)
    except Exception:
        return {}
    return cost_or_empty(frozen or subject, job)


def _division_facts(training: Training) -> dict[str, str | int]:
    """Return the facts of a training run with batches that did not fit into memory."""
    if training.micro_batches == 1:
        return {}
    size = epoch_shape(len(training.data.train), training.recipe.batch_size)[1]
    part = -(-size // training.micro_batches)
    note = (
        f"out of memory with batch size {size}: trained in {training.micro_batches} parts of "
        f"{part} images whose gradients are added up; BatchNorm saw {part} images at a time"
    )
    return {"micro_batch": part, "memory": note}
