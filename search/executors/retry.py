"""Retry items after the death of a worker process, and count those deaths, without Ray."""

from collections import deque
from dataclasses import dataclass
from typing import Generic

from partialnas.search.executors import base
from partialnas.search.executors.base import ItemT
from partialnas.search.executors.watchdog import Watchdog
from partialnas.space.errors import MachineError

MAX_DEATHS = 3
"""Worker deaths after which an item fails; per worker, start-up failures that end the run."""


@dataclass
class _Attempt(Generic[ItemT]):
    """One attempt at an item.

    Attributes:
        item: the item.
        deaths: number of worker processes that have died while working on the item before.
        fault: fault of the device that has ended the last of them, or None.
        started: whether a worker process has started this attempt.
    """

    item: ItemT
    deaths: int = 0
    fault: str | None = None
    started: bool = False


class RetryingFeed(Generic[ItemT]):
    """Hand out a feed's items, and retry an item after its worker process died.

    Items whose device has failed are retried one at a time: with MPS, a fault of one process ends
    all processes on its GPU, and the others are not to blame.

    Args:
        feed: the feed.
        watchdog: watchdog of the workers, which knows why some of them have ended.
        max_startup_failures: worker processes that may die in a row before they start an item.
            Such a death does not count against the item.
    """

    def __init__(
        self, feed: base.Feed[ItemT], watchdog: Watchdog, max_startup_failures: int
    ) -> None:
        self._feed = feed
        self._watchdog = watchdog
        self._max_startup_failures = max_startup_failures
        self._startup_failures = 0
        self._active: dict[str, _Attempt[ItemT]] = {}
        self._retries: deque[_Attempt[ItemT]] = deque()
        self._ended = False

    @property
    def done(self) -> bool:
        """Whether the feed has ended and all of its items are done."""
        return self._ended and not self._active and not self._retries

    def next(self, trial_id: str) -> ItemT | None:
        """Return a retry or the feed's next item, or None if there is none at the moment.

        Args:
            trial_id: Tune's name for the attempt.
        """
        attempt = self._next_retry() or self._next_new()
        if attempt is None:
            return None
        self._active[trial_id] = attempt
        return attempt.item

    def _next_retry(self) -> _Attempt[ItemT] | None:
        """Return the next attempt to retry, or None if there is none at the moment."""
        retries_fault = any(attempt.fault for attempt in self._active.values())
        for attempt in self._retries:
            if not (attempt.fault and retries_fault):
                self._retries.remove(attempt)
                return attempt
        return None

    def _next_new(self) -> _Attempt[ItemT] | None:
        """Return an attempt at the feed's next item, or None if there is none at the moment."""
        if self._ended:
            return None
        item = self._feed.ask()
        self._ended = item is base.END
        return None if isinstance(item, base.FeedSignal) else _Attempt(item)

    def start(self, trial_id: str) -> None:
        """Note that a worker process has started the item."""
        self._active[trial_id].started = True
        self._startup_failures = 0

    def finish(self, trial_id: str, answer: base.ItemResult | Exception) -> None:
        """Tell the feed the result of an item, or raise the exception that ends the run."""
        attempt = self._active.pop(trial_id)
        if isinstance(answer, Exception):
            raise answer
        attempts = attempt.deaths + answer.attempts
        self._feed.tell(attempt.item, answer.model_copy(update={"attempts": attempts}))

    def retry(self, trial_id: str) -> None:
        """Retry an item after its worker process died; after `MAX_DEATHS` deaths it fails.

        Raises:
            MachineError: too many worker processes in a row died before they started an item.
        """
        attempt = self._active.pop(trial_id)
        deaths = attempt.deaths + attempt.started
        self._startup_failures += not attempt.started
        if self._startup_failures >= self._max_startup_failures:
            raise MachineError(
                f"{self._startup_failures} worker processes in a row died before they started a "
                f"trial; see {self._watchdog.log}"
            )
        fault = self._watchdog.take_fault(attempt.item) if attempt.started else attempt.fault
        if deaths < MAX_DEATHS:
            self._retries.append(_Attempt(attempt.item, deaths, fault))
        else:
            reason = fault or f"worker process died {deaths} times"
            result = base.failed_result(attempt.item, reason, attempts=deaths)
            self._feed.tell(attempt.item, result)
