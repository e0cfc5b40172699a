"""Create, open and check the ledger's file; translate SQLite's failures into messages."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from partialnas.runs.ledger import schema
from partialnas.runs.ledger.backup import newest_valid_backup
from partialnas.runs.system.environment import package_version
from partialnas.runs.system.files import blocking_file
from partialnas.space.errors import MachineError, UserError

LEDGER_FILE = "ledger.sqlite"
_LOCK_TIMEOUT_S = 30

_ELSEWHERE = "move or repair it, or choose another folder with --out"
_DAMAGED = "is damaged"
_REMEDIES = {
    "SQLITE_FULL": "the disk is full; free space and run the same command again",
    "SQLITE_IOERR": "the disk cannot be read or written; repair it and run the same command again",
    "SQLITE_READONLY": "is read-only; grant write access or choose another folder",
    "SQLITE_CANTOPEN": "cannot be opened; check the access rights of the file and its folder",
    "SQLITE_PERM": "cannot be opened; check the access rights of the file and its folder",
    "SQLITE_BUSY": "is locked by another program; stop that program",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_ERROR": _DAMAGED,  # the schema differs from that of `create_ledger_file`
}


def create_ledger_file(path: Path, meta: Mapping[str, str]) -> None:
    """Create an empty ledger with this metadata, atomically."""
    draft = path.with_suffix(".draft")
    with translate_errors(path):
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            # leaves no journal file behind if the process dies
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.executescript(f"BEGIN; {schema.SCHEMA}")
            for key, value in meta.items():
                schema.write_row(connection, "meta", (key, value))
            connection.execute("COMMIT")
        draft.replace(path)


def open_writer(path: Path) -> sqlite3.Connection:
    """Return a connection that may write; call `check_integrity` and `upgrade` before writing.

    Raises:
        UserError, MachineError: see `translate_errors`.
    """
    with translate_errors(path):
        connection = _connect(path, "mode=rw")
        connection.execute("PRAGMA foreign_keys = ON")
    return connection


def check_integrity(path: Path) -> None:
    """Check every page and every foreign key of a ledger. Takes long for a long ledger.

    Raises:
        MachineError: the ledger is damaged.
    """
    with translate_errors(path), closing(_connect(path, "mode=rw")) as connection:
        results = connection.execute("PRAGMA integrity_check").fetchall()
        faults = [fault for (fault,) in results if fault != "ok"]
        for table, *_ in connection.execute("PRAGMA foreign_key_check"):
            faults.append(f"orphaned row of {table}")
    if faults:
        raise MachineError(f"{path}: {_DAMAGED} ({faults[0]}); {recovery_advice(path)}")


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads and never blocks the writer.

    The file is opened in mode `rw`, so that the last connection to close removes SQLite's auxiliary
    files. In a read-only folder these files cannot be created; the file is opened as immutable
    then, because no writer can exist there either.
    """
    wal = path.with_name(f"{path.name}-wal")
    immutable = not os.access(path.parent, os.W_OK) and not wal.exists()
    with translate_errors(path):
        connection = _connect(path, "immutable=1" if immutable else "mode=rw")
        connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_LOCK_TIMEOUT_S)
    try:
        _check_header(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    version = schema.schema_version(connection)
    if application != schema.APPLICATION_ID:
        raise UserError(f"{path}: is not a ledger of partialnas; {_ELSEWHERE}")
    if version > schema.SCHEMA_VERSION:
        release = _required_release(connection)
        needed = f"install partialnas {release} or newer" if release else "update partialnas"
        installed = package_version("partialnas")
        raise UserError(
            f"{path}: written by a newer partialnas (schema {version}; the installed {installed} "
            f"reads up to schema {schema.SCHEMA_VERSION}); {needed} to open it"
        )


def _required_release(connection: sqlite3.Connection) -> str:
    """Return the release that reads a ledger of a newer schema; empty if not recorded."""
    query = (
        "SELECT value FROM meta WHERE key = ? UNION ALL "
        "SELECT json_extract(value, '$.partialnas') FROM meta WHERE key = 'environment'"
    )
    try:
        row = connection.execute(query, (schema.REQUIRED_RELEASE,)).fetchone()
    except sqlite3.Error:  # the newer schema has another metadata table
        return ""
    return str(row[0] or "") if row else ""


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Translate failures of SQLite and the disk into errors that say what to do.

    Raises:
        UserError: the file is not a database, or a file is where a folder should be.
        MachineError: the disk is full, or the file is damaged or not accessible.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        blocking = blocking_file(path) or error.filename or path
        raise UserError(f"{blocking}: is a file, not a folder; {_ELSEWHERE}") from error
    except OSError as error:
        raise MachineError(f"{error.filename or path}: {error.strerror}; {_ELSEWHERE}") from error
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "SQLITE_ERROR")  # missing if text is not UTF-8
        if code == "SQLITE_NOTADB":
            raise UserError(
                f"{path}: is not a ledger of partialnas ({error}); {recovery_advice(path)}"
            ) from error
        for prefix, remedy in _REMEDIES.items():
            if code.startswith(prefix):
                more = f"; {recovery_advice(path)}" if remedy is _DAMAGED else ""
                raise MachineError(f"{path}: {remedy} ({error}){more}") from error
        raise


def recovery_advice(path: Path) -> str:
    """Return how to recover a damaged or missing ledger: from its newest intact copy, if any."""
    copy = newest_valid_backup(path)
    if copy is None:
        return "restore it from a copy, or start in another folder with --out"
    return f"to restore the newest intact copy: cp {copy} {path}"
