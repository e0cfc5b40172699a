"""Abort a run in which the first trials all fail for the same reason."""

from pathlib import Path
from typing import Generic

from partialnas.runs.records.record import Record
from partialnas.search.executors.base import End, Feed, FeedSignal, ItemResult, ItemT, Wait
from partialnas.space.errors import MachineError


class FailFastFeed(Generic[ItemT]):
    """Pass items and results on, but hold back failures until a trial ends differently.

    If the first trials of several networks all fail for the same reason, the environment is
    probably broken. The run is aborted before the failures are recorded, so running the study again
    repeats these trials.

    Args:
        feed: the feed.
        count: number of first trials that must not all fail alike; 0 disables the check.
        log: log file of the workers, named in the error message.
    """

    def __init__(self, feed: Feed[ItemT], count: int, log: Path) -> None:
        self._feed = feed
        self._count = count
        self._log = log
        self._first: list[Record] = []
        self._held: list[tuple[ItemT, ItemResult]] = []
        self._in_flight = 0
        self._disabled = count == 0

    def ask(self) -> ItemT | Wait | End:
        """Return the feed's next item; release failures if nothing else is in flight."""
        item = self._feed.ask()
        if isinstance(item, FeedSignal) and self._held and not self._in_flight:
            self.release()
            item = self._feed.ask()
        self._in_flight += not isinstance(item, FeedSignal)
        return item

    def tell(self, item: ItemT, outcome: ItemResult) -> None:
        """Pass the result on, or hold it back for now.

        Raises:
            MachineError: the first trials have all failed for the same reason.
        """
        self._in_flight -= 1
        if self._disabled or not outcome.records:
            self._feed.tell(item, outcome)
            return
        self._held.append((item, outcome))
        self._first += outcome.records
        if not _all_fail_alike(self._first):
            self._disabled = True
            self.release()
        elif len(self._first) >= self._count and len({record.digest for record in self._first}) > 1:
            raise MachineError(
                f"the first {len(self._first)} trials all failed for the same reason: "
                f"{self._first[0].reason}\n"
                f"See {self._log}. {len(self._held)} of them were not recorded. Fix the cause and "
                "run the same command again to repeat them. If the networks are the cause, use "
                "--set executor.pilot=0 to record their failures."
            )

    def release(self) -> None:
        """Pass on the failures that are held back."""
        held, self._held = self._held, []
        for item, outcome in held:
            self._feed.tell(item, outcome)


def _all_fail_alike(records: list[Record]) -> bool:
    """Return whether all records are failures with the same reason."""
    reasons = {(record.state, record.reason) for record in records}
    return len(reasons) == 1 and records[0].state == "failed"
