"""Ray Tune with real faults: processes that die, hang, are interrupted or killed."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from worker_functions import (
    Deadly,
    Faulty,
    Item,
    Listed,
    Unloadable,
    column,
    process_id,
    process_id_or_fault,
    settings_of_gpu,
    work,
)

from partialnas.runs.system.run_folder import remove_leftovers
from partialnas.search.executors import ray_tune
from partialnas.search.executors.base import ItemResult
from partialnas.search.executors.ray_tune import RayTune, cluster_hardware
from partialnas.space.errors import MachineError, UserError

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> tuple[Listed, Path]:
    """A run with every kind of worker fault, and its folder."""
    folder = tmp_path_factory.mktemp("faults")
    names = ["dies_once", "raises", "always_dies", "leaves", "hangs", "ended_once", "timing"]
    feed = Listed(["fine_0", *names, *(f"fine_{i}" for i in range(1, 10))])
    work = Faulty(folder, np.zeros(120_000_000, np.uint8))
    RayTune(folder=folder, workers=2, time_limit_s=4).run(feed, work)
    return feed, folder


@slow
def test_every_result_is_reported_exactly_once(faults: tuple[Listed, Path]) -> None:
    feed, _ = faults
    counts = Counter(name for name, _ in feed.results)
    assert len(counts) == 17
    assert set(counts.values()) == {1}


@slow
def test_faults_are_recorded_with_their_reason(faults: tuple[Listed, Path]) -> None:
    feed, _ = faults
    assert feed.reason("fine_3") == "done: 120000000 bytes"
    assert feed.reason("dies_once") == "done: 120000000 bytes"
    assert feed.reason("ended_once") == "done: 120000000 bytes"
    assert feed.reason("raises") == "failed: ArithmeticError: as asked"
    assert feed.reason("leaves") == "failed: SystemExit: 3"
    assert feed.reason("always_dies") == "failed: worker process died 3 times"
    assert feed.reason("hangs") == "timeout: no result after 4 s"
    assert ("timing", ItemResult(reason="OSError: no such clock")) in feed.results


@slow
def test_only_items_whose_process_died_are_retried(faults: tuple[Listed, Path]) -> None:
    _, folder = faults
    starts = Counter(column(folder / "starts", 0))
    again = {name: count for name, count in starts.items() if count > 1}
    assert again == {"dies_once": 2, "always_dies": 3, "ended_once": 2}


@slow
def test_workers_are_reused_and_share_the_data(faults: tuple[Listed, Path]) -> None:
    _, folder = faults
    pids = set(column(folder / "starts", 1))
    deaths = 1 + 3 + 1 + 1
    assert len(pids) <= 2 + deaths
    assert set(column(folder / "starts", 2)) == {"False"}


@slow
def test_tracebacks_are_in_the_log(faults: tuple[Listed, Path]) -> None:
    _, folder = faults
    log = (folder / "workers.log").read_text()
    assert "ArithmeticError: as asked" in log
    assert "SIGKILL" in log or "connection error" in log
    assert "no result after 4 s" in log


@slow
def test_nothing_is_left_behind(faults: tuple[Listed, Path]) -> None:
    _, folder = faults
    assert sorted(path.name for path in folder.iterdir()) == ["starts", "workers.log"]
    assert not Path("~/ray_results").expanduser().exists()
    assert "TUNE_GLOBAL_CHECKPOINT_S" not in os.environ


@slow
def test_a_device_fault_costs_its_network_and_three_processes(tmp_path: Path) -> None:
    feed = Listed(["net0", "fault", "net1", "timing_fault", "net2"])
    RayTune(folder=tmp_path).run(feed, process_id_or_fault)
    names = [name for name, _ in feed.results]
    assert sorted(names) == ["fault", "net0", "net1", "net2", "timing_fault"]
    assert feed.reason("fault") == "failed: device fault: device-side assert triggered"
    timing = ItemResult(reason="device fault: device-side assert triggered", attempts=3)
    assert ("timing_fault", timing) in feed.results
    processes = [feed.reason(name) for name in ("net0", "net1", "net2")]
    assert len({*processes}) == 3, "a process with a fault is not used again"
    assert (tmp_path / "workers.log").read_text().count("job ") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["workers.log"]


class Killing(Listed):
    """A feed that kills the idle process after each of the first items."""

    def tell(self, item: Item, outcome: ItemResult) -> None:
        super().tell(item, outcome)
        if len(self.results) <= 3:
            idle = psutil.Process(int(str(outcome.records[0].reason)))
            idle.kill()
            while idle.is_running() and idle.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)


@slow
@pytest.mark.parametrize(
    ("workers", "last", "kind"), [(1, "user", UserError), (2, "machine", MachineError)]
)
def test_a_process_that_dies_between_two_items_costs_neither_and_errors_end_the_run(
    tmp_path: Path, workers: int, last: str, kind: type[Exception]
) -> None:
    names = [f"net{i}" for i in range(6)]
    feed = Killing([*names, last, *["never"] * 9])
    with pytest.raises(kind, match="no such"):
        RayTune(folder=tmp_path, workers=workers).run(feed, process_id)
    results = [name for name, _ in feed.results if name != "never"]
    assert set(names) >= set(results)
    assert len(set(results)) == len(results) >= len(names) - 1
    assert {outcome.records[0].state for _, outcome in feed.results} == {"done"}
    assert "a worker failed" in (tmp_path / "workers.log").read_text()


@slow
def test_start_up_failures_of_workers_end_the_run(tmp_path: Path) -> None:
    feed = Listed(["one"] * 9)
    with pytest.raises(MachineError, match=r"3 worker processes in a row died .*workers\.log"):
        RayTune(folder=tmp_path).run(feed, Deadly())
    assert not feed.results


@slow
def test_work_that_cannot_be_unpickled_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"set up.*a_module_that_is_nowhere"):
        RayTune(folder=tmp_path).run(Listed(["one"] * 9), Unloadable())


class Interrupted(Listed):
    def tell(self, item: Item, outcome: ItemResult) -> None:
        super().tell(item, outcome)
        if len(self.results) == 3:
            raise KeyboardInterrupt


@slow
def test_isolated_items_have_separate_processes_and_ctrl_c_is_passed_on(tmp_path: Path) -> None:
    feed = Interrupted([f"net{i}" for i in range(9)])
    with pytest.raises(KeyboardInterrupt):
        RayTune(folder=tmp_path, workers=1, isolate=True).run(feed, process_id)
    assert len({feed.reason(name) for name, _ in feed.results}) == len(feed.results) == 3


@slow
def test_a_missing_device_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="requires 1000 GPU, but Ray finds"):
        RayTune(folder=tmp_path, gpus_per_trial=1000).run(Listed(["one"]), work)


@slow
def test_ray_manages_the_gpus_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    feed = Listed(["one", "two"])
    RayTune(folder=tmp_path, workers=2, gpus=1, gpus_per_trial=0.5).run(feed, settings_of_gpu)
    assert {feed.reason(name) for name in ("one", "two")} == {"done: 0 expandable_segments:True"}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("ray://127.0.0.1:10001", "expected HOST:PORT"),
        ("head", "expected HOST:PORT"),
    ],
)
def test_an_unreachable_address_is_reported(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RayTune(folder=tmp_path, address=address).run(Listed(["one"]), work)


@slow
def test_an_address_at_which_something_else_answers_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_tune, "_JOIN_TIMEOUT_S", 5)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(MachineError, match="does not answer within 5 s"),
    ):
        cluster_hardware(f"127.0.0.1:{server.getsockname()[1]}")


_DRIVER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore SIGINT
import sys
from pathlib import Path
from partialnas.search.executors.ray_tune import RayTune
from worker_functions import Listed, Sleeping

folder = Path(sys.argv[1])

class Feed(Listed):
    def tell(self, item, outcome):
        (folder / "told").open("a").write("told\\n")

RayTune(folder=folder, workers=2).run(Feed(["net"] * 6), Sleeping(folder, quick=2))
"""


class Driver:
    """A driver in its own process group with two busy workers, and what it has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.temporary = folder / "t"
        self.temporary.mkdir()
        (folder / "driver.py").write_text(_DRIVER)
        self.process = subprocess.Popen(
            [sys.executable, folder / "driver.py", folder],
            env=os.environ | {"PARTIALNAS_TEST": self.mark, "RAY_TMPDIR": str(self.temporary)},
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until_busy(self) -> None:
        started = self.folder / "started"
        until(lambda: started.exists() and started.read_text().count("\n") == 4, 120)

    def family(self) -> list[psutil.Process]:
        """Return the processes that this driver has started, by mark or by open files."""
        return [p for p in psutil.process_iter() if self._is_relative(p)]

    def _is_relative(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            files = (file.path for file in process.open_files())
            in_folder = any(path.startswith(str(self.temporary)) for path in files)
            return in_folder or process.environ().get("PARTIALNAS_TEST") == self.mark
        except psutil.Error:
            return False


@pytest.fixture
def driver() -> Iterator[Driver]:
    with tempfile.TemporaryDirectory(prefix="pn-", dir="/tmp") as folder:
        driver = Driver(Path(folder))
        yield driver
        for process in [driver.process, *driver.family()]:
            process.kill()
        driver.process.communicate()


_ATTACK = """
import os, sys
from ray._raylet import GcsClient
os.setuid(65534)
try:
    client = GcsClient(address=sys.argv[1])
    client.internal_kv_put(b"key", b"value", True, None)
except Exception as error:
    print("refused", error)
"""


@slow
def test_a_running_ray_is_private_and_ctrl_c_stops_it_within_five_seconds(driver: Driver) -> None:
    driver.until_busy()
    family = driver.family()
    sockets = [socket for process in family for socket in process.net_connections("tcp")]
    listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert listening
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    (folder,) = driver.temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    if os.getuid() == 0:
        (gcs,) = (p for p in family if p.name() == "gcs_server")
        ports = [c.laddr.port for c in gcs.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        for port in ports:
            command = [sys.executable, "-c", _ATTACK, f"127.0.0.1:{port}"]
            attack = subprocess.run(command, capture_output=True, text=True, check=False)
            assert attack.stdout.startswith("refused"), attack
    began = time.monotonic()
    os.killpg(driver.process.pid, signal.SIGINT)
    _, errors = driver.process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not driver.family()
    assert not list(driver.temporary.iterdir())
    assert (driver.folder / "told").read_text().count("\n") == 2


@slow
def test_a_driver_that_is_killed_leaves_no_process_and_no_file(driver: Driver) -> None:
    driver.until_busy()
    driver.process.kill()
    until(lambda: not driver.family() and not list(driver.temporary.iterdir()), 30)


_JOINING = """
import sys
from partialnas.search.executors.ray_tune import cluster_hardware

cluster_hardware(sys.argv[1])
"""


@slow
def test_a_driver_that_is_killed_while_it_joins_a_cluster_leaves_no_process(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="pn-", dir="/tmp") as temporary,
        socket.create_server(("127.0.0.1", 0)) as server,  # which never answers
        subprocess.Popen(
            [sys.executable, "-c", _JOINING, f"127.0.0.1:{server.getsockname()[1]}"],
            env=os.environ | {"RAY_TMPDIR": temporary},
            cwd=tmp_path,
        ) as driver,
    ):
        logs = Path(temporary)
        until(lambda: any("GCS" in log.read_text() for log in logs.rglob("ray.log")), 60)
        children = psutil.Process(driver.pid).children(recursive=True)
        assert children
        driver.kill()
        psutil.wait_procs(children, timeout=10)
        assert not any(map(psutil.Process.is_running, children))
        assert not list(logs.iterdir())


def test_a_child_that_resets_the_connection_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Reset:
        def send(self, message: object) -> None: ...

        def poll(self, timeout: float) -> bool:  # noqa: ARG002
            return True

        def recv(self) -> None:
            raise ConnectionResetError

    @contextmanager
    def process(scratch: Path, *_: object) -> Iterator[Reset]:
        (scratch / "ray.log").write_text("Traceback ...\nRuntimeError: another version of Ray\n")
        yield Reset()

    monkeypatch.setattr(ray_tune, "_check_reachable", str)
    monkeypatch.setattr(ray_tune, "_ray_process", process)
    with pytest.raises(MachineError, match=r"cannot join the cluster at head:6379: .* version of"):
        cluster_hardware("head:6379")


@slow
def test_the_next_run_ends_what_a_killed_driver_and_a_killed_child_have_left(
    driver: Driver,
) -> None:
    driver.until_busy()
    (child,) = psutil.Process(driver.process.pid).children()
    os.kill(driver.process.pid, signal.SIGSTOP)
    child.suspend()
    driver.process.kill()
    agents = [p for p in driver.family() if p.pid not in (driver.process.pid, child.pid)]
    child.kill()
    assert len(agents) > 5
    assert list(driver.temporary.iterdir())
    remove_leftovers(driver.temporary)
    assert not driver.family()
    assert not list(driver.temporary.iterdir())


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
