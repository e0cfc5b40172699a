"""The first trials of a sitting: where all fail alike, the environment is broken, no network."""

from pathlib import Path
from typing import Generic

from partialnas.runs.records.record import Record
from partialnas.search.executors.base import End, Feed, FeedSignal, ItemResult, ItemT, Wait
from partialnas.space.errors import MachineError


class FailFastFeed(Generic[ItemT]):
    """Passes items and outcomes on, but holds failures back until one trial tells another story.

    Where the first trials that end are failures with one and the same reason, and not all of one
    network, the run ends before they are recorded: running the study again tries them again.

    Args:
        feed: knows what is to be done.
        count: trials that must not all fail alike; 0 lets every failure pass.
        log: where workers tell more of a failure.
    """

    def __init__(self, feed: Feed[ItemT], count: int, log: Path) -> None:
        self._feed = feed
        self._count = count
        self._log = log
        self._first: list[Record] = []
        self._held: list[tuple[ItemT, ItemResult]] = []
        self._flying = 0
        self._over = count == 0

    def ask(self) -> ItemT | Wait | End:
        """The feed's next item; failures are let go where it waits for nothing else."""
        item = self._feed.ask()
        if isinstance(item, FeedSignal) and self._held and not self._flying:
            self._let_go()
            item = self._feed.ask()
        self._flying += not isinstance(item, FeedSignal)
        return item

    def tell(self, item: ItemT, outcome: ItemResult) -> None:
        """Hands the outcome in, or holds it back for now.

        Raises:
            MachineError: all of the first trials have failed alike.
        """
        self._flying -= 1
        if self._over or not outcome.records:
            self._feed.tell(item, outcome)
            return
        self._held.append((item, outcome))
        self._first += outcome.records
        if not _alike(self._first):
            self._over = True
            self._let_go()
        elif len(self._first) >= self._count and len({each.digest for each in self._first}) > 1:
            raise MachineError(self._told())

    def _let_go(self) -> None:
        held, self._held = self._held, []
        for item, outcome in held:
            self._feed.tell(item, outcome)

    def _told(self) -> str:
        return (
            f"the first {len(self._first)} trials all failed alike: {self._first[0].reason}\n"
            f"See {self._log}. {len(self._held)} of them are left unrecorded: mend the cause, and "
            "the same command tries them again. Where the networks are to blame, "
            "--set executor.pilot=0 records their failures."
        )


def _alike(records: list[Record]) -> bool:
    """Whether all have failed, for one reason."""
    stories = {(record.state, record.reason) for record in records}
    return len(stories) == 1 and records[0].state == "failed"
