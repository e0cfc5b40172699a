"""Device locks that keep measurements and training runs apart.

Training runs hold `shared_access` to a device, one epoch at a time; a measurement holds
`exclusive_access` and has priority over runs that request the device after it. The locks are
files of this user in the temporary folder, locked by the kernel: they work between threads and
processes, and the kernel releases them when their holder dies.

Work on a GPU also shares the CPU, which launches its kernels. A lock is not reentrant: a thread
that holds a device and requests it again may wait for itself. Hold `shared_access` around an epoch
or a copy to the device, and nothing else.
"""

import fcntl
import logging
import math
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil

from partialnas.runs.system.linux import lock_holders
from partialnas.runs.system.nvml import gpu_uuid, visible_device
from partialnas.space.errors import MachineError

_LOG = logging.getLogger(__name__)
_PAUSE_S = 0.02
_SILENT_S = 1.0
"""Seconds to wait for the device before explaining the delay."""


@contextmanager
def shared_access(device: str) -> Iterator[None]:
    """Hold a device (`cpu`, `cuda`, `cuda:1`) together with other training runs.

    Wait while a measurement holds or requests the device, or the CPU that launches the work of a
    GPU. A wait of more than a second is logged once as a warning.

    Raises:
        MachineError: the lock files cannot be used.
    """
    with _launching_core(device), _shared(device):
        yield


@contextmanager
def exclusive_access(device: str, timeout_s: float | None = None) -> Iterator[None]:
    """Hold a device alone, without training runs or other measurements on it.

    Training runs that request the device later have to wait, so that this call only waits for the
    epochs that are running now. A wait of more than a second is logged once as a warning. A
    measurement on a GPU shares the CPU, so that nothing is measured there meanwhile.

    Args:
        device: `cpu`, `cuda` or, for example, `cuda:1`.
        timeout_s: longest time to wait for the device in seconds; without limit by default.

    Raises:
        MachineError: the device stayed busy, or the lock files cannot be used.
    """
    with (
        _launching_core(device, timeout_s),
        _open_lock_file(device, "gate") as queue_lock,
        _open_lock_file(device, "room") as access_lock,
    ):
        _lock(device, timeout_s, {queue_lock: fcntl.LOCK_EX, access_lock: fcntl.LOCK_EX})
        yield


@contextmanager
def _launching_core(device: str, timeout_s: float | None = None) -> Iterator[None]:
    """Share the CPU while a GPU works: one of its cores launches the kernels.

    The CPU always comes first. So whoever waits for a GPU waits for those that have the CPU
    already, and nobody waits in a circle.
    """
    with nullcontext() if device == "cpu" else _shared("cpu", timeout_s):
        yield


@contextmanager
def _shared(device: str, timeout_s: float | None = None) -> Iterator[None]:
    with _open_lock_file(device, "room") as access_lock:
        with _open_lock_file(device, "gate") as queue_lock:
            _lock(device, timeout_s, {queue_lock: fcntl.LOCK_EX, access_lock: fcntl.LOCK_SH})
        yield


def _lock(device: str, timeout_s: float | None, kinds: Mapping[int, int]) -> None:
    """Lock open files of a device in their order; log a wait of more than a second once.

    Args:
        device: the device.
        timeout_s: longest time to wait in seconds, or None.
        kinds: kind of lock by open file.

    Raises:
        MachineError: the device stayed busy.
    """
    start = time.monotonic()
    deadline = math.inf if timeout_s is None else start + timeout_s
    first_deadline = min(deadline, start + _SILENT_S)
    locked = _lock_until(first_deadline, kinds)
    if not locked and deadline > first_deadline:
        _LOG.warning("waiting for %s: in use by %s", device, _holders(*kinds))
        locked = _lock_until(deadline, kinds)
    if not locked:
        raise MachineError(
            f"device {device} stayed busy for {timeout_s:g} s: in use by {_holders(*kinds)}; wait "
            "for it to end, or allow a longer wait"
        )


def _lock_until(deadline: float, kinds: Mapping[int, int]) -> bool:
    """Lock open files in their order; return False if the deadline passes first.

    Poll instead of blocking in the kernel, so that Ctrl-C and deadlines work in any thread.
    """
    for file, kind in kinds.items():
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE_S)
    return True


def _holders(*files: int) -> str:
    """Return the processes that hold the lock files, or "an unknown process" if none is listed."""
    pids = lock_holders({os.fstat(file).st_ino for file in files})
    names = [_process_label(pid) for pid in sorted(pids - {os.getpid()})]
    if os.getpid() in pids and not names:
        return "another thread of this process"
    return ", ".join(filter(None, names)) or "an unknown process"


def _process_label(pid: int) -> str:
    """Return `process PID`, marked if the process is stopped; empty if it has ended."""
    try:
        stopped = psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return ""
    return f"process {pid}" + " (stopped)" * stopped


@contextmanager
def _open_lock_file(device: str, name: str) -> Iterator[int]:
    """Open a lock file; two openings exclude each other, also within one process."""
    path = _folder() / f"{_physical_name(device)}.{name}"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise MachineError(f"cannot open the device lock {path}: {error.strerror}") from error
    try:
        yield file
    finally:
        # unlock explicitly: a child forked meanwhile has the file open, too
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)


def _folder() -> Path:
    """Return this user's folder of lock files; refuse one that others can write to."""
    path = Path(tempfile.gettempdir()) / f"partialnas-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        facts = path.lstat()
    except OSError as error:
        raise MachineError(f"cannot create the folder of device locks {path}: {error}") from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise MachineError(f"{path}: expected a folder that only you can write to; remove it")
    return path


def _physical_name(device: str) -> str:
    """Return a name of the device that all processes on this machine have for it.

    It is the UUID of a GPU or of a MIG instance, or without NVML what CUDA_VISIBLE_DEVICES says.
    """
    kind, _, number = device.partition(":")
    if kind == "cuda":
        index = int(number or 0)
        number = gpu_uuid(index) or visible_device(index) or str(index)
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{kind}-{number}" if number else kind)
