"""A trial, from job to record. What a network does wrong becomes a record with a reason."""

import gc
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from partialnas.runs.datasets.augment import epoch_shape
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.ratio_learning.tracking import frozen_architecture
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import CurveRow, Record
from partialnas.runs.system.device import is_out_of_memory, torch_device
from partialnas.runs.system.device_lock import shared_access
from partialnas.runs.system.environment import environment
from partialnas.runs.system.files import checkpoint_path, trunk_path, weights_path
from partialnas.runs.system.seeding import derive_seed, seeded, torch_threads
from partialnas.runs.training.build import build_network
from partialnas.runs.training.checkpoint import (
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
    save_weights,
)
from partialnas.runs.training.context import Context
from partialnas.runs.training.loop import DeviceSplits, Training
from partialnas.runs.training.outcome import cost_or_empty, from_exception, make_record, succeeded
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.resizing import narrow_architecture
from partialnas.space.errors import MachineError
from partialnas.space.nn.init import initialize

_LOG = logging.getLogger(__name__)


def run_job(job: Job, context: Context) -> list[Record]:
    """Trains the job's network once for each seed; one record a seed, in their order.

    A trial that was interrupted continues after the last epoch that it finished.

    Raises:
        UserError: the data set is missing or corrupt, or there is no such kind of device.
        MachineError: the device is missing, broken or too small for the data, or the disk cannot
            be written.
    """
    device = torch_device(context.device)
    splits = context.splits or load_splits(job.task)
    with torch_threads(job.recipe.threads):
        pools = _load(splits, job, device)
        records = [_train_seed(job, seed, pools, context) for seed in job.seeds]
    # Not before: a job interrupted at its second seed need not train the first again.
    if context.folder:
        for key in job.trial_keys.values():
            remove_checkpoint(checkpoint_path(context.folder, key))
    return records


def _train_seed(job: Job, seed: int, pools: DeviceSplits, context: Context) -> Record:
    """Trains with one seed; where memory is short once more, each batch in two parts."""
    began = time.perf_counter()
    record = _attempt(job, seed, pools, context)
    if record is not None:
        return record
    _free_memory(context)
    record = _attempt(job, seed, pools, context, again=True)
    assert record is not None, "the second attempt has a record"
    return record.model_copy(update={"seconds": time.perf_counter() - began})


def _attempt(
    job: Job, seed: int, pools: DeviceSplits, context: Context, *, again: bool = False
) -> Record | None:
    """The record of a training; None where it ran out of memory and half the batch may fit."""
    started = time.perf_counter()
    training: Training | None = None
    try:
        training = _begin(job, seed, pools, context, 2 if again else 1)
        started -= training.seconds
        ending = succeeded(_train(training, job, seed, context), job)
    except Exception as error:
        halved = again or (training is not None and training.micro_batches > 1)
        size = epoch_shape(len(pools.train), job.recipe.batch_size)[1]
        if is_out_of_memory(error) and not halved and size > 1:
            _LOG.info("out of memory with batch size %d: begun anew, in two parts", size)
            return None
        ending = from_exception(error, job, context, halved=halved)
    seconds = time.perf_counter() - started
    return make_record(job, seed, context, ending, seconds, _learned(job, training))


def _free_memory(context: Context) -> None:
    """Gives back what a training that is gone has held."""
    gc.collect()
    if context.device.startswith("cuda"):
        torch.cuda.empty_cache()


def _load(splits: Splits, job: Job, device: torch.device) -> DeviceSplits:
    try:
        return DeviceSplits.from_splits(splits, job.recipe, device)
    except torch.OutOfMemoryError:
        raise MachineError(
            f"device {device} has too little free memory for the images of {job.task.data} at "
            f"{job.task.resolution} pixels; free some, or choose a smaller task.resolution"
        ) from None


def _begin(
    job: Job, seed: int, pools: DeviceSplits, context: Context, micro_batches: int
) -> Training:
    """The training at its start, or where its checkpoint left it.

    One in several parts a batch begins at the start: no record is of both ways.
    """
    training = _fresh(job, seed, pools, micro_batches)
    if context.folder and micro_batches == 1:
        state = load_checkpoint(checkpoint_path(context.folder, job.trial_keys[seed]))
        trunk = None if state is not None else _load_trunk(job, seed, context.folder)
        try:
            if state is not None:
                training.load_state_dict(state)
            elif trunk is not None:
                training.resume_from_trunk(trunk)
        except Exception:  # of whatever kind: it is not this training's, and is not used
            _LOG.warning("the checkpoint of trial %s does not fit: begun anew", job.trial_keys[seed])
            return _fresh(job, seed, pools, micro_batches)
    return training


def _load_trunk(job: Job, seed: int, folder: Path) -> dict[str, Any] | None:
    """What a shorter training has left to be continued; None where that is of no use."""
    if not job.trunk_epochs:
        return None
    trunk = load_checkpoint(trunk_path(folder, job.trunk_key(seed)))
    return trunk if trunk and len(trunk.get("curve", ())) <= job.trunk_epochs else None


def _leave_trunk(training: Training, job: Job, seed: int, folder: Path) -> None:
    """Keeps where longer trainings part from this one, or removes what the last has taken up."""
    path = trunk_path(folder, job.trunk_key(seed))
    if job.rung and len(training.curve) == job.trunk_epochs:
        save_checkpoint(path, training.state_dict())
    elif not job.rung and len(training.curve) == job.fidelity:
        remove_checkpoint(path)


def _fresh(job: Job, seed: int, pools: DeviceSplits, micro_batches: int) -> Training:
    with seeded(derive_seed(seed, 0, "weights"), torch.device("cpu")):
        network = _build(job, seed)
    return Training(network, job.recipe, job.fidelity, seed, pools, micro_batches=micro_batches)


def _build(job: Job, seed: int) -> nn.Module:
    if not isinstance(job.subject, Architecture):
        return build_network(job.subject, job.task, job.recipe)
    network = build_network(
        narrow_architecture(job.subject, job.recipe.width_share), job.task, job.recipe
    )
    initialize(network, seed)
    return network


def _train(training: Training, job: Job, seed: int, context: Context) -> dict[str, float]:
    """The epochs that are left, then the metrics of the result."""
    key = job.trial_keys[seed]
    limit = math.inf if context.time_limit_s is None else context.time_limit_s
    while len(training.curve) < job.fidelity:
        with shared_access(context.device):
            row = training.run_epoch(limit)
        if context.folder:
            save_checkpoint(checkpoint_path(context.folder, key), training.state_dict())
            if job.trunk_epochs:
                _leave_trunk(training, job, seed, context.folder)
        _tell(context, key, row)
    with shared_access(context.device):
        metrics = training.metrics()
    if context.folder and _keeps_weights(job):
        save_weights(weights_path(context.folder, key), training.evaluated_network, job)
    return metrics


def _keeps_weights(job: Job) -> bool:
    """Whether anybody can ask for the weights: of a lower rung none but speeds that need them."""
    learns = isinstance(job.subject, Architecture) and job.subject.learned is not None
    return job.recipe.keep_weights != "none" and (learns or not job.rung)


def _tell(context: Context, key: str, row: CurveRow) -> None:
    try:
        if context.on_epoch:
            context.on_epoch(key, dict(row))
    except Exception as error:  # no fault of the network: not to be taken for one
        raise MachineError(f"the progress of trial {key} could not be told: {error}") from error


def _learned(job: Job, training: Training | None) -> dict[str, Any] | None:
    """What a record says beside how the trial ended, as far as its training has come."""
    if training is None:
        return None
    return {
        "curve": tuple(training.curve),
        "cost": _cost(job, training),
        "ratios": tuple(training.ratio_rows),
        "environment": environment() | _parts(training),
    }


def _cost(job: Job, training: Training) -> dict[str, int]:
    """Of the network that it has become; empty where its ratios are no numbers."""
    subject = job.subject
    if not training.ratio_learner or not isinstance(subject, Architecture):
        return cost_or_empty(subject, job)
    try:
        frozen = frozen_architecture(training.ratio_learner, subject)
    except Exception:
        return {}
    return cost_or_empty(frozen or subject, job)


def _parts(training: Training) -> dict[str, str | int]:
    """What a record says of a batch that did not fit into memory as a whole."""
    if training.micro_batches == 1:
        return {}
    size = epoch_shape(len(training.data.train), training.recipe.batch_size)[1]
    part = -(-size // training.micro_batches)
    told = (
        f"out of memory with batch size {size}: trained in {training.micro_batches} parts of "
        f"{part} images whose gradients are added up; BatchNorm saw {part} images at a time"
    )
    return {"micro_batch": part, "memory": told}
