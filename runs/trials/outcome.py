"""Outcome of a trial (metrics or the reason for its failure), and its conversion to a record."""

import logging
import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from partialnas.runs.config.quantities import LARGEST_METRIC, is_measured
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record, TrialState
from partialnas.runs.records.subject import Subject, subject_digest, subject_name
from partialnas.runs.system.environment import environment
from partialnas.runs.trials.build import subject_cost
from partialnas.runs.trials.context import Context
from partialnas.space.errors import (
    DeviceFaultError,
    MachineError,
    TrialEndedError,
    UserError,
    describe_error,
    storable_text,
)

_LOG = logging.getLogger(__name__)
_REASON_LENGTH = 500


class Outcome(NamedTuple):
    """State, reason and metrics of a trial that has ended."""

    state: TrialState
    reason: str | None
    metrics: Mapping[str, float]


def succeeded(metrics: Any, job: Job, required: Collection[str] = ()) -> Outcome:
    """Return the outcome of a trial with metrics; on a lower rung of a search it is `early`.

    Raises:
        TrialEndedError: There are no metrics, one is not finite or beyond `LARGEST_METRIC`, or a
            required one is missing.
    """
    numbers = check_metrics(metrics, required)
    return Outcome("early", job.rung, numbers) if job.rung else Outcome("done", None, numbers)


def from_exception(
    error: BaseException, job: Job, context: Context, *, halved: bool = False
) -> Outcome:
    """Return the outcome of a trial that raised.

    Raises:
        MachineError: The error is one of the machine, not of the network.
        DeviceFaultError: The device failed, and this process cannot use it any more.
    """
    if isinstance(error, MachineError):
        raise error
    if isinstance(error, TrialEndedError):
        return Outcome(error.state, error.reason, {})
    from partialnas.runs.devices.device import device_fault, is_out_of_memory

    if is_out_of_memory(error):
        return Outcome("failed", _memory_reason(error, job, context, halved=halved), {})
    if fault := device_fault(error, context.device):
        raise DeviceFaultError(context.device, fault) from error
    _LOG.info("a trial of %s failed", subject_name(job.subject), exc_info=error)
    reason = describe_error(error)
    if isinstance(error, UserError):
        reason = reason.removeprefix(f"{type(error).__name__}: ")
    return Outcome("failed", reason[:_REASON_LENGTH], {})


def _memory_reason(error: BaseException, job: Job, context: Context, *, halved: bool) -> str:
    from partialnas.runs.devices.device import NO_ENGINE

    size = job.recipe.batch_size
    reason = f"out of memory on {context.device} with batch size {size}"
    if halved:
        reason += f", and in two parts of {(size + 1) // 2}"
    if NO_ENGINE in str(error):
        reason += "; or cuDNN does not support one of the network's convolutions"
    return reason


def check_metrics(metrics: Any, required: Collection[str] = ()) -> dict[str, float]:
    """Return metrics as plain numbers by name.

    Raises:
        TrialEndedError: As in `succeeded`.
    """
    if not isinstance(metrics, Mapping) or not metrics:
        raise TrialEndedError("failed", f"expected a mapping of metrics, got {short_repr(metrics)}")
    for name in required:
        if name not in metrics:
            names = ", ".join(map(str, metrics))
            hint = "" if not is_measured(name) else "; return it, or set measure.when: during"
            raise TrialEndedError("failed", f"metric {name} is missing; got {names}{hint}")
    return {storable_text(str(name)): _number(name, value) for name, value in metrics.items()}


def _number(name: Any, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, str | bytes | bytearray) else float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        number = math.nan
    if math.isfinite(number) and abs(number) <= LARGEST_METRIC:
        return number
    expected = "a finite number" if not math.isfinite(number) else f"at most ±{LARGEST_METRIC:g}"
    raise TrialEndedError("failed", f"metric {name} is {short_repr(value)}, expected {expected}")


def short_repr(value: Any) -> str:
    """Return the start of a value's representation."""
    try:
        return f"{value!r:.100}"
    except Exception:  # such as an integer of more digits than Python prints
        return f"a value of type {type(value).__name__}"


def make_record(
    job: Job,
    seed: int,
    context: Context,
    outcome: Outcome,
    seconds: float,
    facts: Mapping[str, Any] | None = None,
) -> Record:
    """Return the record of a trial.

    Args:
        job: job of the trial.
        seed: seed of the trial.
        context: context with the device.
        outcome: outcome of the trial.
        seconds: seconds that it took.
        facts: fields that come from a training, with `cost` and `environment`. Without
            them, these two are computed from the job.
    """
    facts = facts or {"cost": cost_or_empty(job.subject, job), "environment": environment()}
    if context.gpu_share < 1:  # the memory that the trial may have had
        share = {"gpu_share": f"{context.gpu_share:g}"}
        facts = {**facts, "environment": facts["environment"] | share}
    return Record(
        key=job.trial_keys[seed],
        digest=subject_digest(job.subject),
        name=subject_name(job.subject),
        seed=seed,
        fidelity=job.fidelity,
        state=outcome.state,
        reason=outcome.reason and storable_text(outcome.reason)[:_REASON_LENGTH],
        metrics=dict(outcome.metrics),
        seconds=seconds,
        device=context.device,
        **facts,
    )


def cost_or_empty(subject: Subject, job: Job) -> dict[str, int]:
    """Return the cost of a subject; empty if it cannot be counted."""
    try:
        return subject_cost(subject, job.task)
    except Exception:
        return {}
