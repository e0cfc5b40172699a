"""The interface of executors: in this process, and the calls that Ray's process makes."""

import pickle
import threading
from collections import Counter
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from worker_functions import Item, Listed, Timing, job, work

from partialnas.runs.records.subject import subject_digest
from partialnas.search.executors.base import END, WAIT, End, InProcess, ItemResult, Wait
from partialnas.search.executors.base import failed_result as failed
from partialnas.search.executors.ray_tune import _Server
from partialnas.search.executors.retry import RetryingFeed
from partialnas.search.executors.watchdog import Watchdog
from partialnas.space.errors import MachineError, UserError


class Generations:
    """A feed that waits for a generation of jobs before it hands out the next."""

    def __init__(self, generations: list[list[Item]]) -> None:
        self.generations = generations
        self.under_way: list[Item] = []
        self.results: list[tuple[Item, ItemResult]] = []
        self.ended = False

    def ask(self) -> Item | Wait | End:
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

    def tell(self, item: Item, outcome: ItemResult) -> None:
        self.under_way.remove(item)
        self.results.append((item, outcome))


def in_process(feed: Listed | Generations, folder: Path) -> None:
    InProcess(folder / "workers.log").run(feed, work)


def serve(feed: Listed | Generations, folder: Path) -> None:
    """Answer a thread that calls as Ray's process does, with one worker."""
    ours, theirs = Pipe()
    log = folder / "workers.log"
    (folder / "ray.log").touch()
    watchdog = Watchdog(log, folder / "marks")
    server = _Server(ours, RetryingFeed(feed, watchdog, 3), log, folder / "ray.log")
    thread = threading.Thread(target=_worker, args=(theirs, watchdog))
    thread.start()
    try:
        server.run()
    finally:
        ours.close()
        thread.join()


def _worker(connection: Connection, watchdog: Watchdog) -> None:
    try:
        for trial in map(str, range(100)):
            connection.send(("next", trial))
            if (data := connection.recv()) is None:
                continue
            connection.send(("start", trial))
            connection.recv()
            try:
                answer: ItemResult | Exception = watchdog.run_item(work, pickle.loads(data))  # noqa: S301
            except (UserError, MachineError) as error:
                answer = error
            connection.send(("finish", trial, pickle.dumps(answer)))
            connection.recv()
    except (EOFError, OSError):
        connection.close()


Run = Callable[[Listed | Generations, Path], None]
EXECUTORS = pytest.mark.parametrize("run", [in_process, serve])


@EXECUTORS
def test_every_item_runs_once_and_reports_its_result(run: Run, tmp_path: Path) -> None:
    fine: list[Item] = [job(f"net{i}", seeds=(0, 1)) for i in range(5)]
    feed = Generations([fine[:3], [job("bad"), Timing(network="a"), fine[3]], [fine[4]]])
    run(feed, tmp_path)
    outcomes = {str(item): outcome for item, outcome in feed.results}
    assert Counter(str(item) for item, _ in feed.results) == Counter(outcomes.keys())
    assert len(outcomes) == 7
    for item in fine:
        assert [record.state for record in outcomes[str(item)].records] == ["done", "done"]
    (bad,) = outcomes[str(job("bad"))].records
    assert (bad.state, bad.reason) == ("failed", "ZeroDivisionError: of the network")
    assert outcomes[str(Timing(network="a"))] == ItemResult(reason="OSError: no such clock")
    log = (tmp_path / "workers.log").read_text()
    assert "ZeroDivisionError: of the network" in log
    assert "OSError: no such clock" in log


@EXECUTORS
def test_a_feed_with_nothing_ends_at_once(run: Run, tmp_path: Path) -> None:
    feed = Generations([])
    run(feed, tmp_path)
    assert feed.results == []


@EXECUTORS
@pytest.mark.parametrize(("name", "kind"), [("user", UserError), ("machine", MachineError)])
def test_user_and_machine_errors_end_the_run(
    run: Run, tmp_path: Path, name: str, kind: type[Exception]
) -> None:
    feed = Generations([[job(name)], [job("never")]])
    with pytest.raises(kind, match="no such"):
        run(feed, tmp_path)
    assert feed.results == []


class Raising(Listed):
    """A feed that raises after its first result."""

    error: BaseException

    def tell(self, item: Item, outcome: ItemResult) -> None:
        super().tell(item, outcome)
        raise self.error


@EXECUTORS
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MachineError("the disk is full")])
def test_an_exception_of_the_feed_ends_the_run(
    run: Run, tmp_path: Path, error: BaseException
) -> None:
    feed = Raising(["one", "two"])
    feed.error = error
    with pytest.raises(type(error)):
        run(feed, tmp_path)
    assert len(feed.results) == 1


class Stubborn(Generations):
    def ask(self) -> Item | Wait | End:
        return WAIT


def test_waiting_without_items_in_flight_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no item is in flight"):
        InProcess().run(Stubborn([]), work)


def test_a_failure_has_a_record_for_each_seed() -> None:
    item = job("net", seeds=(0, 7), epochs=3)
    records = failed(item, "worker process died 3 times").records
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


@pytest.mark.parametrize("call", [None, ("failure", "Ray's process raylet has ended")])
def test_the_loss_of_ray_is_a_failure_of_the_machine(
    tmp_path: Path, call: tuple[str, ...] | None
) -> None:
    ours, theirs = Pipe()
    log = tmp_path / "workers.log"
    (tmp_path / "ray.log").write_text("what Ray said last")
    items = RetryingFeed(Listed(["one"]), Watchdog(log, tmp_path / "marks"), 3)
    server = _Server(ours, items, log, tmp_path / "ray.log")
    if call:
        theirs.send(call)
    theirs.close()
    with pytest.raises(MachineError, match=r"Ray.* has ended.*run the same command again"):
        server.run()
    assert "what Ray said last" in log.read_text()
