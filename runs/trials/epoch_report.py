"""The callback `report` of user functions: each call becomes a row of the learning curve."""

import math
import operator
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from partialnas.runs.records.record import CurveRow
from partialnas.runs.trials.function_files import ReportedCurve, load_curve, save_curve
from partialnas.runs.trials.outcome import check_metrics, short_repr
from partialnas.space.errors import MachineError, TrialEndedError

_RESERVED = ("epoch", "seconds")
"""Columns of a curve that the callback fills in itself."""


class EpochReport:
    """The callback that a user function reports the metrics of its epochs with.

    Each row is written to a file at once, so that the rows survive the death of the process. A
    function that continues from its checkpoints keeps the rows before the first epoch that it
    reports; another one starts anew.

    Args:
        key: key of the trial.
        epochs: epochs of the trial.
        folder: folder of the trial, or None to write no file.
        limit_s: seconds that the epochs of the trial may take.
        continues: whether the function has checkpoints.
        between: called between two epochs; its time counts for none of them.

    Attributes:
        error: the first error that the callback raised, or None.
    """

    def __init__(
        self,
        key: str,
        epochs: int,
        folder: Path | None = None,
        *,
        limit_s: float = math.inf,
        continues: bool = False,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._key, self._epochs, self._folder, self._limit_s = key, epochs, folder, limit_s
        self._continues, self._between = continues, between
        self._earlier = load_curve(folder, key) if folder else ReportedCurve([])
        self._new: list[CurveRow] = []
        self._epoch_started = time.perf_counter()
        self.error: Exception | None = None

    @property
    def curve(self) -> tuple[CurveRow, ...]:
        """All rows, one per reported epoch."""
        return (*self._earlier.rows, *self._new)

    @property
    def resumed_seconds(self) -> float:
        """Seconds of this trial's epochs before an interruption, unless they are repeated."""
        return sum(row["seconds"] for row in self._earlier.rows[self._earlier.num_inherited :])

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an epoch.

        Args:
            epoch: number of the epoch, from 1; larger than in the call before.
            metrics: finite numbers by name, such as `train_nll`, `val_nll` and `val_accuracy`.

        Raises:
            TrialEndedError: The epoch or a metric is invalid, or the trial has reached its time
                limit. The trial ends with this error even if the function catches it.
            MachineError: The file cannot be written.
        """
        if self.error is not None:
            raise self.error
        try:
            self._add(epoch, metrics)
        except (TrialEndedError, MachineError) as error:
            self.error = error
            raise
        self._between()
        self._epoch_started = time.perf_counter()

    def _add(self, epoch: Any, metrics: Any) -> None:
        number, values = self._check_epoch(epoch), _check_row(metrics)
        if not self._new:
            self._keep_rows_before(number if self._continues else 0)
        seconds = time.perf_counter() - self._epoch_started
        self._new.append({"epoch": number, **values, "seconds": seconds})
        if self._folder:
            curve = ReportedCurve([*self.curve], self._earlier.num_inherited)
            save_curve(self._folder, self._key, curve)
        if self.resumed_seconds + sum(row["seconds"] for row in self._new) > self._limit_s:
            limit = f"time limit of {self._limit_s:g} s reached in epoch {number}"
            raise TrialEndedError("timeout", limit)

    def _keep_rows_before(self, epoch: int) -> None:
        rows, num_inherited = self._earlier
        kept = [row for row in rows if row["epoch"] < epoch]
        self._earlier = ReportedCurve(kept, min(num_inherited, len(kept)))

    def _check_epoch(self, epoch: Any) -> int:
        last = int(self._new[-1]["epoch"]) if self._new else 0
        try:
            number = operator.index(epoch)
        except TypeError:
            number = 0
        if not last < number <= self._epochs:
            expected = f"a whole number from {last + 1} to {self._epochs}"
            message = f"report: epoch is {short_repr(epoch)}, expected {expected}"
            raise TrialEndedError("failed", message)
        return number


def _check_row(metrics: Any) -> dict[str, float]:
    """Return the metrics of an epoch as plain numbers."""
    try:
        values = check_metrics(metrics)
    except TrialEndedError as error:
        raise TrialEndedError("failed", f"report: {error.reason}") from None
    if reserved := [name for name in _RESERVED if name in values]:
        message = f"report: {reserved[0]} is recorded with every call; leave it out of metrics"
        raise TrialEndedError("failed", message)
    return values
