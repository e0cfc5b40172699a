"""Settings of all tests, and a bound on their duration."""

import faulthandler
import gc
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from hypothesis import settings

from partialnas.runs.system.nvml import load_nvml

sys.path.append(str(Path(__file__).parent))  # command_line.py, fake_nvml.py, ...

# Without a deadline: no property concerns time, and a busy machine may be slow.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def install_nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ModuleType | None], None]]:
    """Return a function that replaces pynvml by a `FakeNvml`, or by nothing: not installed."""

    def install(nvml: ModuleType | None) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
        load_nvml.cache_clear()

    yield install
    load_nvml.cache_clear()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the tests and the libraries without garbage collection, and exempt them from it.

    Almost nothing of it is ever freed; to traverse it takes a third of the time of the collection.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files beside this one: their tests are the longest and should not be last."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.parent != here)


MAX_SECONDS = 300.0
"""Seconds after which a test has hung."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Kill the processes that a hung test has started: most tests that hang wait for one of them.

    A test that still does not end is ended by `faulthandler_timeout`, a minute later.
    """
    timer = threading.Timer(MAX_SECONDS, _end_descendants, [item.nodeid])
    timer.daemon = True
    timer.start()
    try:
        return (yield)
    finally:
        timer.cancel()


def _end_descendants(name: str) -> None:
    """Print the stacks of this process, and kill all processes that it has started."""
    print(f"{name} has run for {MAX_SECONDS:.0f} s; killing its processes", file=sys.__stderr__)
    faulthandler.dump_traceback(sys.__stderr__ or 2)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            print(f"{process.pid} {' '.join(process.cmdline())}"[:500], file=sys.__stderr__)
            process.kill()
