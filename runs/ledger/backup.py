"""Verified copies of a ledger, in `backups/` beside it.

The two newest copies are kept, and one from before each schema upgrade. A periodic copy that cannot
be made does not stop the study.
"""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from partialnas.runs.ledger.full_check import check_everything
from partialnas.runs.ledger.schema import APPLICATION_ID

_FOLDER = "backups"
_KEPT = 2


def back_up(connection: sqlite3.Connection, path: Path) -> Path | None:
    """Copy the ledger at `path` and return the copy, or None if it cannot be made."""
    copies = _copies(path)
    number = _number(copies[0]) + 1 if copies else 1
    target = path.parent / _FOLDER / f"{path.stem}-{number}{path.suffix}"
    if not copy_ledger(connection, target):
        return None
    with suppress(OSError):
        for old in copies[_KEPT - 1 :]:
            old.unlink()
    return target


def back_up_before_upgrade(connection: sqlite3.Connection, path: Path, schema: int) -> bool:
    """Copy the ledger at `path`, which has this schema, to a file that is never replaced later.

    Returns:
        Whether the copy was made.
    """
    target = path.parent / _FOLDER / f"{path.stem}.schema{schema}{path.suffix}"
    return copy_ledger(connection, target)


def copy_ledger(connection: sqlite3.Connection, target: Path) -> bool:
    """Write a verified copy of an open ledger; return False and leave no file if that fails."""
    draft = target.with_name(f"{target.stem}.draft")
    try:
        target.parent.mkdir(exist_ok=True)
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # a single file, wherever it is moved
        if is_intact(draft):
            draft.replace(target)
            return True
    except (OSError, sqlite3.Error):
        pass
    with suppress(OSError):
        draft.unlink(missing_ok=True)
    return False


def newest_valid_backup(path: Path) -> Path | None:
    """Return the newest intact copy of the ledger at `path`, or None if there is none."""
    upgraded = sorted((path.parent / _FOLDER).glob(f"{path.stem}.schema*{path.suffix}"))
    return next((copy for copy in (*_copies(path), *reversed(upgraded)) if is_intact(copy)), None)


def is_intact(path: Path) -> bool:
    """Return whether a file is a ledger that passes the full check."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            (application,) = copy.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                return False
            check_everything(copy)
    except (sqlite3.Error, UnicodeDecodeError):  # text that is not UTF-8, also in a message
        return False
    return True


def _copies(path: Path) -> list[Path]:
    """Return the periodic copies, newest first."""
    files = (path.parent / _FOLDER).glob(f"{path.stem}-*{path.suffix}")
    return sorted((copy for copy in files if _number(copy)), key=_number, reverse=True)


def _number(copy: Path) -> int:
    _, _, number = copy.stem.rpartition("-")
    return int(number) if number.isdecimal() else 0
