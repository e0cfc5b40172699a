"""Ray Tune with real faults: processes that die, hang, are interrupted or killed."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import TimmModel
from partialnas.search.executors.base import END, End, ItemResult, Wait, failed_result
from partialnas.space.errors import MachineError, UserError

pytestmark = pytest.mark.slow

_TASK = Task(data="digits", resolution=8, channels=1, classes=10)


def job(name: str) -> Job:
    return Job(
        subject=TimmModel(timm=name), task=_TASK, recipe=RECIPES["short"], fidelity=1, seeds=(0,)
    )


@dataclass
class Listed:
    """A feed of named jobs that stores their results."""

    todo: list[str]
    results: list[tuple[str, ItemResult]] = field(default_factory=list)

    def ask(self) -> Job | Wait | End:
        return job(self.todo.pop(0)) if self.todo else END

    def tell(self, item: Job, outcome: ItemResult) -> None:
        assert isinstance(item.subject, TimmModel)
        self.results.append((item.subject.timm, outcome))

    def reason(self, name: str) -> str:
        (outcome,) = (outcome for item, outcome in self.results if item == name)
        (record,) = outcome.records
        return f"{record.state}: {record.reason}"


@pytest.fixture(scope="module")
def rays() -> Any:
    """The executor class; definitions of this module are pickled by value."""
    from ray import cloudpickle

    from partialnas.search.executors.ray_tune import RayTune

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return RayTune


@dataclass(frozen=True)
class Faulty:
    """Work that behaves as the item's name says; `images` is too large for a message."""

    folder: Path
    images: npt.NDArray[np.uint8]

    def __call__(self, item: Job) -> ItemResult:
        assert isinstance(item.subject, TimmModel)
        name = item.subject.timm
        with (self.folder / "starts").open("a") as starts:
            starts.write(f"{name} {os.getpid()} {self.images.flags.writeable}\n")
        if name == "raises":
            raise ArithmeticError("as asked")
        if name == "leaves":
            raise SystemExit(3)
        if name == "always_dies":
            os._exit(3)
        if name == "dies_once" and (self.folder / "starts").read_text().count(name) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "ended_once" and (self.folder / "starts").read_text().count(name) == 1:
            os.kill(os.getpid(), signal.SIGTERM)  # as when a machine is preempted
            time.sleep(600)
        if name == "hangs":
            ctypes.PyDLL(None).sleep(600)  # keeps the interpreter's lock: no thread can run
        time.sleep(0.05)
        return failed_result(item, f"{self.images.nbytes} bytes", "done")


@pytest.fixture(scope="module")
def faults(rays: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Listed, Path]:
    """A run with every kind of worker fault, and its folder."""
    folder = tmp_path_factory.mktemp("faults")
    names = ["dies_once", "raises", "always_dies", "leaves", "hangs", "ended_once"]
    feed = Listed(["fine_0", *names, *(f"fine_{i}" for i in range(1, 10))])
    work = Faulty(folder, np.zeros(120_000_000, np.uint8))
    rays(folder=folder, workers=2, time_limit_s=4).run(feed, work)
    return feed, folder


def test_every_result_is_reported_exactly_once(faults: tuple[Listed, Path]) -> None:
    feed, _ = faults
    counts = Counter(name for name, _ in feed.results)
    assert len(counts) == 16
    assert set(counts.values()) == {1}


def test_faults_are_recorded_with_their_reason(faults: tuple[Listed, Path]) -> None:
    feed, _ = faults
    assert feed.reason("fine_3") == "done: 120000000 bytes"
    assert feed.reason("dies_once") == "done: 120000000 bytes"
    assert feed.reason("ended_once") == "done: 120000000 bytes"
    assert feed.reason("raises") == "failed: ArithmeticError: as asked"
    assert feed.reason("leaves") == "failed: SystemExit: 3"
    assert feed.reason("always_dies") == "failed: worker process died 3 times"
    assert feed.reason("hangs") == "timeout: no result after 4 s"


def test_only_items_whose_process_died_are_retried(faults: tuple[Listed, Path]) -> None:
    _, folder = faults
    starts = Counter(line.split()[0] for line in _lines(folder / "starts"))
    again = {name: count for name, count in starts.items() if count > 1}
    assert again == {"dies_once": 2, "always_dies": 3, "ended_once": 2}


def test_workers_are_reused_and_share_the_data(faults: tuple[Listed, Path]) -> None:
    _, folder = faults
    pids = {line.split()[1] for line in _lines(folder / "starts")}
    deaths = 1 + 3 + 1 + 1
    assert len(pids) <= 2 + deaths
    assert {line.split()[2] for line in _lines(folder / "starts")} == {"False"}


def test_tracebacks_are_in_the_log(faults: tuple[Listed, Path]) -> None:
    _, folder = faults
    log = (folder / "workers.log").read_text()
    assert "ArithmeticError: as asked" in log
    assert "SIGKILL" in log or "connection error" in log
    assert "no result after 4 s" in log


def test_nothing_is_left_behind(faults: tuple[Listed, Path]) -> None:
    _, folder = faults
    assert sorted(path.name for path in folder.iterdir()) == ["starts", "workers.log"]
    assert not Path("~/ray_results").expanduser().exists()
    assert "TUNE_GLOBAL_CHECKPOINT_S" not in os.environ


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def quick(item: Job) -> ItemResult:
    return failed_result(item, "quick", "done")


def who(item: Job) -> ItemResult:
    return failed_result(item, str(os.getpid()), "done")


class Killing(Listed):
    """A feed that kills the idle process after each of the first items."""

    def tell(self, item: Job, outcome: ItemResult) -> None:
        super().tell(item, outcome)
        if len(self.results) <= 5:
            idle = psutil.Process(int(str(outcome.records[0].reason)))
            idle.kill()
            psutil.wait_procs([idle], 30)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_dies_between_two_items_costs_neither(
    rays: Any, tmp_path: Path, workers: int
) -> None:
    feed = Killing([f"net{i}" for i in range(8)])
    rays(folder=tmp_path, workers=workers).run(feed, who)
    assert sorted(name for name, _ in feed.results) == [f"net{i}" for i in range(8)]
    assert {outcome.records[0].state for _, outcome in feed.results} == {"done"}
    assert "a worker failed" in (tmp_path / "workers.log").read_text()


class Deadly:
    """Work that exits every process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os._exit, (3,))

    def __call__(self, item: Job) -> ItemResult:
        return quick(item)


def test_start_up_failures_of_workers_end_the_run(rays: Any, tmp_path: Path) -> None:
    feed = Listed(["one"] * 9)
    with pytest.raises(MachineError, match=r"3 worker processes in a row died .*workers\.log"):
        rays(folder=tmp_path).run(feed, Deadly())
    assert not feed.results


class Unloadable:
    """Work from a module that workers do not have."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (__import__, ("a_module_that_is_nowhere",))

    def __call__(self, item: Job) -> ItemResult:
        return quick(item)


class FullDisk(Listed):
    def tell(self, item: Job, outcome: ItemResult) -> None:
        super().tell(item, outcome)
        raise MachineError("the disk is full")


def test_work_that_cannot_be_unpickled_ends_the_run(rays: Any, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"set up.*a_module_that_is_nowhere"):
        rays(folder=tmp_path).run(Listed(["one"] * 9), Unloadable())


def test_an_error_of_the_feed_ends_the_run(rays: Any, tmp_path: Path) -> None:
    feed = FullDisk(["one"] * 9)
    with pytest.raises(MachineError, match="the disk is full"):
        rays(folder=tmp_path, workers=2).run(feed, quick)
    assert len(feed.results) == 1


def test_a_missing_device_is_reported(rays: Any, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="requires 1000 GPU, but Ray finds"):
        rays(folder=tmp_path, gpus_per_trial=1000).run(Listed(["one"]), quick)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("ray://127.0.0.1:10001", "expected HOST:PORT"),
        ("head", "expected HOST:PORT"),
    ],
)
def test_an_unreachable_address_is_reported(
    rays: Any, tmp_path: Path, address: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        rays(folder=tmp_path, address=address).run(Listed(["one"]), quick)


def test_an_address_joins_a_cluster(
    rays: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    feed = Listed([f"net{i}" for i in range(4)])
    try:
        cluster.add_node(num_cpus=1)
        rays(folder=tmp_path, workers=2, address=cluster.address).run(feed, _where)
    finally:
        cluster.shutdown()
    assert len(feed.results) == 4
    assert len({feed.reason(f"net{i}") for i in range(4)}) == 2


def _where(item: Job) -> ItemResult:
    import ray

    time.sleep(3)
    return failed_result(item, ray.get_runtime_context().get_node_id(), "done")


_DRIVER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore SIGINT
import sys, time
from pathlib import Path
from partialnas.runs.config.protocol import Protocol
from partialnas.search.executors.base import END, ItemResult
from partialnas.search.executors.ray_tune import RayTune

folder = Path(sys.argv[1])

class Feed:
    left = 6
    def ask(self):
        self.left -= 1
        return Protocol() if self.left >= 0 else END
    def tell(self, item, outcome):
        (folder / "told").open("a").write("told\\n")

def work(item):
    with (folder / "started").open("a") as file:
        file.write("started\\n")
    started = len((folder / "started").read_text().splitlines())
    time.sleep(600 if started > 2 else 0)
    return ItemResult()

RayTune(folder=folder, workers=2).run(Feed(), work)
"""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A driver in its own process group with busy workers, and its environment mark."""
    mark = uuid.uuid4().hex
    scratch = tempfile.mkdtemp(prefix="pn-", dir="/tmp")
    (tmp_path / "driver.py").write_text(_DRIVER)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "driver.py", tmp_path],
        env=os.environ | {"PARTIALNAS_TEST": mark, "RAY_TMPDIR": scratch},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    started = tmp_path / "started"
    _until(lambda: started.exists() and len(_lines(started)) == 4, 90)
    yield process, mark
    process.kill()
    process.wait()
    _until(lambda: not _family(mark), 30)
    shutil.rmtree(scratch)


def test_ctrl_c_stops_within_five_seconds(
    driver: tuple["subprocess.Popen[str]", str], tmp_path: Path
) -> None:
    process, mark = driver
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not _family(mark)
    assert len(_lines(tmp_path / "told")) == 2


def test_nothing_listens_to_the_network(driver: tuple["subprocess.Popen[str]", str]) -> None:
    _, mark = driver
    sockets = [socket for process in _family(mark) for socket in process.net_connections("tcp")]
    heard = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert heard
    assert {ip.removeprefix("::ffff:") for ip in heard} == {"127.0.0.1"}


def test_a_driver_that_is_killed_leaves_no_process(
    driver: tuple["subprocess.Popen[str]", str],
) -> None:
    process, mark = driver
    process.kill()
    process.wait()
    _until(lambda: not _family(mark), 30)


def _family(mark: str) -> list[psutil.Process]:
    """Return the processes that inherited the mark."""
    family = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PARTIALNAS_TEST") == mark:
                family.append(process)
        except psutil.Error:
            continue
    return family


def _until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
