"""Pilot runs: time a few epochs on part of the images, or train a few seeds, of one network."""

import math
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from partialnas.runs.datasets.augment import epoch_shape
from partialnas.runs.datasets.loaders import Splits, load_splits, subset
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import CurveRow, Record
from partialnas.runs.records.subject import Subject, subject_name
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.search.study.fidelity import Condition
from partialnas.space.errors import UserError

_EPOCHS = 3
"""Epochs of a pilot run: the first and the last have costs that the one between does not have."""

_FIRST_STEPS, _MAX_STEPS = 4, 64
"""Steps of an epoch of the first pilot run, and the most of a second one."""

_LONG_ENOUGH_S = 0.2
"""Seconds of a pilot epoch from which its time is taken as it is."""

_TRAINING_COST = 3
"""Cost of training on an image relative to evaluating it: forward, and twice that backward."""


class PilotTimes(NamedTuple):
    """Seconds that a pilot run took, by kind.

    Attributes:
        startup: before the first epoch, with what this epoch takes more than the next one.
        epoch: training and validation of an epoch.
        saving: after each epoch, such as reporting it.
        end: after the last epoch, with what this epoch takes more than the one before.
    """

    startup: float
    epoch: float
    saving: float
    end: float


def time_trial(
    subject: Subject, condition: Condition, device: str, splits: Splits, *, trunk_epochs: int = 0
) -> float:
    """Return the seconds of a trial, extrapolated from a few epochs on part of the images.

    Args:
        subject: the network.
        condition: task and recipe of the trial.
        device: device to train on.
        splits: images of the task.
        trunk_epochs: epochs that the trial does not train, because it resumes from a shorter one.

    Raises:
        UserError: the network cannot be trained; the message gives the reason.
    """
    recipe = condition.recipe
    splits = subset(splits, recipe.data_share)
    condition = replace(condition, recipe=recipe.model_copy(update={"data_share": Fraction(1)}))
    all_steps, batch_size = epoch_shape(len(splits.train_y), recipe.batch_size)
    steps = min(_FIRST_STEPS, all_steps)
    while True:
        images = splits if steps == all_steps else _first_images(splits, steps * batch_size)
        times = _pilot_times(subject, condition, _without_test(images), device)
        if times.epoch >= _LONG_ENOUGH_S or steps in (all_steps, _MAX_STEPS):
            break
        wanted = math.ceil(steps * _LONG_ENOUGH_S / max(times.epoch, 1e-9))
        steps = min(max(wanted, 2 * steps), _MAX_STEPS, all_steps)
    epoch = times.epoch * all_steps / steps
    trained, val, test = (len(y) for y in (splits.train_y, splits.val_y, splits.test_y))
    testing = epoch * test / (_TRAINING_COST * trained + val)
    epochs = recipe.epochs - trunk_epochs
    return times.startup + epochs * (epoch + times.saving) + testing + times.end


def pilot_values(
    subject: Subject, condition: Condition, device: str, seeds: int, quantity: str
) -> list[float]:
    """Train `subject` with several seeds and return the values of a quantity.

    Raises:
        UserError: fewer than two seeds, or a trial failed or did not return the quantity.
    """
    if seeds < 2:
        raise UserError("--pilot: expected at least 2 seeds to estimate a standard deviation")
    epochs = condition.recipe.epochs
    context = Context(device=device, splits=load_splits(condition.task))
    records = _train(subject, condition, context, epochs=epochs, seeds=seeds)
    if any(quantity not in record.metrics for record in records):
        raise UserError(f"the pilot trials did not return the quantity {quantity}")
    return [record.metrics[quantity] for record in records]


def _pilot_times(subject: Subject, condition: Condition, splits: Splits, device: str) -> PilotTimes:
    """Train for a few epochs as a trial does, and return what it took."""
    ends: list[float] = []
    rows: list[float] = []

    def note_epoch(_key: str, row: CurveRow) -> None:
        ends.append(time.perf_counter())
        rows.append(row["seconds"])

    with TemporaryDirectory(prefix="partialnas-check-") as folder:
        context = Context(device, splits, Path(folder), on_epoch=note_epoch)
        started = time.perf_counter()
        _train(subject, condition, context, epochs=_EPOCHS, seeds=1)
        end = time.perf_counter() - ends[-1]
    epoch = rows[1]
    saving = ends[1] - ends[0] - epoch
    startup = max(ends[0] - started - saving - epoch, 0.0)
    return PilotTimes(startup, epoch, max(saving, 0.0), end + max(rows[-1] - epoch, 0.0))


def _train(
    subject: Subject, condition: Condition, context: Context, *, epochs: int, seeds: int
) -> list[Record]:
    """Return the records of trials with the first seeds.

    Raises:
        UserError: a trial failed.
    """
    task, recipe = condition.task, condition.recipe
    job = Job(subject=subject, task=task, recipe=recipe, fidelity=epochs, seeds=(*range(seeds),))
    records = [*run_job(job, context)]
    for record in records:
        if record.state != "done":
            raise UserError(f"a pilot trial of {subject_name(subject)} failed: {record.reason}")
    return records


def _first_images(splits: Splits, count: int) -> Splits:
    """Return the first `count` training images and an equal share of the validation images."""
    share = count / len(splits.train_y)
    val = max(1, round(share * len(splits.val_y)))
    return replace(
        splits,
        train_x=splits.train_x[:count],
        train_y=splits.train_y[:count],
        val_x=splits.val_x[:val],
        val_y=splits.val_y[:val],
    )


def _without_test(splits: Splits) -> Splits:
    """Return splits with a single test image: testing is not repeated for every epoch."""
    return replace(splits, test_x=splits.test_x[:1], test_y=splits.test_y[:1])
