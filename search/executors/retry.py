"""Retry items after the death of a worker process, and count those deaths, without Ray."""

from collections import deque
from pathlib import Path
from typing import Generic

from partialnas.search.executors import base
from partialnas.search.executors.base import ItemT
from partialnas.space.errors import MachineError

MAX_DEATHS = 3
"""Worker deaths after which an item fails; per worker, start-up failures that end the run."""


class WorkItem(Generic[ItemT]):
    """One attempt at an item, as handed to Ray Tune, which copies, prints and keeps its trials.

    Attributes:
        item: the item; None once the attempt has ended.
        deaths: number of worker processes that have died while working on the item.
        started: whether a worker process has started this attempt.
    """

    def __init__(self, item: ItemT, deaths: int = 0) -> None:
        self.item: ItemT | None = item
        self.deaths = deaths
        self.started = False

    def __deepcopy__(self, memo: object) -> "WorkItem[ItemT]":
        return self

    def __str__(self) -> str:
        return base.describe_item(self.item) if self.item else "done"


class RetryingFeed(Generic[ItemT]):
    """Hand out a feed's items, and retry an item after its worker process died.

    Args:
        feed: the feed.
        log: log file of the workers, named in error messages.
        max_startup_failures: worker processes that may die in a row before they start an item.
            Such a death does not count against the item.
    """

    def __init__(self, feed: base.Feed[ItemT], log: Path, max_startup_failures: int) -> None:
        self._feed = feed
        self._log = log
        self._max_startup_failures = max_startup_failures
        self._startup_failures = 0
        self._active: dict[str, WorkItem[ItemT]] = {}
        self._retries: deque[WorkItem[ItemT]] = deque()
        self._ended = False

    @property
    def done(self) -> bool:
        """Whether the feed has ended and all of its items are done."""
        return self._ended and not self._active and not self._retries

    def next(self, trial_id: str) -> WorkItem[ItemT] | None:
        """Return a retry or the feed's next item, or None if there is none at the moment.

        Args:
            trial_id: Tune's name for the attempt.
        """
        if self._retries:
            work_item = self._retries.popleft()
        elif self._ended or (item := self._feed.ask()) is base.WAIT:
            return None
        elif item is base.END:
            self._ended = True
            return None
        else:
            work_item = WorkItem(item)
        self._active[trial_id] = work_item
        return work_item

    def start(self, trial_id: str) -> None:
        """Note that a worker process has started the item."""
        self._active[trial_id].started = True
        self._startup_failures = 0

    def finish(self, trial_id: str, answer: base.ItemResult | Exception) -> None:
        """Tell the feed the result of an item, or raise the exception that ends the run."""
        item, _ = self._end_attempt(trial_id)
        if isinstance(answer, Exception):
            raise answer
        self._feed.tell(item, answer)

    def retry(self, trial_id: str) -> None:
        """Retry an item after its worker process died; after `MAX_DEATHS` deaths it fails.

        Raises:
            MachineError: too many worker processes in a row died before they started an item.
        """
        item, attempt = self._end_attempt(trial_id)
        deaths = attempt.deaths + attempt.started
        self._startup_failures += not attempt.started
        if self._startup_failures >= self._max_startup_failures:
            raise MachineError(
                f"{self._startup_failures} worker processes in a row died before they started a "
                f"trial; see {self._log}"
            )
        if deaths < MAX_DEATHS:
            self._retries.append(WorkItem(item, deaths))
        else:
            reason = f"worker process died {deaths} times"
            self._feed.tell(item, base.failed_result(item, reason))

    def _end_attempt(self, trial_id: str) -> tuple[ItemT, WorkItem[ItemT]]:
        attempt = self._active.pop(trial_id)
        item, attempt.item = attempt.item, None
        assert item is not None, "an attempt ends once"
        return item, attempt
