"""Executors: where the items of a study are worked on. One interface, no Ray in this module.

An executor pulls. It asks a feed for the next item, has the work done on it, and tells the feed
what came of it; several items may be under way at once.
"""

import traceback
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record, TrialState
from partialnas.runs.records.subject import subject_digest, subject_name
from partialnas.runs.system.environment import utc_now
from partialnas.space.errors import MachineError, UserError
from partialnas.space.values import Value


class FeedSignal(Enum):
    """What a feed answers instead of an item."""

    WAIT = "wait"
    END = "end"


WAIT: Final = FeedSignal.WAIT
"""Nothing at the moment: ask again when something under way has ended."""

END: Final = FeedSignal.END
"""Nothing more: do not ask again."""

Wait = Literal[FeedSignal.WAIT]
End = Literal[FeedSignal.END]

ItemT = TypeVar("ItemT", bound=Value)


class ItemResult(Value):
    """What came of an item.

    Attributes:
        records: one for each seed of a job.
        measurement: of the network, where one was taken.
    """

    records: tuple[Record, ...] = ()
    measurement: Measurement | None = None


ItemFunction = Callable[[ItemT], ItemResult]
"""Does one item. It reaches each worker process once, pickled: make it of plain data.

It answers for what a network did wrong with a record. A UserError or MachineError that it raises
ends the run; any other exception is a failure of the item.
"""


class Feed(Protocol[ItemT]):
    """Knows what is to be done. Called by one thread, the one that runs the executor."""

    def ask(self) -> ItemT | Wait | End:
        """The next item, which counts as under way from now on."""

    def tell(self, item: ItemT, outcome: ItemResult) -> None:
        """Hands in what came of an item: exactly once for each item, unless the run is ended."""


class Executor(Protocol):
    """Has a feed's items worked on."""

    def run(self, feed: Feed[ItemT], work: ItemFunction[ItemT]) -> None:
        """Returns when the feed has ended and everything under way has been told.

        Raises:
            KeyboardInterrupt: on Ctrl-C, within 5 seconds; what was under way is not told.
            UserError, MachineError: raised by the work or by the feed.
        """


class InProcess:
    """Does one item after the other in this process: for tests, debugging and small studies.

    Args:
        log: file that tracebacks of failed items are appended to.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._log = log

    def run(self, feed: Feed[ItemT], work: ItemFunction[ItemT]) -> None:
        """See `Executor.run`.

        Raises:
            RuntimeError: the feed wants to wait although nothing is under way.
        """
        while (item := feed.ask()) is not END:
            if item is WAIT:
                raise RuntimeError("the feed waits for items, and none is under way")
            feed.tell(item, run_item(work, item, self._log))


def run_item(work: ItemFunction[ItemT], item: ItemT, log: Path | None) -> ItemResult:
    """The outcome of the work on an item, whatever exception it ends with.

    Raises:
        UserError, MachineError: by the work; they are no fault of the item.
    """
    try:
        return work(item)
    except (UserError, MachineError):
        raise
    except (Exception, SystemExit) as error:
        append_log(log, f"{describe_item(item)}\n{traceback.format_exc()}")
        return failed_result(item, f"{type(error).__name__}: {error}")


def failed_result(item: Value, reason: str, state: TrialState = "failed") -> ItemResult:
    """The outcome of an item that did not end by itself: one record for each seed of a job."""
    if not isinstance(item, Job):
        return ItemResult()
    return ItemResult(
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
        )
    )


def describe_item(item: Value) -> str:
    """An item in a line of a log: its kind, and the keys of a job's trials."""
    keys = item.trial_keys.values() if isinstance(item, Job) else ()
    return " ".join([type(item).__name__.lower(), *keys])


def append_log(log: Path | None, text: str) -> None:
    """Adds a dated entry to a log, if there is one.

    Raises:
        MachineError: it cannot be written.
    """
    if log is None:
        return
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"--- {utc_now()} {text.rstrip()}\n")
    except OSError as error:
        raise MachineError(f"{log}: cannot be written ({error.strerror})") from error
