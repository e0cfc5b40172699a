"""Pilot runs: time a few training steps, or train a few seeds, of one network."""

from dataclasses import replace
from fractions import Fraction

from partialnas.runs.datasets.loaders import Splits, load_splits, subset
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record
from partialnas.runs.records.subject import Subject
from partialnas.runs.training.context import Context
from partialnas.runs.training.trial import run_job
from partialnas.search.study.fidelity import Condition
from partialnas.space.errors import UserError

_SHORT_STEPS, _LONG_STEPS = 4, 12
"""Numbers of steps of the two timed runs; their difference excludes the startup time."""


def time_trial(subject: Subject, condition: Condition, device: str) -> float:
    """Return the seconds of a trial, extrapolated from a few training steps and evaluations.

    Raises:
        UserError: the network cannot be trained; the message gives the reason.
    """
    recipe = condition.recipe
    splits = subset(load_splits(condition.task), recipe.data_share)
    condition = replace(condition, recipe=recipe.model_copy(update={"data_share": Fraction(1)}))
    steps = len(splits.train_y) // recipe.batch_size
    short, long = (
        _epoch_seconds(subject, condition, _first_images(splits, count * recipe.batch_size), device)
        for count in (_SHORT_STEPS, _LONG_STEPS)
    )
    step = max(long - short, 0.0) / (_LONG_STEPS - _SHORT_STEPS)
    startup = max(short - _SHORT_STEPS * step, 0.0)  # before the first epoch
    return recipe.epochs * steps * step + startup


def pilot_values(
    subject: Subject, condition: Condition, device: str, seeds: int, quantity: str
) -> list[float]:
    """Train `subject` with several seeds and return the values of a quantity.

    Raises:
        UserError: fewer than two seeds, or a trial failed or did not return the quantity.
    """
    if seeds < 2:
        raise UserError("--pilot: expected at least 2 seeds to estimate a standard deviation")
    splits, epochs = load_splits(condition.task), condition.recipe.epochs
    records = _train(subject, condition, splits, device, epochs=epochs, seeds=seeds)
    if any(quantity not in record.metrics for record in records):
        raise UserError(f"the pilot trials did not return the quantity {quantity}")
    return [record.metrics[quantity] for record in records]


def _epoch_seconds(subject: Subject, condition: Condition, splits: Splits, device: str) -> float:
    (record,) = _train(subject, condition, splits, device, epochs=1, seeds=1)
    return record.seconds


def _train(
    subject: Subject, condition: Condition, splits: Splits, device: str, *, epochs: int, seeds: int
) -> list[Record]:
    """Return the records of trials with the first seeds.

    Raises:
        UserError: a trial failed.
    """
    task, recipe = condition.task, condition.recipe
    job = Job(subject=subject, task=task, recipe=recipe, fidelity=epochs, seeds=(*range(seeds),))
    records = [*run_job(job, Context(device=device, splits=splits))]
    for record in records:
        if record.state != "done":
            raise UserError(f"a pilot trial failed: {record.reason}")
    return records


def _first_images(splits: Splits, count: int) -> Splits:
    """Return the first `count` training images and an equal share of the other splits."""
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
