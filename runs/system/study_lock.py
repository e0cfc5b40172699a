"""One driver per study: a lock that the kernel frees when its holder dies, however it dies."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import psutil

from partialnas.space.errors import MachineError, UserError

LOCK_FILE = "driver.lock"


def lock_study(folder: Path) -> TextIO:
    """Makes this process the only driver of the study in `folder`, until it is freed.

    The file keeps the driver's process id, for the message that a second driver gets. It is left
    where it is: a file that is removed while another process opens it would lock nothing.

    Raises:
        UserError: another driver works on this study.
        MachineError: the lock's file cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        file = path.open("a+")
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written ({error.strerror}); mend the folder, or choose another "
            "with --out"
        ) from error
    try:
        _take(file, folder)
    except BaseException:
        file.close()
        raise
    return file


def _take(file: TextIO, folder: Path) -> None:
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
    """Lets another driver in, and nobody be named as one; once is enough."""
    if file.closed:
        return
    with suppress(OSError):  # of a full disk: the lock is freed all the same
        file.truncate(0)
    file.close()


def driver_pid(folder: Path) -> int | None:
    """The process that works on the study in `folder`; None where there is none on this machine.

    Told by the process id in the lock's file: to try the lock itself could turn a driver away.
    """
    try:
        process = int((folder / LOCK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return process if psutil.pid_exists(process) else None
