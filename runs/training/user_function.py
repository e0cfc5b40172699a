"""User-supplied evaluation functions: `trial: module:function` of a study."""

import sys
import time
from collections.abc import Callable, Collection, Mapping
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

from partialnas.runs.records.job import Job
from partialnas.runs.records.record import SOURCE_KEY, Record
from partialnas.runs.records.subject import Subject
from partialnas.runs.system.environment import environment
from partialnas.runs.training.context import Context
from partialnas.runs.training.outcome import (
    cost_or_empty,
    from_exception,
    make_record,
    succeeded,
)
from partialnas.space.errors import UserError, describe_error
from partialnas.space.plugins import add_module_folder, hidden_module
from partialnas.space.source_code import ModuleSource, module_source

UserFunction = Callable[[Subject, int, int], Mapping[str, float]]
"""`evaluate(subject, seed, epochs) -> metrics`: a function that replaces training."""

_IMPORTED: dict[str, str] = {}
"""Source digest of each module that this process has imported for a function."""


def run_function(
    job: Job,
    function: UserFunction,
    context: Context,
    required: Collection[str] = (),
    source: str = "",
) -> list[Record]:
    """Call `function(subject, seed, epochs)` instead of training, with the same guarantees.

    Args:
        job: subject and seeds to evaluate.
        function: function that returns metrics by name.
        context: context with the device that the records name.
        required: metrics that the function must return, such as the objectives of a study.
        source: digest of the function's source, for the records; empty if unknown.

    Raises:
        MachineError: The function raised it.
    """
    facts = {
        "cost": cost_or_empty(job.subject, job),
        "environment": environment() | ({SOURCE_KEY: source} if source else {}),
    }
    records = []
    for seed in job.seeds:
        started = time.perf_counter()
        try:
            outcome = succeeded(function(job.subject, seed, job.fidelity), job, required)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's function can raise anything
            outcome = from_exception(error, job, context)
        seconds = time.perf_counter() - started
        records.append(make_record(job, seed, context, outcome, seconds, facts))
    return records


def function_source(name: str, path: Path | None = None) -> ModuleSource | None:
    """Return the source of the function `module:function`, or None if it is not Python code.

    Raises:
        UserError: There is no such module, or its source cannot be read.
    """
    add_module_folder(path)
    try:
        return module_source(name.partition(":")[0])
    except (ImportError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"trial: cannot import {name}: {describe_error(error)}") from error


def import_function(name: str, path: Path | None = None, digest: str | None = None) -> UserFunction:
    """Return the function `module:function`, imported from the Python path or the study's folder.

    A module that was edited since this process imported it is imported again.

    Args:
        name: module and function.
        path: the study's folder.
        digest: digest that the source must have, or None for any.

    Raises:
        UserError: There is no such module or function, importing it raises an error, or its source
            is another one.
    """
    module_name, _, function_name = name.partition(":")
    if digest is None or _IMPORTED.get(module_name) != digest:
        source = function_source(name, path)
        current = source.digest if source else ""
        if digest not in (None, current):
            raise UserError(
                f"trial: the source of {name} has changed while the study runs ({digest} -> "
                f"{current}); run the study again to see the difference"
            )
        if source and _IMPORTED.get(module_name, current) != current:
            _forget(source)
        _IMPORTED[module_name] = current
    try:
        function: Any = getattr(import_module(module_name), function_name)
    except BaseException as error:  # a user's module can raise anything
        _IMPORTED.pop(module_name, None)
        if isinstance(error, KeyboardInterrupt):
            raise
        hint = hidden_module(module_name, path)
        raise UserError(f"trial: cannot import {name}: {describe_error(error)}{hint}") from error
    if not callable(function):
        raise UserError(f"trial: {name} is not callable; expected a function")
    return function  # type: ignore[no-any-return]


def _forget(source: ModuleSource) -> None:
    """Remove modules from the table of imported ones, so that they are imported again."""
    for file in source.files:
        parts = Path(file).with_suffix("").parts
        sys.modules.pop(".".join(parts[:-1] if parts[-1] == "__init__" else parts), None)
    invalidate_caches()
