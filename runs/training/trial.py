"""Run the trials of a job; if a network fails, its record states the reason."""

import gc
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record
from partialnas.runs.system.device import device_fault, is_out_of_memory, torch_device
from partialnas.runs.system.files import checkpoint_path
from partialnas.runs.system.precision import precision_settings
from partialnas.runs.system.seeding import (
    kernel_selection,
    torch_threads,
)
from partialnas.runs.training import checkpoint
from partialnas.runs.training.context import Context
from partialnas.runs.training.split_cache import SPLIT_CACHE
from partialnas.runs.training.trial_run import TrialRun
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
        data = _to_device(splits, job, device)
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
        self._memory_ran_out = False

    def run(self) -> list[Record]:
        """Return the records of all trials, in their order."""
        while self._waiting or self._active:
            self._start_trials()
            self._train_epoch()
        return [trial.record for trial in self._trials if trial.record is not None]

    def _start_trials(self) -> None:
        while self._waiting and len(self._active) < self._count:
            if self._memory_ran_out:  # only now, outside of the error that holds on to the training
                _free_memory(self._context)
                self._memory_ran_out = False
            trial = self._waiting.popleft()
            with self._errors_of(trial), trial.timed():
                trial.start()
                self._active.append(trial)

    def _train_epoch(self) -> None:
        """Train each active trial for one epoch, and end those that have trained all of them."""
        for trial in [*self._active]:
            with self._errors_of(trial):
                with trial.timed():
                    if not trial.is_trained:
                        trial.train_epoch(others_wait=bool(self._waiting))
                    metrics = trial.final_metrics() if trial.is_trained else None
                if metrics is not None:
                    trial.succeed(metrics)
                    self._active.remove(trial)

    @contextmanager
    def _errors_of(self, trial: TrialRun) -> Iterator[None]:
        """End a trial that raises an error, or let it wait for memory."""
        try:
            yield
        except Exception as error:
            if trial in self._active:
                self._active.remove(trial)
            if is_out_of_memory(error) and self._makes_room(trial):
                trial.release()
                self._waiting.appendleft(trial)
                self._memory_ran_out = True
            else:
                trial.fail(error)

    def _makes_room(self, trial: TrialRun) -> bool:
        """Reduce the memory that is needed; return False if nothing is left to reduce."""
        if not self._active:
            return trial.halve_batches()
        self._count = len(self._active)
        _LOG.info("out of memory: training at most %d seeds at a time", self._count)
        return True
