"""Keeps measuring and training apart: one lock for each device of the machine.

Whoever trains on a device holds it with others (`shared_access`), an epoch at a time; whoever measures on
it holds it alone (`exclusive_access`) and is let in before any training that comes after it. The locks are
files of this user in the temporary folder, locked by the kernel: they work between threads and
between processes, and the kernel frees them when their holder dies, however it dies.

A lock is not re-entrant: who holds a device and asks for it again in the same thread, other than
sharing it twice, waits for itself. Take `shared_access` around an epoch and nothing else.
"""

import fcntl
import logging
import math
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from partialnas.space.errors import MachineError

_LOG = logging.getLogger(__name__)
_PAUSE_S = 0.02
_SILENT_S = 1.0
"""So long it is waited to measure before the reader is told why nothing happens."""

_KERNEL_LOCKS = Path("/proc/locks")
_FLOCK = re.compile(r"^\d+: FLOCK +\w+ +\w+ +(\d+) \w+:\w+:(\d+)", re.MULTILINE)
"""Process and inode of a lock that is held, in what the kernel tells of locks."""


@contextmanager
def shared_access(device: str) -> Iterator[None]:
    """Holds `device` ("cpu", "cuda", "cuda:1") together with others that share it.

    Waits while somebody measures, or is waiting to measure, on it.

    Raises:
        MachineError: the lock's files cannot be used.
    """
    with _opened(device, "room") as room:
        with _opened(device, "gate") as gate:
            _take(gate, fcntl.LOCK_EX)
            _take(room, fcntl.LOCK_SH)
        yield


@contextmanager
def exclusive_access(device: str, timeout_s: float | None = None) -> Iterator[None]:
    """Holds `device` alone: nobody trains or measures on it meanwhile.

    From the moment of asking nobody new is let in to share the device, so that the wait is as long
    as the epochs that run now. A wait of more than a second is told on standard error, once.

    Args:
        device: "cpu", "cuda" or "cuda:1".
        timeout_s: how long to wait for the device; without it, for as long as it takes.

    Raises:
        MachineError: the device stayed busy, or the lock's files cannot be used.
    """
    began = time.monotonic()
    deadline = math.inf if timeout_s is None else began + timeout_s
    patience = min(deadline, began + _SILENT_S)
    with _opened(device, "gate") as gate, _opened(device, "room") as room:
        alone = _take_both(gate, room, patience)
        if not alone and deadline > patience:
            _LOG.warning(
                "waiting for %s: %s measures or trains on it", device, _holders(gate, room)
            )
            alone = _take_both(gate, room, deadline)
        if not alone:
            raise MachineError(
                f"device {device} stayed busy for {timeout_s:g} s: {_holders(gate, room)} trains "
                "or measures on it; let it end, or allow a longer wait"
            )
        yield


def _take_both(gate: int, room: int, deadline: float) -> bool:
    return _take(gate, fcntl.LOCK_EX, deadline) and _take(room, fcntl.LOCK_EX, deadline)


def _take(file: int, kind: int, deadline: float | None = None) -> bool:
    """Locks an open file; False where the deadline passed first.

    It asks again and again instead of blocking in the kernel, so that Ctrl-C and deadlines end the
    wait in any thread.
    """
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_S)


def _holders(*files: int) -> str:
    """Who holds the lock files, as far as the kernel tells; who is stopped holds them for ever."""
    places = {os.fstat(file).st_ino for file in files}
    try:
        locks = _FLOCK.findall(_KERNEL_LOCKS.read_text())
    except OSError:
        locks = []
    held = {int(process) for process, place in locks if int(place) in places}
    told = [_named(process) for process in sorted(held - {os.getpid()})]
    return ", ".join(filter(None, told)) or "another process"


def _named(process: int) -> str:
    try:
        stopped = psutil.Process(process).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return ""
    return f"process {process}" + " (which is stopped)" * stopped


@contextmanager
def _opened(device: str, door: str) -> Iterator[int]:
    """A lock file opened anew: two openings exclude each other, be it in one process or in two."""
    path = _folder() / f"{_physical(device)}.{door}"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise MachineError(f"cannot open the device lock {path}: {error.strerror}") from error
    try:
        yield file
    finally:
        # unlocked before it is closed: a child forked meanwhile has the file open too
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)


def _folder() -> Path:
    """This user's folder of locks; a folder that another could write to is refused."""
    path = Path(tempfile.gettempdir()) / f"partialnas-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        facts = path.lstat()
    except OSError as error:
        raise MachineError(f"cannot make the folder of device locks {path}: {error}") from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise MachineError(f"{path} should be a folder that only you can write to: remove it")
    return path


def _physical(device: str) -> str:
    """The device's name among all processes: each may see the GPUs under numbers of its own."""
    kind, _, number = device.partition(":")
    if kind == "cuda":
        number = number or "0"
        visible = [gpu.strip() for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
        if int(number) < len(visible) and visible[int(number)]:
            number = visible[int(number)]
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{kind}-{number}" if number else kind)
