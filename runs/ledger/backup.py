"""Copies of a ledger, each found in order when it was made, for the day that the file is damaged.

They lie in `backups/` beside the ledger; the two newest are kept. A copy that cannot be made does
no harm to the study: its ledger has everything.
"""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from partialnas.runs.ledger.schema import APPLICATION_ID, LEDGER_COLUMNS, read_rows

_FOLDER = "backups"
_KEPT = 2


def back_up(connection: sqlite3.Connection, path: Path) -> Path | None:
    """Copies the ledger at `path`, as a whole or not at all; None where it could not be done."""
    folder = path.parent / _FOLDER
    draft = folder / f"{path.stem}.draft"
    try:
        folder.mkdir(exist_ok=True)
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, wherever it is put
        if not is_good(draft):
            draft.unlink()
            return None
        made = _copies(path)
        target = folder / f"{path.stem}-{_number(made[0]) + 1 if made else 1}{path.suffix}"
        draft.replace(target)
        for old in made[_KEPT - 1 :]:
            old.unlink()
    except (OSError, sqlite3.Error):
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        return None
    return target


def newest_valid_backup(path: Path) -> Path | None:
    """The newest copy of the ledger at `path` that is in order still."""
    return next((copy for copy in _copies(path) if is_good(copy)), None)


def is_good(path: Path) -> bool:
    """Whether a file is a ledger whose pages are sound and whose every row has its seal."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            (application,) = copy.execute("PRAGMA application_id").fetchone()
            sound = copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            if application != APPLICATION_ID or not sound:
                return False
            for table in LEDGER_COLUMNS:
                read_rows(copy, table)
    except sqlite3.Error:
        return False
    return True


def _copies(path: Path) -> list[Path]:
    """The copies that there are, newest first."""
    found = (path.parent / _FOLDER).glob(f"{path.stem}-*{path.suffix}")
    return sorted((copy for copy in found if _number(copy)), key=_number, reverse=True)


def _number(copy: Path) -> int:
    _, _, number = copy.stem.rpartition("-")
    return int(number) if number.isdecimal() else 0
