"""Study locks: one driver per study; the kernel releases the lock when the driver dies."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import psutil

from partialnas.space.errors import MachineError, UserError

LOCK_FILE = "driver.lock"


def lock_study(folder: Path) -> TextIO:
    """Make this process the only driver of the study in `folder`, until `unlock_study`.

    The file contains the driver's process id. It is never removed, because another process might
    be opening it.

    Raises:
        UserError: another driver works on this study.
        MachineError: the lock file cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        file = path.open("a+")
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written ({error.strerror}); repair the folder, or choose another "
            "with --out"
        ) from error
    try:
        _lock(file, folder)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        raise UserError(
            f"{folder}: another driver works on this study (process {holder}); "
            "wait for it to finish, or stop it and run the same command again"
        ) from None
    except OSError as error:
        raise MachineError(f"{file.name}: cannot be locked ({error.strerror})") from error


def unlock_study(file: TextIO) -> None:
    """Release the lock and clear the process id; a second call does nothing."""
    if file.closed:
        return
    with suppress(OSError):  # a full disk; the lock is released nevertheless
        file.truncate(0)
    file.close()


def driver_pid(folder: Path) -> int | None:
    """Return the process id of the study's driver, or None if none runs on this machine.

    The id is read from the lock file, because trying the lock could turn a driver away.
    """
    try:
        pid = int((folder / LOCK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return pid if psutil.pid_exists(pid) else None
