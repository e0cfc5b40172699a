"""How a trial ends: metrics that are plain numbers, or the reason why there are none."""

import logging
import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record, TrialState
from partialnas.runs.records.subject import Subject, subject_digest, subject_name
from partialnas.runs.system.environment import environment
from partialnas.runs.training.build import subject_cost
from partialnas.runs.training.context import Context
from partialnas.space.errors import MachineError, UserError

_LOG = logging.getLogger(__name__)
_REASON_LENGTH = 500


class TrialEndedError(Exception):
    """A trial ended before its time: `state` and `reason` go to its record."""

    def __init__(self, state: Literal["failed", "timeout"], reason: str) -> None:
        super().__init__(reason)
        self.state: Literal["failed", "timeout"] = state
        self.reason = reason


class Outcome(NamedTuple):
    """What a record says of a trial's end."""

    state: TrialState
    reason: str | None
    metrics: Mapping[str, float]


def succeeded(metrics: Any, job: Job, required: Collection[str] = ()) -> Outcome:
    """The end of a trial that has metrics; on a lower rung of a search it is `early`.

    Raises:
        TrialEndedError: no metrics, one that is no finite number, or a missing one.
    """
    numbers = _checked(metrics, required)
    return Outcome("early", job.rung, numbers) if job.rung else Outcome("done", None, numbers)


def from_exception(
    error: Exception, job: Job, context: Context, *, halved: bool = False
) -> Outcome:
    """How the trial ended by an exception; those that are no fault of its network are raised."""
    if isinstance(error, MachineError):
        raise error
    if isinstance(error, TrialEndedError):
        return Outcome(error.state, error.reason, {})
    import torch

    from partialnas.runs.system.device import is_out_of_memory

    if isinstance(error, torch.AcceleratorError):
        raise MachineError(f"device {context.device} failed: {error}") from error
    if is_out_of_memory(error):
        size = job.recipe.batch_size
        reason = f"out of memory on {context.device} with batch size {size}"
        if halved:
            reason += f", and in two parts of {(size + 1) // 2}"
        return Outcome("failed", reason, {})
    _LOG.info("a trial of %s failed", subject_name(job.subject), exc_info=error)
    told = " ".join(str(error).split())
    reason = told if isinstance(error, UserError) else f"{type(error).__name__}: {told}"
    return Outcome("failed", reason[:_REASON_LENGTH], {})


def _checked(metrics: Any, required: Collection[str] = ()) -> dict[str, float]:
    """The metrics as plain numbers.

    Raises:
        TrialEndedError: no metrics, one that is no finite number, or a missing one.
    """
    if not isinstance(metrics, Mapping) or not metrics:
        raise TrialEndedError("failed", f"expected metrics by name, got {metrics!r:.100}")
    for name in required:
        if name not in metrics:
            found = ", ".join(map(str, metrics))
            raise TrialEndedError("failed", f"metric {name} is missing; there are {found}")
    return {str(name): _number(name, value) for name, value in metrics.items()}


def _number(name: Any, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        reason = f"metric {name} is {value!r:.100}, expected a finite number"
        raise TrialEndedError("failed", reason)
    return number


def make_record(
    job: Job,
    seed: int,
    context: Context,
    ending: Outcome,
    seconds: float,
    learned: Mapping[str, Any] | None = None,
) -> Record:
    """The record of a trial.

    Args:
        job: that it belongs to.
        seed: of the trial.
        context: whose device the record names.
        ending: how it ended.
        seconds: that it took.
        learned: fields that a training fills, `cost` and `environment` among them; without it
            these tell what is known of the job alone.
    """
    learned = learned or {"cost": cost_or_empty(job.subject, job), "environment": environment()}
    return Record(
        key=job.trial_keys[seed],
        digest=subject_digest(job.subject),
        name=subject_name(job.subject),
        seed=seed,
        fidelity=job.fidelity,
        state=ending.state,
        reason=ending.reason,
        metrics=dict(ending.metrics),
        seconds=seconds,
        device=context.device,
        **learned,
    )


def cost_or_empty(subject: Subject, job: Job) -> dict[str, int]:
    """Empty for a network that cannot be counted; where it cannot be built, the reason says so."""
    try:
        return subject_cost(subject, job.task)
    except Exception:
        return {}
