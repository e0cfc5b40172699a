"""Trainings side by side in one process: steps take turns, and results are those of each alone.

On a GPU each training has a stream, so that kernels of several small networks run at the same time.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from partialnas.runs.devices.device import wait_for_device
from partialnas.runs.records.record import CurveRow
from partialnas.runs.training.loop import Training
from partialnas.space.errors import MachineError


def run_epochs(
    trainings: Sequence[Training], limit_s: float = math.inf
) -> list[CurveRow | Exception]:
    """Run the next epoch of each training, and return the new rows of their curves.

    A training that raises an error ends; its error takes the place of the row, and the others go
    on. Out of memory is such an error, too, although the other trainings hold memory as well: try
    that training again by itself. The device has done all work when this function returns.

    Args:
        trainings: trainings on one device; on a GPU each has another lane.
        limit_s: seconds that all epochs of one training together may take. Its seconds are those
            that this process spends on it: together they are the seconds that pass.

    Raises:
        MachineError: The machine has failed, and no training can continue.
    """
    results: dict[int, CurveRow | Exception] = {}

    def attempt(number: int, action: Callable[..., Any], *arguments: object) -> Any:
        try:
            return action(*arguments)
        except MachineError:
            raise
        except Exception as error:  # a network, or a user's part of it, can raise anything
            results[number] = error
            return None

    for number, training in enumerate(trainings):
        attempt(number, training.begin_epoch, limit_s)
    while len(results) < len(trainings):
        for number, training in enumerate(trainings):
            if number in results:
                continue
            if training.steps_left:
                is_alone = len(results) == len(trainings) - 1
                attempt(number, training.run_steps, training.steps_left if is_alone else 1)
            elif row := attempt(number, training.finish_epoch):
                results[number] = row
    for number, training in enumerate(trainings):
        if isinstance(results[number], Exception):
            wait_for_device(training.device)
    return [results[number] for number in range(len(trainings))]


def run_side_by_side(
    trainings: Sequence[Training],
    limit_s: float = math.inf,
    *,
    access: Callable[[], AbstractContextManager[object]] = nullcontext,
    on_epoch: Callable[[int, CurveRow], None] = lambda *_: None,
) -> list[Exception | None]:
    """Run all epochs that are left, and return the error that has ended a training, or None.

    Args:
        trainings: trainings on one device; see `run_epochs`. They may have different numbers of
            steps and epochs.
        limit_s: seconds that all epochs of one training together may take.
        access: context of the work on the device, entered for each epoch.
        on_epoch: called after each epoch with the position of a training and the row of its curve.

    Raises:
        MachineError: See `run_epochs`.
    """
    errors: list[Exception | None] = [None] * len(trainings)
    while running := [
        number
        for number, training in enumerate(trainings)
        if errors[number] is None and len(training.curve) < training.epochs
    ]:
        with access():
            results = run_epochs([trainings[number] for number in running], limit_s)
        for number, result in zip(running, results, strict=True):
            if isinstance(result, Exception):
                errors[number] = result
            else:
                on_epoch(number, result)
    return errors
