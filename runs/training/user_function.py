"""User-supplied evaluation functions: `trial: module:function` of a study."""

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
"""`evaluate(subject, seed, epochs) -> metrics`: a function that replaces training."""


def run_function(
    job: Job, function: UserFunction, context: Context, required: Collection[str] = ()
) -> list[Record]:
    """Call `function(subject, seed, epochs)` instead of training, with the same guarantees.

    Args:
        job: subject and seeds to evaluate.
        function: function that returns metrics by name.
        context: context with the device that the records name.
        required: metrics that the function must return, such as the objectives of a study.

    Raises:
        MachineError: The function raised it.
    """
    records = []
    for seed in job.seeds:
        started = time.perf_counter()
        try:
            outcome = succeeded(function(job.subject, seed, job.fidelity), job, required)
        except Exception as error:
            outcome = from_exception(error, job, context)
        records.append(make_record(job, seed, context, outcome, time.perf_counter() - started))
    return records


def import_function(name: str, path: Path | None = None) -> UserFunction:
    """Return the function `module:function`, imported from the Python path or the study's folder.

    Raises:
        UserError: There is no such module or function, or importing it raises an error.
    """
    module_name, _, function_name = name.partition(":")
    if path is not None and str(path.resolve()) not in sys.path:
        sys.path.append(str(path.resolve()))
    try:
        function: Any = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # a user's module can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"trial: cannot import {name}: {reason}") from error
    if not callable(function):
        raise UserError(f"trial: {name} is not callable; expected a function")
    return function  # type: ignore[no-any-return]
