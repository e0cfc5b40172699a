"""The temporary folder and the child processes of a run, and what dead drivers have left of them.

A driver holds a lock on its folder for as long as it lives, and starts its child processes in a
session of their own. A folder whose lock is free belongs to a driver that was killed: its processes
are ended and it is removed.
"""

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import psutil

from partialnas.space.errors import MachineError

_PREFIX = "pnas-"
_LOCK = "driver.lock"
_MARK = "PARTIALNAS_RUN_FOLDER"
"""Environment variable of child processes: the folder of their run."""

_YOUNG_S = 60
"""Age below which a folder without a recorded session may belong to a driver that just starts."""

_END_S = 10
"""Seconds to wait for killed processes, which the kernel may hold for a while."""


@contextmanager
def run_folder(parent: Path) -> Iterator[Path]:
    """Create a folder that only this user can enter; remove it, and those of dead drivers.

    Args:
        parent: folder of temporary files.

    Raises:
        MachineError: the folder cannot be created.
    """
    remove_leftovers(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = (folder / _LOCK).open("w", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{parent}: no folder can be created ({error.strerror})") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def start_session(
    folder: Path, command: Sequence[str], environment: Mapping[str, str], **options: object
) -> "subprocess.Popen[bytes]":
    """Start a child process in a session of its own, and record the session in a run's folder.

    Args:
        folder: folder of the run, from `run_folder`.
        command: program and arguments.
        environment: environment variables.
        options: further options of `subprocess.Popen`.
    """
    popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
    marked = {**environment, _MARK: str(folder)}
    process = popen(command, env=marked, start_new_session=True, **options)
    (folder / _LOCK).write_text(f"{process.pid}\n", encoding="utf-8")
    return process


def end_session(leader: "subprocess.Popen[bytes]") -> int:
    """Kill all processes of a session; return the exit code of its leader.

    The leader has not been waited for, so that no other process can have its id.
    """
    _kill(lambda process: os.getsid(process.pid) == leader.pid)
    return leader.wait()


def end_other_members() -> None:
    """Kill all other processes of the session of this process."""
    session = os.getsid(0)
    _kill(lambda process: os.getsid(process.pid) == session)


def remove_leftovers(parent: Path) -> None:
    """End the processes of dead drivers of this user, and remove their folders in `parent`."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another run may be removing it
            facts = folder.lstat()
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid():
                _remove_if_dead(folder, time.time() - facts.st_mtime)


def _remove_if_dead(folder: Path, age_s: float) -> None:
    """Remove a folder unless its driver lives or is about to start its session."""
    session = None
    with suppress(FileNotFoundError), (folder / _LOCK).open(encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        session = _session(lock)
        if session is not None:
            _kill(lambda p: os.getsid(p.pid) == session and _belongs_to(p, folder))
    if session is None and (age_s < _YOUNG_S or _in_use(folder)):
        return
    shutil.rmtree(folder, ignore_errors=True)


def _session(lock: TextIO) -> int | None:
    text = lock.read().strip()
    return int(text) if text.isdecimal() else None


def _in_use(folder: Path) -> bool:
    return any(_matches(process, lambda p: _belongs_to(p, folder)) for process in _processes())


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    """Return whether a process has the folder in its environment, command line or open files.

    Some processes overwrite their environment and command line with a title. Open files are listed
    without links: on macOS, `/tmp` is one.
    """
    if process.environ().get(_MARK) == str(folder):
        return True
    paths = (*process.cmdline(), *(file.path for file in process.open_files()))
    folders = {f"{folder}{os.sep}", f"{folder.resolve()}{os.sep}"}
    return any(name in path for path in paths for name in folders)


def _kill(condition: Callable[[psutil.Process], bool]) -> None:
    """Kill the processes of this user that meet a condition, and those that they start meanwhile.

    psutil compares the start time before it sends a signal, so that no later process with the same
    id is hit.
    """
    deadline = time.monotonic() + _END_S
    passes = 0  # without members: one that has just ended may have started another in the first
    while passes < 2 and time.monotonic() < deadline:
        members = [process for process in _processes() if _matches(process, condition)]
        for process in members:
            with suppress(psutil.Error):
                process.kill()
        passes = 0 if members else passes + 1
        if members:
            time.sleep(0.01)


def _processes() -> Iterator[psutil.Process]:
    return (process for process in psutil.process_iter() if process.pid != os.getpid())


def _matches(process: psutil.Process, condition: Callable[[psutil.Process], bool]) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE or process.uids().real != os.getuid():
            return False
        return condition(process)
    except (psutil.Error, OSError):  # it has ended
        return False
