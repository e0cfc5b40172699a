"""User-supplied evaluation functions: `trial: module:function` of a study."""

import inspect
import math
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

from partialnas.runs.config.quantities import is_measured
from partialnas.runs.devices.device_lock import shared_access
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import SOURCE_KEY, Record
from partialnas.runs.system.environment import environment
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.epoch_report import EpochReport
from partialnas.runs.trials.function_files import checkpoint_folder, close_folder, open_folder
from partialnas.runs.trials.outcome import cost_or_empty, from_exception, make_record, succeeded
from partialnas.space.errors import TrialEndedError, UserError, describe_error
from partialnas.space.plugins import add_module_folder, hidden_module
from partialnas.space.source_code import ModuleSource, module_source

UserFunction = Callable[..., Mapping[str, float]]
"""`evaluate(architecture, seed, epochs) -> metrics`: a function that replaces training.

If it has a parameter `report` or `checkpoint_dir`, it also gets an `EpochReport` or the path of a
folder (see `run_function`).
"""

_OPTIONAL_PARAMETERS = ("report", "checkpoint_dir")

_IMPORTED: dict[str, str] = {}
"""Source digest of each module that this process has imported for a function."""


def run_function(
    job: Job,
    function: UserFunction,
    context: Context,
    required: Collection[str] = (),
    source: str = "",
    *,
    is_timed: bool = False,
    on_failure: Callable[[BaseException], None] = lambda _: None,
) -> list[Record]:
    """Call `function(architecture, seed, epochs)` instead of training, with the same guarantees.

    Torch has the recipe's number of threads, if the function's module imports it.

    The optional parameter `report` is called with every epoch's metrics (see `EpochReport`);
    `checkpoint_dir` is a folder whose files are there when the function is called again for this
    network and seed, after an interruption or on the next rung.

    Args:
        job: subject and seeds to evaluate.
        function: function that returns metrics by name.
        context: context with the device that the records name.
        required: metrics that the function must return, such as the objectives of a study.
        source: digest of the function's source, for the records; empty if unknown.
        is_timed: whether networks of the study are timed. Measurements then wait for the present
            epoch of the function, which must not return measured quantities.
        on_failure: called with the exception of each failed trial, which says where the function
            raised it or called `report`.

    Raises:
        MachineError: The function raised it, or a file cannot be written.
    """
    facts = {
        "cost": cost_or_empty(job.subject, job),
        "environment": environment() | ({SOURCE_KEY: source} if source else {}),
    }
    records = []
    with _torch_threads(job.recipe.threads):
        for seed in job.seeds:
            settings = function, context, required, facts
            record, error = _run_seed(job, seed, *settings, is_timed=is_timed)
            records.append(record)
            if error is not None:
                on_failure(error)
    return records


def _torch_threads(threads: int) -> AbstractContextManager[None]:
    """Set torch's number of threads; do not import torch for a function that does without."""
    if "torch" not in sys.modules:
        return nullcontext()
    from partialnas.runs.system.seeding import torch_threads

    return torch_threads(threads)


def _run_seed(
    job: Job,
    seed: int,
    function: UserFunction,
    context: Context,
    required: Collection[str],
    facts: Mapping[str, Any],
    *,
    is_timed: bool,
) -> tuple[Record, BaseException | None]:
    """Call the function with one seed; return its record and its exception; see `run_function`."""
    started, raised = time.perf_counter(), None
    parameters = _optional_parameters(function)
    continues = "checkpoint_dir" in parameters
    folder = open_folder(context.folder, job, seed) if context.folder and parameters else None
    with ExitStack() as access:
        share: Callable[[], None] = (
            partial(_share_device, access, context.device) if is_timed else lambda: None
        )
        report = EpochReport(
            job.trial_keys[seed],
            job.fidelity,
            folder,
            limit_s=math.inf if context.time_limit_s is None else context.time_limit_s,
            continues=continues,
            between=share,
        )
        values = {"report": report, "checkpoint_dir": folder and checkpoint_folder(folder)}
        try:
            share()
            options = {name: values[name] for name in parameters}
            metrics = function(job.subject, seed, job.fidelity, **options)
            if report.error is not None:
                raise report.error
            outcome = succeeded(metrics, job, required)
            if is_timed:
                _check_none_measured(outcome.metrics)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's function can raise anything
            cause = report.error or error
            outcome = from_exception(cause, job, context)
            raised = cause if outcome.state == "failed" else None
    if folder and context.folder:
        failed = outcome.state in ("failed", "timeout")
        keep = continues and job.recipe.keep_weights == "all"
        close_folder(context.folder, job, seed, failed=failed, keep=keep)
    seconds = time.perf_counter() - started + report.resumed_seconds
    details = {**facts, "curve": report.curve}
    return make_record(job, seed, context, outcome, seconds, details), raised


def _share_device(access: ExitStack, device: str) -> None:
    """Share a device with other trainings, after any measurement that waits for it."""
    access.close()
    access.enter_context(shared_access(device))


def _optional_parameters(function: UserFunction) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions that are written in C have no signature
        return []
    return [name for name in _OPTIONAL_PARAMETERS if name in parameters]


def _check_none_measured(metrics: Mapping[str, float]) -> None:
    if name := next(filter(is_measured, metrics), None):
        raise TrialEndedError(
            "failed",
            f"metric {name} is measured by this study; return it under another name, or set "
            "measure.when: auto",
        )


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
        UserError: There is no such module or function, importing it raises an error, its source
            is another one, or it has other parameters than `UserFunction`.
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
    _check_parameters(function, name)
    return function  # type: ignore[no-any-return]


def _check_parameters(function: UserFunction, name: str) -> None:
    """Check that a function can be called with an architecture, a seed, epochs and options."""
    options = dict.fromkeys(_optional_parameters(function))
    try:
        inspect.signature(function).bind(None, 0, 1, **options)
    except ValueError:  # without a signature
        return
    except TypeError as error:
        call = f"{name.rpartition(':')[2]}(architecture, seed, epochs)"
        raise UserError(
            f"trial: {name} cannot be called as {call}: {error}; it may also have the parameters "
            f"{' and '.join(_OPTIONAL_PARAMETERS)}"
        ) from error


def _forget(source: ModuleSource) -> None:
    """Remove modules from the table of imported ones, so that they are imported again."""
    for file in source.files:
        parts = Path(file).with_suffix("").parts
        sys.modules.pop(".".join(parts[:-1] if parts[-1] == "__init__" else parts), None)
    invalidate_caches()
