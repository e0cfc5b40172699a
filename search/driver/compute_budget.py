"""Count the device-hours that a study uses, and compare them with its budget."""

from time import monotonic

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.usage import DeviceShare, compute_usage
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.search.executors.base import ItemResult
from partialnas.search.executors.tasks import Item
from partialnas.search.study.study import Study


class ComputeBudget:
    """Add up the device-hours of a study over all sessions.

    Attributes:
        device_hours: device-hours used so far (see `runs.ledger.usage`).
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        self._limit = study.budget.device_hours
        self._shares = DeviceShare.from_study(study.frozen())
        self._started: dict[int, float] = {}
        self._notified = False
        self.device_hours = 0.0
        if self._limit is not None:
            self.device_hours = compute_usage(ledger.usage_rows(), self._shares).device_hours

    @property
    def exhausted(self) -> bool:
        """Whether the budget of device-hours is exhausted."""
        return self._limit is not None and self.device_hours >= self._limit

    def exhaustion_message(self) -> str:
        """Return a message the first time the budget is exhausted, otherwise an empty string."""
        if not self.exhausted or self._notified:
            return ""
        self._notified = True
        return (
            f"device-hour budget exhausted ({self.device_hours:.3g} of {self._limit:g} used): "
            "running trials finish and trained networks are measured; no new trial starts"
        )

    def start_item(self, item: Item) -> None:
        """Note the start of an item."""
        self._started[id(item)] = monotonic()

    def finish_item(self, item: Item, outcome: ItemResult) -> ItemResult:
        """Count the time of an item; return its result, with missing durations filled in.

        The record of a worker that died or hung has no duration.
        """
        started = self._started.pop(id(item), None)
        if started is not None and any(not record.seconds for record in outcome.records):
            seconds = (monotonic() - started) / len(outcome.records)
            records = tuple(
                record if record.seconds else record.model_copy(update={"seconds": seconds})
                for record in outcome.records
            )
            outcome = outcome.model_copy(update={"records": records})
        for record in outcome.records:
            self._add(record, record.seconds, on_gpu=record.device.startswith("cuda"))
        if (measurement := outcome.measurement) is not None:
            on_gpu = measurement.device_kind == "cuda"
            self._add(measurement, measurement.seconds or 0.0, on_gpu=on_gpu)
        return outcome

    def _add(self, source: Record | Measurement, seconds: float, *, on_gpu: bool) -> None:
        cores = source.environment.get("cores")
        count = int(cores) if cores else None
        self.device_hours += self._shares.device_hours(seconds, on_gpu=on_gpu, cores=count)
