"""The work of a study: what one worker does with one item, and the plain data it needs.

Torch is imported by what trains and measures: a study of a function may do without.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import Subject, subject_digest
from partialnas.runs.records.timing_choice import TimingSetup
from partialnas.runs.system.files import weights_path
from partialnas.runs.training.context import Context
from partialnas.runs.training.user_function import import_function, run_function
from partialnas.search.executors.base import ItemResult
from partialnas.space.errors import UserError
from partialnas.space.values import Value

if TYPE_CHECKING:
    from partialnas.runs.datasets.loaders import Splits
    from partialnas.runs.measure.prepared_model import TimingInputs

_LOG = logging.getLogger(__name__)


class TimingJob(Value):
    """An item of work: measure how fast a network is on the study's device.

    Attributes:
        subject: what is timed.
        task: gives the images.
        protocol: how it is timed.
        weights_trial_key: key of the trial whose weights it has, where its speed depends on them.
    """

    subject: Subject
    task: Task
    protocol: Protocol
    weights_trial_key: str | None = None

    @property
    def identity(self) -> tuple[str, Task, Protocol, str | None]:
        """What is equal where one measurement answers for two items."""
        return subject_digest(self.subject), self.task, self.protocol, self.weights_trial_key

    @property
    def label(self) -> str:
        """What this item is called in logs."""
        return f"timing-{subject_digest(self.subject)}"


def matches_measurement(task: Task, protocol: Protocol, measurement: Measurement) -> bool:
    """Whether a measurement was taken on a task's images, by the protocol."""
    taken = (measurement.resolution, measurement.in_chans)
    return (task.resolution, task.channels) == taken and TimingSetup.from_protocol(
        protocol
    ).matches(measurement)


Item = Job | TimingJob


@dataclass(frozen=True)
class TaskRunner:
    """Does one item; made of plain data, so that it reaches every worker.

    Attributes:
        context: device, folders and limits of trials.
        splits: the data of each task.
        reference: what throughput is relative to.
        function: `module:function` that stands in for training.
        required_metrics: metrics that the function must return.
        module_dir: where else modules are looked for (the study's folder).
    """

    context: Context
    splits: "Mapping[Task, Splits]"
    reference: Subject
    function: str | None = None
    required_metrics: tuple[str, ...] = ()
    module_dir: Path | None = None

    def __call__(self, item: Item) -> ItemResult:
        """What came of the item; what a network did wrong is in the record, never raised."""
        if isinstance(item, TimingJob):
            return self._time(item)
        if self.function is None:
            return self._train(item)
        evaluate = import_function(self.function, self.module_dir)
        return ItemResult(
            records=tuple(run_function(item, evaluate, self.context, self.required_metrics))
        )

    def _train(self, item: Job) -> ItemResult:
        from partialnas.runs.system.allocator import keep_freed_memory
        from partialnas.runs.training.trial import run_job

        keep_freed_memory()
        context = replace(self.context, splits=self.splits.get(item.task))
        return ItemResult(records=tuple(run_job(item, context)))

    def _time(self, item: TimingJob) -> ItemResult:
        from partialnas.runs.measure.measure import measure

        trained = (
            self._trained(item.task, item.weights_trial_key) if item.weights_trial_key else None
        )
        try:
            taken = measure(item.subject, item.task, item.protocol, self.reference, trained)
        except UserError as error:  # of this network alone: the reference has been rehearsed
            _LOG.warning("%s", error)
            return ItemResult()
        return ItemResult(measurement=taken)

    def _trained(self, task: Task, key: str) -> "TimingInputs":
        """The weights of a trial, and the validation images that they are timed on."""
        from partialnas.runs.datasets.loaders import load_splits
        from partialnas.runs.measure.prepared_model import TimingInputs

        assert self.context.folder is not None, "weights are kept in a study's folder"
        splits = self.splits.get(task) or load_splits(task)
        return TimingInputs(splits, weights_path(self.context.folder, key))
