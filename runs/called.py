"""Functions that stand in for training: a study's `trial: module:function`."""

import time
from collections.abc import Callable, Collection, Mapping

from partialnas.runs.context import Context
from partialnas.runs.ending import explained, record_of, well
from partialnas.runs.job import Job
from partialnas.runs.record import Record
from partialnas.runs.subject import Subject

Evaluate = Callable[[Subject, int, int], Mapping[str, float]]
"""`evaluate(architecture, seed, epochs) -> metrics`: what can stand in for training."""


def run_function(
    job: Job, function: Evaluate, context: Context, required: Collection[str] = ()
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
    job: Job, seed: int, function: Evaluate, context: Context, required: Collection[str]
) -> Record:
    started = time.perf_counter()
    try:
        ending = well(function(job.subject, seed, job.fidelity), job, required)
    except Exception as error:
        ending = explained(error, job, context)
    return record_of(job, seed, context, ending, time.perf_counter() - started)
