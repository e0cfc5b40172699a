"""The ledger's file: how it is made and opened, and what is said when it fails."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from partialnas.runs.ledger.backup import newest_valid_backup
from partialnas.runs.ledger.schema import (
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_VERSION,
    schema_version,
    write_row,
)
from partialnas.runs.system.files import blocking_file
from partialnas.space.errors import MachineError, UserError

LEDGER_FILE = "ledger.sqlite"
_PATIENCE_S = 30

_ELSEWHERE = "move it away or mend it, or choose another folder with --out"
_DAMAGED = "is damaged"
_REMEDIES = {
    "SQLITE_FULL": "the disk is full; free space and run the same command again",
    "SQLITE_IOERR": "the disk cannot be read or written; mend it and run the same command again",
    "SQLITE_READONLY": "may not be written; grant write access or choose another folder",
    "SQLITE_CANTOPEN": "cannot be opened; check the access rights of the file and its folder",
    "SQLITE_PERM": "cannot be opened; check the access rights of the file and its folder",
    "SQLITE_BUSY": "another program keeps it locked; stop that program",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_ERROR": _DAMAGED,  # the schema is not what `create_ledger_file` made
}


def create_ledger_file(path: Path, meta: Mapping[str, str]) -> None:
    """Makes an empty ledger with these facts. It is there as a whole or not at all."""
    draft = path.with_suffix(".draft")
    with translate_errors(path):
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = MEMORY")  # leaves no file beside a dead draft
            connection.executescript(f"BEGIN; {SCHEMA}")
            for key, value in meta.items():
                write_row(connection, "meta", (key, value))
            connection.execute("COMMIT")
        draft.replace(path)


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection that may write; `check_integrity` and `upgrade` come before the first time.

    Raises:
        UserError, MachineError: as `translate_errors` has it.
    """
    with translate_errors(path):
        connection = _opened(path, "mode=rw")
        connection.execute("PRAGMA foreign_keys = ON")
    return connection


def check_integrity(path: Path) -> None:
    """Finds a ledger in order, page by page; the longer the ledger is, the longer it takes.

    Raises:
        MachineError: it is damaged.
    """
    with translate_errors(path), closing(_opened(path, "mode=rw")) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        faults = [fault for (fault,) in found if fault != "ok"]
        for table, *_ in connection.execute("PRAGMA foreign_key_check"):
            faults.append(f"orphaned row of {table}")
    if faults:
        raise MachineError(f"{path}: {_DAMAGED} ({faults[0]}); {recovery_advice(path)}")


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads and never holds up the writer.

    It is opened as one that might write, so that the last to close clears SQLite's own files away.
    In a folder that may not be written these files cannot be made; no writer can be there either,
    and reading needs none.
    """
    wal = path.with_name(f"{path.name}-wal")
    still = not os.access(path.parent, os.W_OK) and not wal.exists()
    with translate_errors(path):
        connection = _opened(path, "immutable=1" if still else "mode=rw")
        connection.execute("PRAGMA query_only = ON")
    return connection


def _opened(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE_S)
    try:
        _refuse_strangers(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_strangers(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    schema = schema_version(connection)
    if application != APPLICATION_ID:
        raise UserError(f"{path}: is not a ledger of partialnas; {_ELSEWHERE}")
    if schema > SCHEMA_VERSION:
        raise UserError(
            f"{path}: written by a newer partialnas (schema {schema}; this one reads up to "
            f"{SCHEMA_VERSION}); update partialnas"
        )


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turns failures of SQLite and of the disk into errors that say what to do.

    Raises:
        UserError: the file is no database, or a file is where a folder should be.
        MachineError: disk full, damaged, not accessible.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        blocking = blocking_file(path) or error.filename or path
        raise UserError(f"{blocking}: a file, not a folder; {_ELSEWHERE}") from error
    except OSError as error:
        raise MachineError(f"{error.filename or path}: {error.strerror}; {_ELSEWHERE}") from error
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "SQLITE_ERROR")  # none where text is not UTF-8
        if code == "SQLITE_NOTADB":
            told = f"{path}: is not a ledger of partialnas ({error}); {recovery_advice(path)}"
            raise UserError(told) from error
        for prefix, remedy in _REMEDIES.items():
            if code.startswith(prefix):
                more = f"; {recovery_advice(path)}" if remedy is _DAMAGED else ""
                raise MachineError(f"{path}: {remedy} ({error}){more}") from error
        raise


def recovery_advice(path: Path) -> str:
    """What to do about a ledger that is no good: its newest copy that is, if there is one."""
    copy = newest_valid_backup(path)
    if copy is None:
        return "put a copy in its place, or start in another folder with --out"
    return f"the newest copy in order is {copy}: put it in the ledger's place to go on from there"
