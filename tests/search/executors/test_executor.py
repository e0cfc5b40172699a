"""The interface of executors, in this process and under Ray."""

import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import TimmModel, subject_digest
from partialnas.search.executors.base import (
    END,
    WAIT,
    End,
    Executor,
    InProcess,
    ItemResult,
    Wait,
    failed_result,
)
from partialnas.search.executors.watchdog import Watchdog
from partialnas.space.errors import MachineError, UserError
from partialnas.space.values import Value


def _ray(folder: Path) -> Executor:
    from ray import cloudpickle

    from partialnas.search.executors.ray_tune import RayTune

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return RayTune(folder=folder, workers=2)


@pytest.fixture(params=["in-process", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest, tmp_path: Path) -> Executor:
    return InProcess(tmp_path / "workers.log") if request.param == "in-process" else _ray(tmp_path)


class Timing(Value):
    """An item that is not a job."""

    network: str


def job(name: str, seeds: tuple[int, ...] = (0,)) -> Job:
    task = Task(data="digits", resolution=8, channels=1, classes=10)
    subject = TimmModel(timm=name)
    return Job(subject=subject, task=task, recipe=RECIPES["short"], fidelity=3, seeds=seeds)


def work(item: Job | Timing) -> ItemResult:
    if isinstance(item, Timing):
        raise OSError("no such clock")
    name = item.subject.timm if isinstance(item.subject, TimmModel) else ""
    if name == "bad":
        raise ZeroDivisionError("of the network")
    if name == "user":
        raise UserError("no such data set")
    if name == "machine":
        raise MachineError("no such device")
    return failed_result(item, f"worked on {name}", "done")


class Generations:
    """A feed that waits for a generation of jobs before it hands out the next."""

    def __init__(self, generations: list[list[Job | Timing]]) -> None:
        self.generations = generations
        self.under_way: list[Job | Timing] = []
        self.results: list[tuple[Job | Timing, ItemResult]] = []
        self.ended = False
        self.lock = threading.Lock()  # cannot be pickled, like a ledger

    def ask(self) -> Job | Timing | Wait | End:
        assert not self.ended
        if self.generations and not self.generations[0] and not self.under_way:
            self.generations.pop(0)
        if not self.generations:
            self.ended = True
            return END
        if not self.generations[0]:
            return WAIT
        self.under_way.append(self.generations[0].pop(0))
        return self.under_way[-1]

    def tell(self, item: Job | Timing, outcome: ItemResult) -> None:
        self.under_way.remove(item)
        self.results.append((item, outcome))


def test_every_item_runs_once_and_reports_its_result(executor: Executor, tmp_path: Path) -> None:
    fine: list[Job | Timing] = [job(f"net{i}", seeds=(0, 1)) for i in range(5)]
    feed = Generations([fine[:3], [job("bad"), Timing(network="a"), fine[3]], [fine[4]]])
    executor.run(feed, work)
    outcomes = {str(item): outcome for item, outcome in feed.results}
    assert Counter(str(item) for item, _ in feed.results) == Counter(outcomes.keys())
    assert len(outcomes) == 7
    for item in fine:
        assert [record.state for record in outcomes[str(item)].records] == ["done", "done"]
    (bad,) = outcomes[str(job("bad"))].records
    assert (bad.state, bad.reason) == ("failed", "ZeroDivisionError: of the network")
    assert outcomes[str(Timing(network="a"))] == ItemResult()
    log = (tmp_path / "workers.log").read_text()
    assert "ZeroDivisionError: of the network" in log
    assert "OSError: no such clock" in log


def test_a_feed_with_nothing_ends_at_once(executor: Executor) -> None:
    feed = Generations([])
    executor.run(feed, work)
    assert feed.results == []


@pytest.mark.parametrize(("name", "kind"), [("user", UserError), ("machine", MachineError)])
def test_user_and_machine_errors_end_the_run(
    executor: Executor, name: str, kind: type[Exception]
) -> None:
    feed = Generations([[job(name)], [job("never")]])
    with pytest.raises(kind, match="no such"):
        executor.run(feed, work)
    assert feed.results == []


class Interrupted(Generations):
    def tell(self, item: Job | Timing, outcome: ItemResult) -> None:
        super().tell(item, outcome)
        raise KeyboardInterrupt


def test_ctrl_c_is_passed_on(executor: Executor) -> None:
    feed = Interrupted([[job("one")], [job("two")]])
    with pytest.raises(KeyboardInterrupt):
        executor.run(feed, work)
    assert len(feed.results) == 1


class Stubborn(Generations):
    def ask(self) -> Job | Timing | Wait | End:
        return WAIT


def test_waiting_without_items_in_flight_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no item is in flight"):
        InProcess().run(Stubborn([]), work)


def test_a_failure_has_a_record_for_each_seed() -> None:
    item = job("net", seeds=(0, 7))
    records = failed_result(item, "worker process died 3 times").records
    assert {record.seed: record.key for record in records} == item.trial_keys
    assert {record.digest for record in records} == {subject_digest(item.subject)}
    assert {record.fidelity for record in records} == {3}


def test_a_log_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"workers\.log: cannot be written"):
        InProcess(tmp_path / "nowhere" / "workers.log").run(Generations([[job("bad")]]), work)


def test_the_hang_file_of_a_process_becomes_a_timeout(tmp_path: Path) -> None:
    watchdog = Watchdog(tmp_path / "workers.log", tmp_path / "marks", limit_s=60)
    (done,) = watchdog.run_item(work, job("net")).records
    assert done.state == "done"
    assert list((tmp_path / "marks").iterdir()) == []
    mark = watchdog.hang_file(job("net"))
    mark.write_text("Thread 0x1 (most recent call first): hung here")
    (late,) = watchdog.run_item(work, job("net")).records
    assert (late.state, late.reason) == ("timeout", "no result after 60 s")
    assert "hung here" in (tmp_path / "workers.log").read_text()
    assert not mark.exists()
