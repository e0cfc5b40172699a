"""Signals that stop a run after the running items or at once, and what is kept."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import run_verb

from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.executors.base import END, End, InProcess, ItemResult, Wait
from partialnas.search.session import signals
from partialnas.search.session.feed_wrappers import StoppableFeed
from partialnas.search.session.signals import StopRequest, Terminated, handle_signals
from partialnas.space.values import Value

HERE = Path(__file__).parents[1]
sys.path.append(str(HERE.parents[1] / "benchmarks"))

import chaos_signals  # noqa: E402


@pytest.fixture(autouse=True)
def _sighup_is_not_ignored() -> Iterator[None]:
    """Handle SIGHUP as in a terminal, also if the tests run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


class Numbered(Value):
    number: int


class Feed:
    def __init__(self) -> None:
        self.asked = 0
        self.results: list[int] = []

    def ask(self) -> Numbered | Wait | End:
        self.asked += 1
        return Numbered(number=self.asked) if self.asked <= 5 else END

    def tell(self, item: Numbered, outcome: ItemResult) -> None:  # noqa: ARG002
        self.results.append(item.number)


def signalled(number: int, times: int = 1) -> Callable[[Numbered], ItemResult]:
    """Work that sends a signal during its second item."""

    def work(item: Numbered) -> ItemResult:
        if item.number == 2:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return ItemResult()

    return work


def run(
    feed: Feed, work: Callable[[Numbered], ItemResult], said: list[str]
) -> StoppableFeed[Numbered]:
    with handle_signals(said.append) as stop:
        stoppable = StoppableFeed(feed, stop)
        InProcess().run(stoppable, work)
    return stoppable


def test_the_first_ctrl_c_waits_for_running_items_and_says_so() -> None:
    feed, said = Feed(), list[str]()
    assert run(feed, signalled(signal.SIGINT), said).stopped_early
    assert feed.results == [1, 2]
    assert feed.asked == 2
    (line,) = said
    assert "waiting for the running trials" in line


def test_the_second_ctrl_c_stops_at_once() -> None:
    feed, said = Feed(), list[str]()
    with pytest.raises(KeyboardInterrupt):
        run(feed, signalled(signal.SIGINT, times=2), said)
    assert feed.results == [1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 75), (signal.SIGHUP, 129)]
)
def test_signals_of_batch_systems_stop_at_once(number: int, code: int) -> None:
    feed, said = Feed(), list[str]()
    with pytest.raises(Terminated) as ended:
        run(feed, signalled(number, times=2), said)
    assert ended.value.exit_code == code
    assert feed.results == [1]
    assert said == []


def test_a_run_without_signals_prints_nothing() -> None:
    feed, said = Feed(), list[str]()
    assert not run(feed, lambda _: ItemResult(), said).stopped_early
    assert feed.results == [1, 2, 3, 4, 5]
    assert said == []


def test_signal_handlers_are_restored() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(KeyboardInterrupt):
        run(Feed(), signalled(signal.SIGINT, times=2), [])
    assert [signal.getsignal(number) for number in numbers] == before


def test_signals_are_not_handled_outside_the_main_thread() -> None:
    stops: list[StopRequest] = []

    def other() -> None:
        with handle_signals(print) as stop:
            stops.append(stop)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert [stop.requested for stop in stops] == [False]
    assert signal.getsignal(signal.SIGINT) is before


STUDY: dict[str, Any] = {
    "study": "stopped",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [4 * i for i in range(2, 12)]}},
    "search": {"sampler": "random"},
    "objectives": {"val_nll": "min"},
    "budget": {"trials": 6},
}


def write_study(folder: Path) -> list[str]:
    """Write a study whose trials wait; return the arguments that run it."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "executor": ALONE, "trial": "simulated:waiting"}))
    shutil.copy(HERE / "simulated.py", folder)
    return ["run", str(path), "--out", str(folder / "out")]


def counts(folder: Path) -> dict[str, int]:
    with Ledger.open(folder / "out") as ledger:
        return {state: n for state, n in ledger.state_counts().items() if n}


def until_marked(folder: Path, times: int, driver: "subprocess.Popen[str]") -> None:
    mark = folder / "mark"
    while not mark.exists() or len(mark.read_text().splitlines()) < times:
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.05)


ALONE = {"kind": "in-process", "device": "cpu"}  # torch is not imported to look for a GPU
WAYS: list[Any] = [
    pytest.param([signal.SIGUSR1], 75, 1, id="SIGUSR1", marks=pytest.mark.slow),
    pytest.param([signal.SIGHUP], 129, 1, id="SIGHUP", marks=pytest.mark.slow),
    pytest.param([signal.SIGTERM], 143, 1, id="SIGTERM", marks=pytest.mark.slow),
    pytest.param([signal.SIGINT], 130, 2, id="Ctrl-C", marks=pytest.mark.slow),
    pytest.param([signal.SIGINT] * 2, 130, 1, id="twice", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("signals", "code", "done"), WAYS)
def test_a_stopped_run_keeps_finished_trials_and_resumes(
    tmp_path: Path, signals: list[int], code: int, done: int
) -> None:
    arguments = write_study(tmp_path)
    environment = os.environ | {"PARTIALNAS_TEST_MARK": str(tmp_path / "mark")}
    driver = subprocess.Popen(
        [sys.executable, "-m", "partialnas", *arguments],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until_marked(tmp_path, 2, driver)
    for number in signals:
        driver.send_signal(number)
        time.sleep(0.5)
    if len(signals) == 1 and code == 130:
        assert driver.poll() is None
        (tmp_path / "go").touch()
    _, output = driver.communicate()
    assert driver.returncode == code, output
    assert "Traceback" not in output
    assert "trials are kept" in output
    assert counts(tmp_path)["done"] == done
    assert counts(tmp_path).keys() <= {"done", "planned"}
    (tmp_path / "go").touch()
    again = run_verb(arguments, tmp_path, environment)
    assert again.returncode == 0, again.stderr
    assert counts(tmp_path) == {"done": 6}


def test_an_exception_that_a_trial_swallows_stops_the_run_before_its_result() -> None:
    def work(item: Numbered) -> ItemResult:
        with suppress(BaseException):
            signalled(signal.SIGTERM)(item)
        return ItemResult()

    feed = Feed()
    with pytest.raises(Terminated):
        run(feed, work, [])
    assert feed.results == [1]


def test_a_second_interrupt_during_an_import_ends_no_notebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end(_: signal.Signals) -> None:
        raise AssertionError("the process of a library's user was ended")

    monkeypatch.setattr(signals, "_end_process", end)
    code = types.SimpleNamespace(co_filename="<frozen importlib._bootstrap>")
    importing: Any = types.SimpleNamespace(f_code=code, f_back=None)
    stop = StopRequest()
    stop.handle(signal.SIGINT, importing)
    assert stop.requested
    with pytest.raises(KeyboardInterrupt):
        stop.handle(signal.SIGINT, importing)


@pytest.mark.slow
def test_signals_at_any_moment_give_their_exit_code_and_lose_no_trial(tmp_path: Path) -> None:
    violations = chaos_signals.send_at_many_moments(tmp_path, ALONE, moments=8)
    assert violations == []
