import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from partialnas.runs.devices import contention as contention
from partialnas.runs.devices.contention import watch_cpu
from partialnas.runs.system.environment import available_cores

BURN = "print(flush=True)\nwhile True: pass"


@contextmanager
def busy_processes(processes: int) -> Iterator[None]:
    """Run processes that each use a whole core."""
    started = [
        subprocess.Popen([sys.executable, "-S", "-c", BURN], stdout=subprocess.PIPE)
        for _ in range(processes)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


def use_cpu(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_busy_processes_on_our_cores_taint_a_measurement() -> None:
    with busy_processes(-(-len(available_cores()) // 4)):
        tainted = watch_cpu()
        use_cpu(1.0)
        assert tainted()


class Machine:
    """Cores and a process with clocks that a test sets."""

    def __init__(self, patch: pytest.MonkeyPatch, cores: int) -> None:
        self.now = self.process_time = 0.0
        self.times = [dict.fromkeys(psutil.cpu_times()._fields, 0.0) for _ in range(cores)]
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        patch.setattr(contention.time, "perf_counter", lambda: self.now)
        patch.setattr(contention.time, "process_time", lambda: self.process_time)
        patch.setattr(psutil, "cpu_times", self._cpu_times)

    def _cpu_times(self, percpu: bool = False) -> Any:
        kind = type(REAL_TIMES)
        assert percpu
        return [kind(**times) for times in self.times]


REAL_TIMES = psutil.cpu_times()


@pytest.mark.parametrize(
    ("user", "process_s", "tainted"),
    [
        ((10.0, 0.0), 10.0, False),  # only this process, on one of two cores
        ((10.0, 1.5), 10.0, False),  # others have 7.5 % of the two cores
        ((10.0, 2.5), 10.0, True),  # others have 12.5 %
        ((10.0, 10.0), 10.0, True),
        ((10.0, 10.0), 20.0, False),  # only this process, with two threads
        ((0.0, 0.0), 10.0, False),  # a kernel that reports no times
    ],
)
def test_own_cpu_time_does_not_count_as_foreign(
    user: tuple[float, float], process_s: float, tainted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, cores=2)
    watched = watch_cpu()
    machine.now, machine.process_time = 10.0, process_s
    for times, seconds in zip(machine.times, user, strict=True):
        times["user"] = seconds
        times["idle"] = 10.0 - seconds
    assert watched() is tainted


@pytest.mark.skipif(
    "steal" not in psutil.cpu_times()._fields, reason="only Linux reports steal time"
)
def test_steal_time_counts_and_guest_time_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, cores=1)
    stolen, hosting = watch_cpu(), watch_cpu()
    machine.now, machine.process_time = 10.0, 9.0
    machine.times[0] |= {"user": 9.0, "guest": 9.0, "iowait": 1.0}
    assert not hosting()
    machine.times[0] |= {"steal": 2.0}
    assert stolen()
