"""Create, open, upgrade and check the ledger's file; translate SQLite's failures into messages.

A write-ahead log that a killed driver left belongs to the ledger and is replayed. One that was left
by another file (the ledger was replaced by a copy, say) would spoil the ledger. SQLite cannot tell
them apart, so that a ledger with such a log is opened read-only, which changes no file, and is
written only after the full check.
"""

import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from partialnas.runs.ledger import checked_rows, schema
from partialnas.runs.ledger.backup import newest_valid_backup
from partialnas.runs.ledger.full_check import check_everything, check_schema
from partialnas.runs.system.environment import package_version
from partialnas.runs.system.files import blocking_file
from partialnas.runs.system.study_lock import driver_pid
from partialnas.space.errors import MachineError, UserError

LEDGER_FILE = "ledger.sqlite"
_LOCK_TIMEOUT_S = 30
_MAGIC = b"SQLite format 3\0"
_HEADER_SIZE = 100
_APPLICATION_ID = slice(68, 72)  # its place in the header of an SQLite file

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
    "SQLITE_NOTADB": _DAMAGED,
    "SQLITE_ERROR": _DAMAGED,  # the schema differs from that of `create_ledger_file`
}


def create_ledger_file(path: Path, meta: Mapping[str, str]) -> None:
    """Create an empty ledger with this metadata, atomically."""
    draft = path.with_suffix(".draft")
    check_no_log(path)
    with translate_errors(path):
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            # leaves no journal file behind if the process dies
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.executescript(f"BEGIN; {schema.SCHEMA}")
            for key, value in {**meta, **_file_meta()}.items():
                checked_rows.write_row(connection, "meta", (key, value))
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


def upgrade(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging and upgrade an older schema in one transaction."""
    connection.execute("PRAGMA journal_mode = WAL")
    before = schema.schema_version(connection)
    if before == schema.SCHEMA_VERSION:
        return
    with schema.transaction(connection, synced=True):
        for introduced, sql in schema.ADDED_TABLES.values():
            if before < introduced:
                connection.execute(sql)
        if before < schema.TOTALS_VERSION:
            connection.execute("DELETE FROM volumes")  # they have no manifests; archived again
            checked_rows.compute_totals(connection)
        recorded = dict(checked_rows.read_rows(connection, "meta"))
        kept = {key: value for key, value in recorded.items() if key == schema.LEDGER_ID}
        for row in (_file_meta() | kept).items():
            checked_rows.write_row(connection, "meta", row)
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")


def _file_meta() -> dict[str, str]:
    """Return the metadata of a new file: the release that it requires, and its identifier."""
    return {schema.REQUIRED_RELEASE: schema.SCHEMA_RELEASE, schema.LEDGER_ID: uuid.uuid4().hex}


def check_integrity(path: Path) -> None:
    """Check every page, reference and row of a ledger. Takes seconds for a long ledger.

    Changes no file, whatever write-ahead log lies beside the ledger.

    Raises:
        MachineError: the ledger is damaged.
    """
    mode = "mode=ro" if has_log(path) else _mode_without_log(path)
    with translate_errors(path), closing(_connect(path, mode)) as connection:
        check_everything(connection)


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads and never blocks the writer.

    The file is opened in mode `rw`, so that the last connection to close removes SQLite's auxiliary
    files. In a read-only folder these files cannot be created; the file is opened as immutable
    then, because no writer can exist there either. With the log of a driver that is no longer
    running it is opened in mode `ro`, so that the log is neither removed nor written to the file.
    """
    mode = _mode_without_log(path)
    if has_log(path):
        mode = "mode=ro" if driver_pid(path.parent) is None else "mode=rw"
    with translate_errors(path):
        connection = _connect(path, mode)
        try:
            connection.execute("PRAGMA query_only = ON")
            if mode == "mode=ro" and schema.schema_version(connection) < schema.TOTALS_VERSION:
                check_everything(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _mode_without_log(path: Path) -> str:
    return "mode=rw" if os.access(path.parent, os.W_OK) else "immutable=1"


def log_path(path: Path) -> Path:
    """Return the path of the write-ahead log of a ledger."""
    return path.with_name(f"{path.name}-wal")


def has_log(path: Path) -> bool:
    """Return whether a ledger has a write-ahead log that is not empty."""
    log = log_path(path)
    return log.is_file() and log.stat().st_size > 0


def check_no_log(path: Path) -> None:
    """Check that no write-ahead log lies where a ledger is to be created.

    Raises:
        MachineError: there is one; it would be replayed into the new file.
    """
    if has_log(path):
        raise MachineError(
            f"{path}: is missing, but its write-ahead log {log_path(path).name} is still there; "
            "put the ledger back, or move the log away"
        )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    _check_header(path)
    uri = f"{path.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_LOCK_TIMEOUT_S)
    try:
        connection.execute("PRAGMA cell_size_check = ON")
        _check_version(path, connection)
        check_schema(connection)
        if mode == "mode=ro":
            _check_log(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(path: Path) -> None:
    """Refuse what is not a ledger before SQLite opens it, which could change the file."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a ledger; {_ELSEWHERE}")
    if _is_ledger(path):
        return
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
    is_sqlite = header.startswith(_MAGIC)
    has_id = header[_APPLICATION_ID] == schema.APPLICATION_ID.to_bytes(4, "big")
    if is_sqlite and has_id:
        return
    if has_id or newest_valid_backup(path) or (is_sqlite and _has_ledger_tables(path)):
        raise checked_rows.damage("its header is damaged")
    kind = "a database of another program" if is_sqlite else "not an SQLite file"
    detail = f"it is {kind}" if header else "it is empty"
    raise UserError(f"{path}: is not a ledger of partialnas ({detail}); {_ELSEWHERE}")


def _is_ledger(path: Path) -> bool:
    """Return whether the header of a file is that of a ledger, as SQLite reads it.

    The file must not be opened otherwise if it is a ledger: when a process closes a file, it loses
    all of its locks on it, also those of a connection of SQLite. A driver without its locks is
    invisible, and the next reader to close the ledger removes the write-ahead log under it.
    """
    try:
        with closing(_open_immutable(path)) as file:
            (identifier,) = file.execute("PRAGMA application_id").fetchone()
            return bool(identifier == schema.APPLICATION_ID)
    except sqlite3.Error:
        return False


def _check_log(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse a write-ahead log that was written for another ledger."""
    identifier = _ledger_id(connection)
    without_log: str | None = None
    # without its log, a ledger may be incomplete
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(_open_immutable(path)) as file:
        without_log = _ledger_id(file)
    if None not in (identifier, without_log) and identifier != without_log:
        raise checked_rows.damage("its write-ahead log belongs to another ledger")


def _ledger_id(connection: sqlite3.Connection) -> str | None:
    return dict(checked_rows.read_table(connection, "meta")).get(schema.LEDGER_ID)


def _open_immutable(path: Path) -> sqlite3.Connection:
    """Return a connection that ignores the write-ahead log and creates no files."""
    uri = f"{path.absolute().as_uri()}?immutable=1"
    return sqlite3.connect(uri, uri=True, isolation_level=None)


def _has_ledger_tables(path: Path) -> bool:
    try:
        with closing(_open_immutable(path)) as connection:
            names = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    except (sqlite3.Error, UnicodeDecodeError):
        return False
    return {("meta",), ("proposals",), ("trials",), ("measurements",)} <= {*names}


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse a ledger of a newer schema; one with tables of an older schema is damaged instead."""
    version = schema.schema_version(connection)
    if version <= schema.SCHEMA_VERSION:
        return
    release = _required_release(connection)
    versions = range(1, schema.SCHEMA_VERSION + 1)
    is_old = any(schema.matches_schema(connection, v, exact=True) for v in versions)
    if is_old and release in ("", schema.SCHEMA_RELEASE, package_version("partialnas")):
        raise checked_rows.damage(f"its schema is recorded as {version}")
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
    except (sqlite3.Error, UnicodeDecodeError) as error:
        code = getattr(error, "sqlite_errorname", "SQLITE_ERROR")  # missing if text is not UTF-8
        if code == "SQLITE_CANTOPEN" and has_log(path) and not os.access(path.parent, os.W_OK):
            raise MachineError(
                f"{path}: its write-ahead log {log_path(path).name} cannot be read in a read-only "
                "folder; copy the folder to a place with write access"
            ) from error
        for prefix, remedy in _REMEDIES.items():
            if code.startswith(prefix):
                more = f"; {recovery_advice(path)}" if remedy is _DAMAGED else ""
                raise MachineError(f"{path}: {remedy} ({error}){more}") from error
        raise


def recovery_advice(path: Path) -> str:
    """Return how to recover a damaged or missing ledger: from its newest intact copy, if any."""
    copy = newest_valid_backup(path)
    log = ""
    if path.exists() and has_log(path) and driver_pid(path.parent) in (None, os.getpid()):
        log = f"{log_path(path).name} beside it may belong to another ledger; "
    if copy is None:
        return f"{log}restore it from a copy, or start in another folder with --out"
    return f"{log}`partialnas restore {path.parent}` restores the newest intact copy, {copy}"
