"""Retries of items whose worker process died, without Ray."""

from pathlib import Path

import pytest

from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import TimmModel
from partialnas.search.executors.base import END, WAIT, End, ItemResult, Wait, failed_result
from partialnas.search.executors.retry import MAX_DEATHS, RetryingFeed
from partialnas.search.executors.watchdog import Watchdog
from partialnas.space.errors import MachineError

TASK = Task(data="digits", resolution=8, channels=1, classes=10)


def job(name: str) -> Job:
    subject, recipe = TimmModel(timm=name), RECIPES["short"]
    return Job(subject=subject, task=TASK, recipe=recipe, fidelity=1, seeds=(0,))


def name(item: Job) -> str:
    assert isinstance(item.subject, TimmModel)
    return item.subject.timm


class Listed:
    """A feed of fixed answers that stores the results."""

    def __init__(self, *answers: Job | Wait | End) -> None:
        self.answers = list(answers)
        self.results: list[tuple[Job, ItemResult]] = []

    def ask(self) -> Job | Wait | End:
        return self.answers.pop(0)

    def tell(self, item: Job, outcome: ItemResult) -> None:
        self.results.append((item, outcome))


def retrying(feed: Listed, max_startup_failures: int = 3) -> RetryingFeed[Job]:
    return RetryingFeed(feed, Watchdog(Path("workers.log"), Path("marks")), max_startup_failures)


def test_results_reach_the_feed_and_the_end_is_seen() -> None:
    first, second = job("a"), job("b")
    feed = Listed(first, WAIT, second, END)
    items = retrying(feed)
    assert items.next("1") is not None
    assert items.next("2") is None
    assert items.next("2") is not None
    result = failed_result(second, "quick", "done")
    items.finish("2", result)
    assert items.next("3") is None
    assert items.next("4") is None  # the feed is not asked again
    assert not items.done
    items.finish("1", ItemResult())
    assert items.done
    assert feed.results == [(second, result), (first, ItemResult())]


def test_an_item_fails_after_three_deaths() -> None:
    feed = Listed(job("a"), END)
    items = retrying(feed)
    for attempt in range(MAX_DEATHS):
        assert items.next(str(attempt)) is not None
        items.start(str(attempt))
        items.retry(str(attempt))
    assert items.next("last") is None
    assert items.done
    ((_, outcome),) = feed.results
    assert outcome.records[0].reason == "worker process died 3 times"


def test_a_death_before_the_start_does_not_count_against_the_item() -> None:
    feed = Listed(job("a"), END)
    items = retrying(feed)
    for attempt in range(2 * MAX_DEATHS):
        assert items.next(str(attempt)) is not None
        if attempt % 2:
            items.start(str(attempt))
        items.retry(str(attempt))
    assert len(feed.results) == 1


def test_start_up_failures_in_a_row_end_the_run() -> None:
    items = retrying(Listed(job("a"), job("b")), max_startup_failures=4)
    for attempt in range(3):
        items.next(str(attempt))
        items.retry(str(attempt))
    items.next("started")
    items.start("started")
    items.next("3")
    items.retry("3")
    for attempt in range(4, 6):
        items.next(str(attempt))
        items.retry(str(attempt))
    items.next("6")
    with pytest.raises(MachineError, match=r"4 worker processes in a row died .*workers\.log"):
        items.retry("6")


def test_an_exception_as_answer_ends_the_run() -> None:
    feed = Listed(job("a"))
    items = retrying(feed)
    items.next("1")
    with pytest.raises(MachineError, match="no device"):
        items.finish("1", MachineError("no device"))
    assert feed.results == []


def test_a_trial_beside_one_that_breaks_the_device_for_all_is_retried_without_it(
    tmp_path: Path,
) -> None:
    culprit, neighbor = job("culprit"), job("neighbor")
    feed = Listed(culprit, neighbor, END)
    watchdog = Watchdog(tmp_path / "workers.log", tmp_path)
    items = RetryingFeed(feed, watchdog, 3)
    running: dict[str, Job] = {}
    for attempt in range(2 * MAX_DEATHS):
        for worker in ("a", "b"):
            if item := items.next(f"{worker}{attempt}"):
                running[f"{worker}{attempt}"] = item
                items.start(f"{worker}{attempt}")
        if culprit in running.values():  # the fault reaches every process on the device
            for trial_id, item in running.items():
                watchdog.mark_fault(item, "device fault: of the culprit")
                items.retry(trial_id)
        else:
            for trial_id in running:
                items.finish(trial_id, ItemResult())
        running.clear()
    assert items.done
    results = {name(item): result for item, result in feed.results}
    assert results["culprit"].records[0].reason == "device fault: of the culprit"
    assert results["neighbor"] == ItemResult(attempts=2)


@pytest.mark.parametrize(
    ("deaths", "reason"),
    [
        ("fault fault fault", "device fault: an illegal address"),
        ("killed fault fault", "device fault: an illegal address"),
        ("fault killed fault", "device fault: an illegal address"),
        ("fault fault unstarted fault", "device fault: an illegal address"),
        ("fault fault killed", "worker process died 3 times"),
    ],
)
def test_the_reason_is_that_of_the_last_death(deaths: str, reason: str, tmp_path: Path) -> None:
    feed = Listed(job("a"), END)
    watchdog = Watchdog(tmp_path / "workers.log", tmp_path)
    items = RetryingFeed(feed, watchdog, 3)
    for number, death in enumerate(deaths.split()):
        item = items.next(str(number))
        assert item is not None
        if death != "unstarted":
            items.start(str(number))
        if death == "fault":
            watchdog.mark_fault(item, "device fault: an illegal address")
        items.retry(str(number))
    ((_, outcome),) = feed.results
    assert outcome.records[0].reason == reason


def test_a_retry_that_has_not_started_still_waits_for_other_faults(tmp_path: Path) -> None:
    feed = Listed(job("a"), job("b"), WAIT, WAIT, WAIT)
    watchdog = Watchdog(tmp_path / "workers.log", tmp_path)
    items = RetryingFeed(feed, watchdog, 9)
    for number in "01":
        item = items.next(number)
        assert item is not None
        items.start(number)
        watchdog.mark_fault(item, "device fault: of either")
    items.retry("0")
    items.retry("1")
    assert items.next("2") is not None
    items.retry("2")  # its worker has not started
    assert items.next("3") is not None
    assert items.next("4") is None
