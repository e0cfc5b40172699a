"""The ledger's tables in SQL: columns, schema, and how sealed rows are read and written."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from zlib import crc32

from partialnas.runs.ledger.rows import FINAL_STATES, SEPARATOR, TRIAL_STATES, checksum

SCHEMA_VERSION = 3

APPLICATION_ID = 0x504E4153  # "PNAS" in the file's header: whose database it is

LEDGER_COLUMNS = {
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
    "volumes": ("source", "first", "name", "data"),
}
"""Columns of each table, without the seal that ends every row."""

RATIOS = """
CREATE TABLE ratios (
    key TEXT NOT NULL REFERENCES trials (key), epoch INTEGER NOT NULL, row TEXT NOT NULL,
    seal INTEGER NOT NULL, PRIMARY KEY (key, epoch)) WITHOUT ROWID;
"""
VOLUMES = """
CREATE TABLE volumes (
    source TEXT NOT NULL, first INTEGER NOT NULL, name TEXT NOT NULL, data TEXT NOT NULL,
    seal INTEGER NOT NULL, PRIMARY KEY (source, first, name));
"""
ADDED_TABLES = {"ratios": (2, RATIOS), "volumes": (3, VOLUMES)}
"""Tables that were not there from the first: the schema that brought each, and how it is made."""

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, seal INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE proposals (
    number INTEGER PRIMARY KEY, arm TEXT, digest TEXT NOT NULL, subject TEXT NOT NULL,
    proposal TEXT NOT NULL, created TEXT NOT NULL, seal INTEGER NOT NULL);
CREATE TABLE trials (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    proposal INTEGER NOT NULL REFERENCES proposals, digest TEXT NOT NULL, name TEXT NOT NULL,
    seed INTEGER NOT NULL, fidelity INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN {TRIAL_STATES}), reason TEXT, attempts INTEGER NOT NULL,
    metrics TEXT NOT NULL, cost TEXT NOT NULL, seconds REAL NOT NULL, device TEXT NOT NULL,
    environment TEXT NOT NULL, created TEXT NOT NULL, finished TEXT, seal INTEGER NOT NULL);
CREATE INDEX trials_by_state ON trials (state);
CREATE TABLE curves (
    key TEXT NOT NULL REFERENCES trials (key), epoch INTEGER NOT NULL, row TEXT NOT NULL,
    seal INTEGER NOT NULL, PRIMARY KEY (key, epoch)) WITHOUT ROWID;
{RATIOS}
CREATE TABLE measurements (
    number INTEGER PRIMARY KEY, digest TEXT NOT NULL, device TEXT NOT NULL,
    threads INTEGER NOT NULL, batch_size INTEGER NOT NULL, resolution INTEGER NOT NULL,
    precision TEXT NOT NULL, form TEXT NOT NULL, runtime TEXT NOT NULL,
    measurement TEXT NOT NULL, taken TEXT NOT NULL, seal INTEGER NOT NULL);
{VOLUMES}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

USAGE_QUERY = f"""
SELECT state, device LIKE 'cuda%', json_extract(environment, '$.cores'), sum(seconds)
FROM trials WHERE state IN {tuple(sorted(FINAL_STATES))} GROUP BY 1, 2, 3;
"""
"""Sums the seconds of what is finished, by what decides how large a share of a device it had."""


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


def write_row(connection: sqlite3.Connection, table: str, columns: Sequence[object]) -> None:
    """Writes one sealed row, in place of the one with the same key if there is one."""
    marks = ", ".join("?" * (len(columns) + 1))
    connection.execute(f"REPLACE INTO {table} VALUES ({marks})", (*columns, checksum(columns)))


def schema_version(connection: sqlite3.Connection) -> int:
    """The schema of a ledger."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def read_rows(
    connection: sqlite3.Connection, table: str, where: str = "", *parameters: object
) -> list[tuple[Any, ...]]:
    """The columns of the rows that `where` selects, each row compared with its seal.

    There are none where the ledger is older than the table.
    """
    if table in ADDED_TABLES and schema_version(connection) < ADDED_TABLES[table][0]:
        return []
    names = LEDGER_COLUMNS[table]
    query = f"SELECT {', '.join(names)}, seal FROM {table} {where}"
    rows: list[tuple[Any, ...]] = connection.execute(query, parameters).fetchall()
    # what `seal` puts together, for a hundred thousand rows in less time; the seal is left out
    sealed = SEPARATOR.join(["%s"] * len(names)) + "%.0s"
    for row in rows:
        if crc32((sealed % row).encode()) != row[-1]:
            error = sqlite3.DatabaseError(f"row {row[0]} of {table} differs from its seal")
            error.sqlite_errorname = "SQLITE_CORRUPT"  # what SQLite says of a damaged page
            raise error
    return [row[:-1] for row in rows]


def upgrade(connection: sqlite3.Connection) -> None:
    """Has it written ahead, and brought up to this schema as a whole or not at all."""
    connection.execute("PRAGMA journal_mode = WAL")
    before = schema_version(connection)
    if before == SCHEMA_VERSION:
        return
    with transaction(connection, synced=True):
        for since, made in ADDED_TABLES.values():
            if before < since:
                connection.execute(made)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
