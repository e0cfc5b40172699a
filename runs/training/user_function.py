"""Functions that stand in for training: a study's `trial: module:function`."""

import importlib
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record
from partialnas.runs.records.subject import Subject
from partialnas.runs.training.context import Context
from partialnas.runs.training.outcome import from_exception, make_record, succeeded
from partialnas.space.errors import UserError

UserFunction = Callable[[Subject, int, int], Mapping[str, float]]
"""`evaluate(architecture, seed, epochs) -> metrics`: what can stand in for training."""


def run_function(
    job: Job, function: UserFunction, context: Context, required: Collection[str] = ()
) -> list[Record]:
    """Calls `function(subject, seed, epochs)` in place of training, with the same guarantees.

    Args:
        job: what to evaluate, and for which seeds.
        function: returns its metrics by name.
        context: whose device the records name.
        required: names that the metrics must have, such as a study's objectives.

    Raises:
        MachineError: raised by the function itself.
    """
    return [_call_seed(job, seed, function, context, required) for seed in job.seeds]


def _call_seed(
    job: Job, seed: int, function: UserFunction, context: Context, required: Collection[str]
) -> Record:
    started = time.perf_counter()
    try:
        ending = succeeded(function(job.subject, seed, job.fidelity), job, required)
    except Exception as error:
        ending = from_exception(error, job, context)
    return make_record(job, seed, context, ending, time.perf_counter() - started)


def import_function(name: str, path: Path | None = None) -> UserFunction:
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
