"""The items of a study, and how a worker runs one of them.

Torch is imported only to train and measure, so a study of a user function does not need it.
"""

import logging
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import Subject, subject_digest
from partialnas.runs.system.files import TrialWeights, weights_path
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.user_function import import_function, run_function
from partialnas.search.executors.base import ItemResult, append_log, describe_item
from partialnas.space.errors import UserError
from partialnas.space.plugins import add_module_folder, load_plugins
from partialnas.space.values import Value

if TYPE_CHECKING:
    from partialnas.runs.datasets.loaders import Splits
    from partialnas.runs.measure.prepared_model import TimingInputs

_LOG = logging.getLogger(__name__)


class TimingJob(Value):
    """An item that measures the speed of a network on the study's device.

    Attributes:
        subject: the network.
        task: task that gives the shape of the images.
        protocol: how the network is timed.
        weights_trial_key: key of the trial that provides the weights, or None if the speed does
            not depend on them.
        weights_val_nll: its recorded negative log-likelihood in nats, or None.
    """

    subject: Subject
    task: Task
    protocol: Protocol
    weights_trial_key: str | None = None
    weights_val_nll: float | None = None

    @property
    def identity(self) -> tuple[str, Task, Protocol, str | None]:
        """A key that is equal for items that share one measurement."""
        return subject_digest(self.subject), self.task, self.protocol, self.weights_trial_key


Item = Job | TimingJob


class ReferenceCheck(Value):
    """An item that runs the reference network once, to check that it can be measured.

    Attributes:
        settings: task and protocol of each condition of the study.
    """

    settings: tuple[tuple[Task, Protocol], ...]


@dataclass(frozen=True)
class TaskRunner:
    """Run one item in a worker; made of plain data, so that it can be sent to workers.

    A worker that shares a GPU allocates no more than its share of the memory.

    Attributes:
        context: device, folders and limits of trials.
        splits: data splits by task.
        reference: network that throughput is relative to.
        function: `module:function` of a user function that replaces training, or None.
        function_digest: digest that the function's source must have; empty if it has no source.
        required_metrics: metrics that the user function must return.
        times_networks: whether networks that the user function evaluates are timed.
        module_dirs: folders that the user's function and plug-ins come from.
        plugins: source digest of each plug-in to import first, by module name.
    """

    context: Context
    splits: "Mapping[Task, Splits]"
    reference: Subject
    function: str | None = None
    function_digest: str = ""
    required_metrics: tuple[str, ...] = ()
    times_networks: bool = False
    module_dirs: tuple[Path, ...] = ()
    plugins: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, item: Item | ReferenceCheck) -> ItemResult:
        """Return the item's result; failures of a network are in its records, never raised.

        Raises:
            UserError: the reference cannot be measured, or the data are missing.
            MachineError: the device or the disk fails.
        """
        for folder in self.module_dirs:
            add_module_folder(folder)
        load_plugins(self.plugins)
        if isinstance(item, ReferenceCheck):
            return self._check_reference(item)
        if isinstance(item, TimingJob):
            return self._time(item)
        if self.function is None:
            return self._train(item)
        evaluate = import_function(self.function, None, self.function_digest)
        if "torch" in sys.modules:
            self._limit_memory()
        settings = self.context, self.required_metrics, self.function_digest
        log, is_timed = partial(self._log_failure, item), self.times_networks
        records = run_function(item, evaluate, *settings, is_timed=is_timed, on_failure=log)
        return ItemResult(records=tuple(records))

    def _log_failure(self, item: Job, error: BaseException) -> None:
        """Append the traceback of a user function to the log of the workers."""
        if self.context.folder is not None:
            text = "".join(traceback.format_exception(error))
            append_log(self.context.folder / "workers.log", f"{describe_item(item)}\n{text}")

    def _train(self, item: Job) -> ItemResult:
        from partialnas.runs.system.allocator import keep_freed_memory
        from partialnas.runs.trials.trial import run_job

        keep_freed_memory()
        self._prepare_device()
        context = replace(self.context, splits=self.splits.get(item.task))
        return ItemResult(records=tuple(run_job(item, context)))

    def _time(self, item: TimingJob) -> ItemResult:
        from partialnas.runs.measure.measure import measure

        self._prepare_device()
        inputs = self._timing_inputs(item, item.weights_trial_key)
        try:
            measurement = measure(item.subject, item.task, item.protocol, self.reference, inputs)
        except UserError as error:  # caused by this network: the reference was checked before
            _LOG.warning("%s", error)
            return ItemResult(reason=str(error))
        return ItemResult(measurement=measurement)

    def _check_reference(self, item: ReferenceCheck) -> ItemResult:
        from partialnas.runs.measure.measure import check_measurable

        self._prepare_device()
        for task, protocol in item.settings:
            check_measurable(self.reference, task, protocol)
        return ItemResult()

    def _prepare_device(self) -> None:
        """Make settings that CUDA reads when it starts, for all recipes that this worker runs."""
        from partialnas.runs.system.seeding import prepare_cublas

        prepare_cublas()
        self._limit_memory()

    def _limit_memory(self) -> None:
        """Limit what torch allocates to this worker's share of a GPU that it shares."""
        if self.context.gpu_share < 1:
            from partialnas.runs.devices.device import limit_memory

            limit_memory(self.context.device, self.context.gpu_share)

    def _timing_inputs(self, item: TimingJob, key: str | None) -> "TimingInputs | None":
        """Return the weights of a trial and the validation images, if the speed depends on them."""
        if key is None:
            return None
        from partialnas.runs.datasets.loaders import load_splits
        from partialnas.runs.measure.prepared_model import TimingInputs

        assert self.context.folder is not None, "weights are stored in a study's folder"
        splits = self.splits.get(item.task) or load_splits(item.task)
        path = weights_path(self.context.folder, key)
        weights = TrialWeights(path, key, item.weights_val_nll, self.context.device)
        return TimingInputs(splits, weights)
