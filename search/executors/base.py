"""The interface of executors, and the one that runs items in this process.

An executor pulls: it asks a feed for the next item, runs it, and tells the feed the result. Several
items may be in flight at once. This module does not import Ray.
"""

import traceback
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record, TrialState, is_environment_failure
from partialnas.runs.records.subject import subject_digest, subject_name
from partialnas.runs.system.environment import utc_now
from partialnas.space.errors import DeviceFaultError, MachineError, UserError, describe_error
from partialnas.space.values import Value


class FeedSignal(Enum):
    """What a feed may return instead of an item."""

    WAIT = "wait"
    END = "end"


WAIT: Final = FeedSignal.WAIT
"""No item at the moment: ask again when an item in flight has ended."""

END: Final = FeedSignal.END
"""No more items: do not ask again."""

Wait = Literal[FeedSignal.WAIT]
End = Literal[FeedSignal.END]

ItemT = TypeVar("ItemT", bound=Value)


class ItemResult(Value):
    """The result of an item.

    Attributes:
        records: one record per seed of a job.
        measurement: the measurement of a timing job, or None if there is none.
        reason: why a timing job has no measurement; empty if it has one.
        attempts: number of worker processes that worked on the item.
    """

    records: tuple[Record, ...] = ()
    measurement: Measurement | None = None
    reason: str = ""
    attempts: int = 1


ItemFunction = Callable[[ItemT], ItemResult]
"""Runs one item. It is pickled once per worker process, so it should consist of plain data.

Failures of a network are returned as records. A UserError or MachineError ends the run; any other
exception is a failure of the item.
"""


class Feed(Protocol[ItemT]):
    """Source of items. Only the thread that runs the executor calls it."""

    def ask(self) -> ItemT | Wait | End:
        """Return the next item, which is in flight from now on."""

    def tell(self, item: ItemT, outcome: ItemResult) -> None:
        """Receive the result of an item, exactly once per item unless the run is aborted."""


class Executor(Protocol):
    """Runs the items of a feed."""

    def run(self, feed: Feed[ItemT], work: ItemFunction[ItemT]) -> None:
        """Run items until the feed has ended and has all results.

        Raises:
            KeyboardInterrupt: on Ctrl-C, within 5 seconds; results of items in flight are lost.
            UserError, MachineError: raised by the work or by the feed.
        """


class InProcess:
    """Run one item after another in this process, for tests, debugging and small studies.

    Args:
        log: file to which tracebacks of failed items are appended.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._log = log

    def run(self, feed: Feed[ItemT], work: ItemFunction[ItemT]) -> None:
        """See `Executor.run`.

        Raises:
            RuntimeError: the feed waits although no item is in flight.
            DeviceFaultError: the device failed; the item has failed with this reason.
        """
        while (item := feed.ask()) is not END:
            if item is WAIT:
                raise RuntimeError("the feed waits, but no item is in flight")
            try:
                result = run_item(work, item, self._log)
            except DeviceFaultError as error:
                feed.tell(item, failed_result(item, error.reason))
                raise
            feed.tell(item, result)


def run_item(work: ItemFunction[ItemT], item: ItemT, log: Path | None) -> ItemResult:
    """Run an item; return its result, a failure if it raises an exception.

    Raises:
        UserError, MachineError: raised by the work; they are not the item's fault.
    """
    try:
        return work(item)
    except (UserError, MachineError):
        raise
    except (Exception, SystemExit) as error:
        append_log(log, f"{describe_item(item)}\n{traceback.format_exc()}")
        reason = describe_error(error)
        if is_environment_failure(reason):  # outside the training of a network
            raise MachineError(f"{reason}; see the end of {log}") from error
        return failed_result(item, reason)


def failed_result(
    item: Value, reason: str, state: TrialState = "failed", attempts: int = 1
) -> ItemResult:
    """Return the result of an item that failed: one record per seed of a job, or the reason."""
    if not isinstance(item, Job):
        return ItemResult(reason=reason, attempts=attempts)
    return ItemResult(
        attempts=attempts,
        records=tuple(
            Record(
                key=key,
                digest=subject_digest(item.subject),
                name=subject_name(item.subject),
                seed=seed,
                fidelity=item.fidelity,
                state=state,
                reason=reason,
            )
            for seed, key in item.trial_keys.items()
        ),
    )


def describe_item(item: Value) -> str:
    """Return how logs name an item: its kind and, for a job, the keys of its trials."""
    keys = item.trial_keys.values() if isinstance(item, Job) else ()
    return " ".join([type(item).__name__.lower(), *keys])


def append_log(log: Path | None, text: str) -> None:
    """Append an entry with the current time to a log, or do nothing without a log.

    Raises:
        MachineError: the log cannot be written.
    """
    if log is None:
        return
    try:
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"--- {utc_now()} {text.rstrip()}\n")
    except OSError as error:
        raise MachineError(f"{log}: cannot be written ({error.strerror})") from error
