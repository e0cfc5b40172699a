"""Run the trials of a job; if a network fails, its record states the reason."""

import gc
import logging
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import torch

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.devices.device import device_fault, is_out_of_memory, torch_device
from partialnas.runs.devices.device_lock import shared_access
from partialnas.runs.devices.precision import precision_settings
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record
from partialnas.runs.system.files import checkpoint_path
from partialnas.runs.system.seeding import (
    kernel_selection,
    torch_threads,
)
from partialnas.runs.training.lanes import run_epochs
from partialnas.runs.trials import checkpoint
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.split_cache import SPLIT_CACHE
from partialnas.runs.trials.trial_run import TrialRun
from partialnas.space.errors import MachineError

_LOG = logging.getLogger(__name__)


def run_job(job: Job, context: Context) -> list[Record]:
    """Train the job's network once per seed, and return one record per seed in their order.

    Several seeds are trained side by side if the context has lanes for them; each has the result
    that it has alone. An interrupted trial continues after the last epoch in its checkpoint;
    finished seeds of an interrupted job are not trained again.

    Raises:
        UserError: The data set is missing or corrupt, or there is no such kind of device.
        MachineError: The device is missing, broken or too small for the data, or writing to disk
            fails.
        DeviceFaultError: The device failed; the process cannot use it any more.
    """
    device = torch_device(context.device)
    splits = context.splits or load_splits(job.task)
    with _torch_settings(job.recipe, device):
        with shared_access(context.device):
            data = _to_device(splits, job, device)
        if device.type == "cuda":  # whether graphs fit depends on the peak of this job
            torch.cuda.reset_peak_memory_stats(device)
        trials = [TrialRun(job, seed, key, data, context) for seed, key in job.trial_keys.items()]
        records = _Lanes(trials, context).run()
    # Only now: a job interrupted at its second seed does not train the first again.
    if context.folder:
        for trial in trials:
            checkpoint.remove_checkpoint(checkpoint_path(context.folder, trial.key))
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


class _Lanes:
    """Train the trials of a job, several at a time.

    If memory runs out, fewer run at a time; one that runs out of memory alone is trained once more
    with each batch in two parts.
    """

    def __init__(self, trials: list[TrialRun], context: Context) -> None:
        self._trials = trials
        self._context = context
        self._count = context.lanes
        self._waiting = deque(trials)
        self._active: list[TrialRun] = []
        self._has_garbage = False  # an error holds on to its training

    def run(self) -> list[Record]:
        """Return the records of all trials, in their order."""
        while self._waiting or self._active:
            self._start_trials()
            self._train_epoch()
            self._end_trials()
        self._collect_garbage()
        return [trial.record for trial in self._trials if trial.record is not None]

    def _start_trials(self) -> None:
        while self._waiting and len(self._active) < self._count:
            self._collect_garbage()
            trial = self._waiting.popleft()
            used = {active.lane for active in self._active}
            lane = next(lane for lane in count() if lane not in used)
            with self._errors_of(trial, 1 + len(used)), trial.timed():
                with shared_access(self._context.device):
                    trial.start(lane)
                self._active.append(trial)

    def _collect_garbage(self) -> None:
        if self._has_garbage:
            _free_memory(self._context)
            self._has_garbage = False

    def _train_epoch(self) -> None:
        """Train the active trials for one epoch."""
        trials = [trial for trial in self._active if not trial.is_trained]
        if not trials:
            return
        limit, together = self._context.time_limit_s, len(self._active)
        started = time.perf_counter()
        with shared_access(self._context.device):
            results = run_epochs(
                [trial.training for trial in trials], math.inf if limit is None else limit
            )
        seconds = [0.0 if isinstance(row, Exception) else row["seconds"] for row in results]
        others = time.perf_counter() - started - sum(seconds)  # waiting, and epochs that failed
        for trial, result, spent in zip(trials, results, seconds, strict=True):
            trial.add_seconds(spent + others / len(trials))
            with self._errors_of(trial, together), trial.timed():
                if isinstance(result, Exception):
                    raise result
                trial.end_epoch(result, others_wait=bool(self._waiting))

    def _end_trials(self) -> None:
        """Evaluate and end the active trials that have trained all epochs."""
        together = len(self._active)
        for trial in [trial for trial in self._active if trial.is_trained]:
            with self._errors_of(trial, together):
                with trial.timed():
                    metrics = trial.final_metrics()
                trial.succeed(metrics)
                self._active.remove(trial)

    @contextmanager
    def _errors_of(self, trial: TrialRun, together: int) -> Iterator[None]:
        """End a trial that raises an error, or let it wait for memory.

        Args:
            trial: the trial.
            together: number of trials that share the memory, this one included.
        """
        try:
            yield
        except Exception as error:
            self._has_garbage = True
            if trial in self._active:
                self._active.remove(trial)
            if is_out_of_memory(error) and self._makes_room(trial, together):
                trial.release()
                self._waiting.appendleft(trial)
            else:
                trial.fail(error)

    def _makes_room(self, trial: TrialRun, together: int) -> bool:
        """Reduce the memory that is needed; return False if nothing is left to reduce."""
        if together == 1:
            return trial.halve_batches()
        self._count = max(1, min(self._count, len(self._active)))
        _LOG.info("out of memory: training at most %d seeds at a time", self._count)
        return True
