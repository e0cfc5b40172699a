"""Run the trials of a job; if a network fails, its record states the reason."""

import gc
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import epoch_shape
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.ratio_learning.tracking import frozen_architecture
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import CurveRow, Record
from partialnas.runs.system.device import device_fault, is_out_of_memory, torch_device
from partialnas.runs.system.device_lock import shared_access
from partialnas.runs.system.environment import environment
from partialnas.runs.system.files import checkpoint_path, trunk_path, weights_path
from partialnas.runs.system.precision import precision_facts, precision_settings
from partialnas.runs.system.seeding import (
    derive_seed,
    kernel_selection,
    seeded,
    torch_threads,
)
from partialnas.runs.training import checkpoint
from partialnas.runs.training.build import build_network
from partialnas.runs.training.context import Context
from partialnas.runs.training.loop import DeviceSplits, Training
from partialnas.runs.training.outcome import cost_or_empty, from_exception, make_record, succeeded
from partialnas.runs.training.split_cache import SPLIT_CACHE
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.resizing import narrow_architecture
from partialnas.space.errors import MachineError
from partialnas.space.nn.init import initialize

_LOG = logging.getLogger(__name__)
_BATCH_DIVISIONS = (1, 2)  # parts of a batch; the next one is tried if memory runs out


def run_job(job: Job, context: Context) -> list[Record]:
    """Train the job's network once per seed, and return one record per seed in their order.

    An interrupted trial continues after the last epoch in its checkpoint; finished seeds of an
    interrupted job are not trained again.

    Raises:
        UserError: The data set is missing or corrupt, or there is no such kind of device.
        MachineError: The device is missing, broken or too small for the data, or writing to disk
            fails.
    """
    device = torch_device(context.device)
    splits = context.splits or load_splits(job.task)
    with _torch_settings(job.recipe, device):
        pools = _to_device(splits, job, device)
        records = [_train_seed(job, seed, pools, context) for seed in job.seeds]
    # Only now: a job interrupted at its second seed does not train the first again.
    if context.folder:
        for key in job.trial_keys.values():
            checkpoint.remove_checkpoint(checkpoint_path(context.folder, key))
    if context.gpu_share < 1:  # what this process keeps, its neighbors on the GPU lack
        _free_memory(context)
    return records


@contextmanager
def _torch_settings(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Apply the settings of a recipe that belong to the process, and restore the previous ones."""
    kernels = kernel_selection(
        device, deterministic=recipe.deterministic, cudnn_benchmark=recipe.cudnn_benchmark
    )
    with torch_threads(recipe.threads), precision_settings(recipe.precision, device), kernels:
        yield


def _train_seed(job: Job, seed: int, pools: DeviceSplits, context: Context) -> Record:
    """Train with one seed; if memory runs out, once more with each batch in two parts."""
    started = time.perf_counter()
    batch_size = epoch_shape(len(pools.train), job.recipe.batch_size)[1]
    for micro_batches in _BATCH_DIVISIONS:
        training: Training | None = None
        earlier_seconds = 0.0
        if micro_batches > 1:  # only now, outside of the error that holds on to the first training
            _free_memory(context)
        try:
            training = _start(job, seed, pools, context, micro_batches)
            earlier_seconds = training.seconds
            outcome = succeeded(_train(training, job, seed, context), job)
        except Exception as error:
            divided = micro_batches > 1 or (training is not None and training.micro_batches > 1)
            if not divided and batch_size > 1 and is_out_of_memory(error):
                _LOG.info("out of memory with batch size %d: retrying in two parts", batch_size)
                continue
            outcome = from_exception(error, job, context, halved=divided)
        break
    seconds = time.perf_counter() - started + earlier_seconds
    return make_record(job, seed, context, outcome, seconds, _training_facts(job, training))


def _free_memory(context: Context) -> None:
    """Free the memory of a training run that has ended."""
    gc.collect()
    if context.device.startswith("cuda"):
        torch.cuda.empty_cache()


def _to_device(splits: Splits, job: Job, device: torch.device) -> DeviceSplits:
    """Return the splits on the device; no network has run on it, so it is to blame for errors."""
    try:
        return SPLIT_CACHE.get(splits, job.recipe, device)
    except Exception as error:
        if is_out_of_memory(error):
            raise MachineError(
                f"device {device} has too little free memory for the images of {job.task.data} at "
                f"{job.task.resolution} pixels; free some memory or choose a smaller "
                "task.resolution"
            ) from None
        if fault := device_fault(error, str(device)):
            raise MachineError(
                f"device {device} failed before a network ran on it: {fault}; choose another "
                "device, or reset it"
            ) from error
        raise


def _start(
    job: Job, seed: int, pools: DeviceSplits, context: Context, micro_batches: int
) -> Training:
    """Return the training run at its start or at its checkpoint.

    With divided batches it starts anew, so that no record mixes whole and divided batches.
    """
    training = _new_training(job, seed, pools, micro_batches)
    if context.folder and micro_batches == 1:
        state = _load_checkpoint(job, seed, context.folder)
        trunk = None if state is not None else _load_trunk(job, seed, context.folder)
        try:
            if state is not None:
                training.load_state_dict(state)
            elif trunk is not None:
                training.resume_from_trunk(trunk)
        except Exception:  # any kind of error: the checkpoint belongs to another run
            key = job.trial_keys[seed]
            _LOG.warning("the checkpoint of trial %s does not fit: starting anew", key)
            return _new_training(job, seed, pools, micro_batches)
    return training


def _load_checkpoint(job: Job, seed: int, folder: Path) -> dict[str, Any] | None:
    key = job.trial_keys[seed]
    return checkpoint.load_checkpoint(checkpoint_path(folder, key), key)


def _load_trunk(job: Job, seed: int, folder: Path) -> dict[str, Any] | None:
    """Return the trunk that a shorter run saved, or None if it cannot be resumed."""
    if not job.trunk_epochs:
        return None
    key = job.trunk_key(seed)
    trunk = checkpoint.load_checkpoint(trunk_path(folder, key), key)
    return trunk if trunk and len(trunk.get("curve", ())) <= job.trunk_epochs else None


def _save_trunk(training: Training, job: Job, seed: int, folder: Path) -> None:
    """Save the state that longer runs resume from, or remove it after the last of them."""
    key = job.trunk_key(seed)
    path = trunk_path(folder, key)
    if job.rung and len(training.curve) == job.trunk_epochs:
        checkpoint.save_checkpoint(path, training.state_dict(), key)
    elif not job.rung and len(training.curve) == job.fidelity:
        checkpoint.remove_checkpoint(path)


def _new_training(job: Job, seed: int, pools: DeviceSplits, micro_batches: int) -> Training:
    subject = job.subject
    if isinstance(subject, Architecture):
        subject = narrow_architecture(subject, job.recipe.width_share)
    with seeded(derive_seed(seed, 0, "weights"), torch.device("cpu")):
        network = build_network(subject, job.task, job.recipe)
        if isinstance(subject, Architecture):
            initialize(network, seed)
    return Training(network, job.recipe, job.fidelity, seed, pools, micro_batches=micro_batches)


def _train(training: Training, job: Job, seed: int, context: Context) -> dict[str, float]:
    """Train for the remaining epochs, and return the final metrics."""
    key = job.trial_keys[seed]
    limit = math.inf if context.time_limit_s is None else context.time_limit_s
    saved = time.monotonic()
    while len(training.curve) < job.fidelity:
        with shared_access(context.device):
            row = training.run_epoch(limit)
        if context.folder:
            if job.trunk_epochs:
                _save_trunk(training, job, seed, context.folder)
            unsaved_s = time.monotonic() - saved + row["seconds"]  # if the next epoch is lost, too
            is_finished = len(training.curve) == job.fidelity
            if unsaved_s >= context.checkpoint_every_s or (is_finished and seed != job.seeds[-1]):
                path = checkpoint_path(context.folder, key)
                checkpoint.save_checkpoint(path, training.state_dict(), key)
                saved = time.monotonic()
        _report_epoch(context, key, row)
    with shared_access(context.device):
        metrics = training.metrics()
    if context.folder and _keeps_weights(job):
        path = weights_path(context.folder, key)
        checkpoint.save_weights(path, training.evaluated_network, job, key)
    return metrics


def _keeps_weights(job: Job) -> bool:
    """Return whether the weights are kept: on lower rungs only if ratios are learned."""
    learns = isinstance(job.subject, Architecture) and job.subject.learned is not None
    return job.recipe.keep_weights != "none" and (learns or not job.rung)


def _report_epoch(context: Context, key: str, row: CurveRow) -> None:
    try:
        if context.on_epoch:
            context.on_epoch(key, dict(row))
    except Exception as error:  # not an error of the network
        raise MachineError(f"cannot report the progress of trial {key}: {error}") from error


def _training_facts(job: Job, training: Training | None) -> dict[str, Any] | None:
    """Return the fields of a record that come from the training, or None if it never started."""
    if training is None:
        return None
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
