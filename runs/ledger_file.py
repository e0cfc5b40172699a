"""The ledger's file: its schema, how it is made and opened, and what is said when it fails."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from partialnas.runs.files import file_in_the_way
from partialnas.runs.ledger_rows import STATES, seal
from partialnas.space.errors import MachineError, UserError

LEDGER_FILE = "ledger.sqlite"
SCHEMA_VERSION = 2
RATIOS_SINCE = 2
"""The schema that brought the table of learned ratios."""

_APPLICATION_ID = 0x504E4153  # "PNAS" in the file's header: whose database it is
_PATIENCE_S = 30
_Check = Callable[[Path, sqlite3.Connection], None]

COLUMNS = {
    "meta": ("key", "value"),
    "proposals": ("number", "arm", "digest", "subject", "proposal", "created"),
    "trials": (
        *("number", "key", "proposal", "digest", "name", "seed", "fidelity", "state", "reason"),
        *("attempts", "metrics", "cost", "seconds", "device", "environment"),
        *("created", "finished"),
    ),
    "curves": ("key", "epoch", "row"),
    "ratios": ("key", "epoch", "row"),
    "measurements": (
        *("number", "digest", "device", "threads", "batch_size", "resolution", "precision"),
        *("form", "runtime", "measurement", "taken"),
    ),
}
"""Columns of each table, without the seal that ends every row."""

_RATIOS = """
CREATE TABLE ratios (
    key TEXT NOT NULL REFERENCES trials (key), epoch INTEGER NOT NULL, row TEXT NOT NULL,
    seal INTEGER NOT NULL, PRIMARY KEY (key, epoch)) WITHOUT ROWID;
"""
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, seal INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE proposals (
    number INTEGER PRIMARY KEY, arm TEXT, digest TEXT NOT NULL, subject TEXT NOT NULL,
    proposal TEXT NOT NULL, created TEXT NOT NULL, seal INTEGER NOT NULL);
CREATE TABLE trials (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    proposal INTEGER NOT NULL REFERENCES proposals, digest TEXT NOT NULL, name TEXT NOT NULL,
    seed INTEGER NOT NULL, fidelity INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN {STATES}), reason TEXT, attempts INTEGER NOT NULL,
    metrics TEXT NOT NULL, cost TEXT NOT NULL, seconds REAL NOT NULL, device TEXT NOT NULL,
    environment TEXT NOT NULL, created TEXT NOT NULL, finished TEXT, seal INTEGER NOT NULL);
CREATE INDEX trials_by_state ON trials (state);
CREATE TABLE curves (
    key TEXT NOT NULL REFERENCES trials (key), epoch INTEGER NOT NULL, row TEXT NOT NULL,
    seal INTEGER NOT NULL, PRIMARY KEY (key, epoch)) WITHOUT ROWID;
{_RATIOS}
CREATE TABLE measurements (
    number INTEGER PRIMARY KEY, digest TEXT NOT NULL, device TEXT NOT NULL,
    threads INTEGER NOT NULL, batch_size INTEGER NOT NULL, resolution INTEGER NOT NULL,
    precision TEXT NOT NULL, form TEXT NOT NULL, runtime TEXT NOT NULL,
    measurement TEXT NOT NULL, taken TEXT NOT NULL, seal INTEGER NOT NULL);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

_ELSEWHERE = "move it away or mend it, or choose another folder with --out"
_DAMAGED = "is damaged; put a copy in its place, or start in another folder"
_REMEDIES = {
    "SQLITE_FULL": "the disk is full; free space and run the same command again",
    "SQLITE_IOERR": "the disk cannot be read or written; mend it and run the same command again",
    "SQLITE_READONLY": "may not be written; grant write access or choose another folder",
    "SQLITE_CANTOPEN": "cannot be opened; check the access rights of the file and its folder",
    "SQLITE_PERM": "cannot be opened; check the access rights of the file and its folder",
    "SQLITE_BUSY": "another program keeps it locked; stop that program",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_ERROR": _DAMAGED,  # the schema is not what `create_file` made
}


def create_file(path: Path, meta: Mapping[str, str]) -> None:
    """Makes an empty ledger with these facts. It is there as a whole or not at all."""
    draft = path.with_suffix(".draft")
    with telling(path):
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = MEMORY")  # leaves no file beside a dead draft
            connection.executescript(f"BEGIN; {_SCHEMA}")
            for key, value in meta.items():
                write(connection, "meta", (key, value))
            connection.execute("COMMIT")
        draft.replace(path)


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection that may write, to a ledger that was found in order, page by page.

    A ledger of an older schema is brought up to this one's, as a whole or not at all.
    """
    with telling(path):
        connection = _opened(path, "mode=rw", _refuse_damage)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        _upgrade(connection)
    return connection


def _upgrade(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < RATIOS_SINCE:
        with transaction(connection, synced=True):
            connection.execute(_RATIOS)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads and never holds up the writer.

    It is opened as one that might write, so that the last to close clears SQLite's own files away.
    In a folder that may not be written these files cannot be made; no writer can be there either,
    and reading needs none.
    """
    wal = path.with_name(f"{path.name}-wal")
    still = not os.access(path.parent, os.W_OK) and not wal.exists()
    with telling(path):
        connection = _opened(path, "immutable=1" if still else "mode=rw")
        connection.execute("PRAGMA query_only = ON")
    return connection


def _opened(path: Path, how: str, *checks: _Check) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE_S)
    try:
        for check in (_refuse_strangers, *checks):
            check(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_damage(path: Path, connection: sqlite3.Connection) -> None:
    faults = [fault for (fault,) in connection.execute("PRAGMA integrity_check") if fault != "ok"]
    faults += [
        f"orphaned row of {row[0]}" for row in connection.execute("PRAGMA foreign_key_check")
    ]
    if faults:
        raise MachineError(f"{path}: {_DAMAGED} ({faults[0]})")


def _refuse_strangers(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise UserError(f"{path}: is not a ledger of partialnas; {_ELSEWHERE}")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path}: written by a newer partialnas (schema {version}; this one reads up to "
            f"{SCHEMA_VERSION}); update partialnas"
        )


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turns failures of SQLite and of the disk into errors that say what to do.

    Raises:
        UserError: the file is no database, or a file is where a folder should be.
        MachineError: disk full, damaged, not accessible.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        blocking = file_in_the_way(path) or error.filename or path
        raise UserError(f"{blocking}: a file, not a folder; {_ELSEWHERE}") from error
    except OSError as error:
        raise MachineError(f"{error.filename or path}: {error.strerror}; {_ELSEWHERE}") from error
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "SQLITE_ERROR")  # none where text is not UTF-8
        if code == "SQLITE_NOTADB":
            told = f"{path}: is not a ledger of partialnas ({error}); {_ELSEWHERE}"
            raise UserError(told) from error
        for prefix, remedy in _REMEDIES.items():
            if code.startswith(prefix):
                raise MachineError(f"{path}: {remedy} ({error})") from error
        raise


@contextmanager
def transaction(connection: sqlite3.Connection, *, synced: bool) -> Iterator[None]:
    """All or nothing: what is written inside is kept as a whole at the end, or was never there.

    Args:
        connection: that may write.
        synced: whether the disk confirms it, with all that was written before. Without, the death
            of any process loses nothing, and the loss of power at most what came since the disk
            last confirmed.
    """
    connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def write(connection: sqlite3.Connection, table: str, columns: Sequence[object]) -> None:
    """Writes one sealed row, in place of the one with the same key if there is one."""
    marks = ", ".join("?" * (len(columns) + 1))
    connection.execute(f"REPLACE INTO {table} VALUES ({marks})", (*columns, seal(columns)))


def read(
    connection: sqlite3.Connection, table: str, where: str = "", *parameters: object
) -> list[tuple[Any, ...]]:
    """The columns of the rows that `where` selects, each compared with its seal."""
    names = ", ".join((*COLUMNS[table], "seal"))
    rows = connection.execute(f"SELECT {names} FROM {table} {where}", parameters).fetchall()
    for *columns, found in rows:
        if seal(columns) != found:
            error = sqlite3.DatabaseError(f"row {columns[0]} of {table} differs from its seal")
            error.sqlite_errorname = "SQLITE_CORRUPT"  # what SQLite says of a damaged page
            raise error
    return [row[:-1] for row in rows]
