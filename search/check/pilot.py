"""Pilots: a few timed steps of one network, to tell how long a trial will take."""

from dataclasses import dataclass, replace
from fractions import Fraction

from partialnas.runs.datasets.loaders import Splits, load_splits, subset
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import Subject
from partialnas.runs.training.context import Context
from partialnas.runs.training.trial import run_job
from partialnas.search.study.condition import Condition
from partialnas.space.errors import UserError

_SHORT, _LONG = 4, 12
"""Steps of the two timed runs; their difference is free of what a start costs."""


@dataclass(frozen=True)
class Pilot:
    """What a trial takes, extrapolated from a few steps.

    Attributes:
        seconds: of one trial with all its epochs.
        startup_seconds: seconds before its first epoch.
    """

    seconds: float
    startup_seconds: float


def time_trial(subject: Subject, condition: Condition, device: str) -> Pilot:
    """Time a few training steps and evaluations of `subject`, and extrapolate to a trial.

    Raises:
        UserError: the network cannot be trained; says why.
    """
    recipe = condition.recipe
    splits = subset(load_splits(condition.task), recipe.data_share)
    condition = replace(condition, recipe=recipe.model_copy(update={"data_share": Fraction(1)}))
    steps = len(splits.train_y) // recipe.batch_size
    short, long = (
        _epoch(subject, condition, _share(splits, count * recipe.batch_size), device)
        for count in (_SHORT, _LONG)
    )
    step = max(long - short, 0.0) / (_LONG - _SHORT)
    return Pilot(recipe.epochs * steps * step, max(short - _SHORT * step, 0.0))


def pilot_values(
    subject: Subject, condition: Condition, device: str, seeds: int, quantity: str
) -> list[float]:
    """What whole trials of `subject` reach, one for each seed.

    Raises:
        UserError: fewer than two seeds, the network cannot be trained, or trials do not tell the
            quantity.
    """
    if seeds < 2:
        raise UserError("--pilot: expected at least 2 seeds: one alone has no spread")
    splits = load_splits(condition.task)
    task, recipe = condition.task, condition.recipe
    job = Job(
        subject=subject, task=task, recipe=recipe, fidelity=recipe.epochs, seeds=(*range(seeds),)
    )
    records = run_job(job, Context(device=device, splits=splits))
    failed = next((record.reason for record in records if record.state != "done"), None)
    if failed or any(quantity not in record.metrics for record in records):
        raise UserError(f"a pilot trial failed: {failed or f'it tells no {quantity}'}")
    return [record.metrics[quantity] for record in records]


def _epoch(subject: Subject, condition: Condition, splits: Splits, device: str) -> float:
    task, recipe = condition.task, condition.recipe
    job = Job(subject=subject, task=task, recipe=recipe, fidelity=1, seeds=(0,))
    (record,) = run_job(job, Context(device=device, splits=splits))
    if record.state != "done":
        raise UserError(f"a pilot trial failed: {record.reason}")
    return record.seconds


def _share(splits: Splits, count: int) -> Splits:
    """The first `count` training images, and of the other splits as large a share."""
    share = count / len(splits.train_y)
    val, test = (max(1, round(share * len(y))) for y in (splits.val_y, splits.test_y))
    return replace(
        splits,
        train_x=splits.train_x[:count],
        train_y=splits.train_y[:count],
        val_x=splits.val_x[:val],
        val_y=splits.val_y[:val],
        test_x=splits.test_x[:test],
        test_y=splits.test_y[:test],
    )
