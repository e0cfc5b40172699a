"""The work of a study: what one worker does with one item, and the plain data it needs."""

import importlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partialnas.runs.heap import keep_freed_memory
from partialnas.runs.job import Job
from partialnas.runs.measure import measure
from partialnas.runs.measurement import Protocol
from partialnas.runs.subject import Subject, subject_digest
from partialnas.runs.task import Task
from partialnas.runs.trial import Context, Evaluate, run_function, run_trial
from partialnas.search.executor import Outcome
from partialnas.space.errors import UserError
from partialnas.space.values import Value

_LOG = logging.getLogger(__name__)


class Timing(Value):
    """An item of work: measure how fast a network is on the study's device."""

    subject: Subject

    @property
    def label(self) -> str:
        """What this item is called in logs."""
        return f"timing-{subject_digest(self.subject)}"


Item = Job | Timing


@dataclass(frozen=True)
class Work:
    """Does one item; made of plain data, so that it reaches every worker.

    Attributes:
        context: device, data, folders and limits of trials.
        task: what is learned, for measuring.
        protocol: how networks are measured.
        reference: what throughput is relative to.
        function: `module:function` that stands in for training.
        required: metrics that the function must return.
        path: where else modules are looked for (the study's folder).
    """

    context: Context
    task: Task
    protocol: Protocol
    reference: Subject
    function: str | None = None
    required: tuple[str, ...] = ()
    path: Path | None = None

    def __call__(self, item: Item) -> Outcome:
        """What came of the item; what a network did wrong is in the record, never raised."""
        if isinstance(item, Timing):
            return self._time(item)
        if self.function is None:
            keep_freed_memory()
            return Outcome(records=tuple(run_trial(item, self.context)))
        evaluate = import_function(self.function, self.path)
        return Outcome(records=tuple(run_function(item, evaluate, self.context, self.required)))

    def _time(self, item: Timing) -> Outcome:
        try:
            taken = measure(item.subject, self.task, self.protocol, self.reference)
        except UserError as error:  # of this network alone: the reference has been rehearsed
            _LOG.warning("%s", error)
            return Outcome()
        return Outcome(measurement=taken)


def import_function(name: str, path: Path | None = None) -> Evaluate:
    """The function that `module:function` names, looked for beside the study too.

    Raises:
        UserError: no such module or function, or an error on importing it.
    """
    module_name, _, function_name = name.partition(":")
    if path is not None and str(path.resolve()) not in sys.path:
        sys.path.append(str(path.resolve()))
    try:
        function: Any = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # whatever a user's module does when it is imported
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"trial: cannot import {name}: {told}") from error
    if not callable(function):
        raise UserError(f"trial: {name} is not a function")
    return function  # type: ignore[no-any-return]
