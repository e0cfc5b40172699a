"""Locks, contention, environment and memory on a system without Linux's files and calls."""

import ctypes
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from partialnas.runs.devices import contention
from partialnas.runs.devices.device_lock import exclusive_access, shared_access
from partialnas.runs.system import allocator, linux
from partialnas.runs.system import environment as environment_module
from partialnas.runs.system.environment import available_cores
from partialnas.runs.system.memory import available_memory
from partialnas.space.errors import MachineError

ROOT = Path(__file__).parents[3]
MAC_TIMES = namedtuple("MAC_TIMES", "user nice system idle")  # psutil's fields on macOS


@pytest.fixture
def other_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without /proc, /sys and the affinity of processes, called darwin."""
    root, locks = tmp_path / "root", tmp_path / "locks"
    root.mkdir()
    locks.mkdir()
    monkeypatch.setattr(linux, "ROOT", root)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(locks))
    return root


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which programs are looked up."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def run_code(code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def busy_message(device: str = "cpu") -> str:
    with pytest.raises(MachineError) as caught, exclusive_access(device, timeout_s=0.05):
        pass
    return str(caught.value)


@pytest.mark.usefixtures("other_system")
def test_locks_exclude_and_do_not_name_a_holder_that_the_system_does_not_list() -> None:
    with shared_access("cpu"), shared_access("cpu"):
        assert "in use by an unknown process" in busy_message()
    with exclusive_access("cpu", timeout_s=1):
        assert "in use by an unknown process" in busy_message()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux lists locks")
def test_a_thread_of_this_process_is_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    holds, ends = threading.Event(), threading.Event()

    def train() -> None:
        with shared_access("cpu"):
            holds.set()
            ends.wait(30)

    thread = threading.Thread(target=train)
    thread.start()
    holds.wait(30)
    message = busy_message()
    ends.set()
    thread.join()
    assert "in use by another thread of this process" in message


@pytest.mark.usefixtures("other_system")
def test_all_cores_count_where_a_process_has_no_affinity() -> None:
    assert available_cores() == list(range(os.cpu_count() or 1))


def test_the_processor_is_named_by_the_kernel_or_by_sysctl_or_is_unknown(
    other_system: Path, programs: Path
) -> None:
    assert environment_module._processor() == "unknown (arm64)"
    assert environment_module._facts.__wrapped__()["processor"] == "unknown (arm64)"
    sysctl = programs / "sysctl"
    sysctl.write_text('#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo "Apple M3"\n')
    sysctl.chmod(0o755)
    assert environment_module._processor() == "Apple M3"
    board = other_system / "proc" / "device-tree" / "model"
    board.parent.mkdir(parents=True)
    board.write_bytes(b"Raspberry Pi 5\0")
    assert environment_module._processor() == "Raspberry Pi 5"
    (other_system / "proc" / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Quick: Chip 9\nflags\t: a b\n"
    )
    assert environment_module._processor() == "Quick: Chip 9"


@pytest.mark.usefixtures("other_system")
@pytest.mark.parametrize(("foreign_s", "tainted"), [(0.0, False), (0.4, False), (4.0, True)])
def test_contention_is_seen_in_the_times_that_macos_has(
    monkeypatch: pytest.MonkeyPatch, foreign_s: float, tainted: bool
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(psutil, "cpu_times", lambda **_: [MAC_TIMES(10.0, 0.0, 1.0, 50.0)])
    clock = iter((100.0, 110.0))
    monkeypatch.setattr(contention.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(contention.time, "process_time", lambda: 5.0)
    watched = contention.watch_cpu()
    after = MAC_TIMES(10.0, 0.0, 1.0 + foreign_s, 60.0 - foreign_s)
    monkeypatch.setattr(psutil, "cpu_times", lambda **_: [after])
    assert watched() is tainted


def test_contention_that_cannot_be_seen_is_called_unknown_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, programs: Path
) -> None:
    def no_times(**_: bool) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/stat")

    assert not [*programs.iterdir()], "nvidia-smi is missing"
    contention.warn_unknown.cache_clear()
    monkeypatch.setattr(psutil, "cpu_times", no_times)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert contention.watch_cpu()() is None
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "whether other processes use the CPU during measurements is unknown"
    ]


@pytest.mark.usefixtures("other_system")
def test_the_memory_of_the_machine_counts_without_control_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = type("Memory", (), {"available": 3 * 2**30})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert available_memory() == 3 * 2**30


def test_an_allocator_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert allocator.keep_freed_memory() is False


def test_names_of_sockets_fit_on_macos() -> None:
    code = "import sys; sys.platform = 'darwin'; from partialnas.runs.system import linux; "
    code += "print(linux.MAX_SOCKET_BYTES)"
    assert int(run_code(code).stdout) == 103  # char sun_path[104] in macOS's sys/un.h, with a zero


def test_windows_is_refused_in_one_sentence() -> None:
    result = run_code("import sys; sys.platform = 'win32'; import partialnas")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: partialnas runs on Linux and macOS; on Windows")
    assert "WSL" in last


def test_only_one_module_reads_files_and_calls_of_linux() -> None:
    words = re.compile(r"/proc/|/sys/|\bproc/|sched_[gs]etaffinity|\bprctl\b|O_TMPFILE|memfd|F_OFD")
    users = {
        path.relative_to(ROOT).as_posix()
        for room in ("space", "runs", "search", "analysis", "partialnas")
        for path in (ROOT / room).rglob("*.py")
        if words.search(path.read_text(encoding="utf-8"))
    }
    # the script of a bundle runs on a board without this package
    assert users <= {"runs/system/linux.py", "runs/measure/board_script.py"}
