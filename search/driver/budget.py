"""What a sitting spends: the seconds of every item, and whether the budget is spent."""

from time import monotonic

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.usage import DeviceShare, compute_usage
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.search.executors.base import ItemResult
from partialnas.search.executors.tasks import Item
from partialnas.search.study.study import Study


class ComputeBudget:
    """Adds up the device-hours of a study, those of earlier sittings included.

    Attributes:
        device_hours: spent so far; see `runs.spent` for what they are.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        self._limit = study.budget.device_hours
        self._shares = DeviceShare.from_study(study.frozen())
        self._begun: dict[int, float] = {}
        self._told = False
        self.device_hours = 0.0
        if self._limit is not None:
            self.device_hours = compute_usage(ledger.usage_rows(), self._shares).device_hours

    @property
    def exhausted(self) -> bool:
        """Whether the budget of device-hours is spent."""
        return self._limit is not None and self.device_hours >= self._limit

    def exhaustion_message(self) -> str:
        """What a reader should know once the budget is spent, the first time it is asked for."""
        if not self.exhausted or self._told:
            return ""
        self._told = True
        return (
            f"the budget of {self._limit:g} device-hours is spent ({self.device_hours:.3g}): what "
            "is under way ends, what is trained is measured, and nothing new is begun"
        )

    def start_item(self, item: Item) -> None:
        """An item is handed out."""
        self._begun[id(item)] = monotonic()

    def finish_item(self, item: Item, outcome: ItemResult) -> ItemResult:
        """Counts what an item took; its outcome, with the seconds of what could not tell them.

        The record of a worker that died or hung does not say how long it had the device.
        """
        began = self._begun.pop(id(item), None)
        if began is not None and any(not record.seconds for record in outcome.records):
            each = (monotonic() - began) / len(outcome.records)
            records = tuple(_lasting(record, each) for record in outcome.records)
            outcome = outcome.model_copy(update={"records": records})
        for record in outcome.records:
            self._add(record, record.seconds, on_gpu=record.device.startswith("cuda"))
        if (taken := outcome.measurement) is not None:
            self._add(taken, taken.seconds or 0.0, on_gpu=taken.device_kind == "cuda")
        return outcome

    def _add(self, told: Record | Measurement, seconds: float, *, on_gpu: bool) -> None:
        cores = told.environment.get("cores")
        own = int(cores) if cores else None
        self.device_hours += self._shares.device_hours(seconds, on_gpu=on_gpu, cores=own)


def _lasting(record: Record, seconds: float) -> Record:
    """A record that says how long it took."""
    return record if record.seconds else record.model_copy(update={"seconds": seconds})
