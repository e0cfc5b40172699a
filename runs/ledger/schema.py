"""SQL schema of the ledger, and rows with checksums: reading, writing, upgrading."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from zlib import crc32

from partialnas.runs.ledger.rows import FINAL_STATES, SEPARATOR, TRIAL_STATES, checksum

SCHEMA_VERSION = 3
"""Schema that this version of partialnas writes, and the newest that it reads."""

SCHEMA_RELEASE = "0.1.0"
"""First release of partialnas with this schema. Change both constants together."""

REQUIRED_RELEASE = "required_partialnas"
"""Metadata key of the first release that reads an upgraded ledger."""

APPLICATION_ID = 0x504E4153  # "PNAS" in the file's header

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
"""Columns of each table, without the checksum (`seal`) that ends every row."""

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
"""Tables added after schema 1: the schema that introduced each, and its SQL."""

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
"""Seconds of finished trials, summed by what decides their share of a device."""


@contextmanager
def transaction(connection: sqlite3.Connection, *, synced: bool) -> Iterator[None]:
    """Commit all statements of the block, or none of them.

    Args:
        connection: connection that may write.
        synced: whether to wait until the disk has confirmed this and all earlier commits. Without
            it no commit is lost when a process dies; a power failure may lose the commits since
            the last confirmed one.
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
    """Write one row with its checksum; replace the row with the same key."""
    marks = ", ".join("?" * (len(columns) + 1))
    connection.execute(f"REPLACE INTO {table} VALUES ({marks})", (*columns, checksum(columns)))


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the schema version of a ledger."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def read_rows(
    connection: sqlite3.Connection, table: str, where: str = "", *parameters: object
) -> list[tuple[Any, ...]]:
    """Return the columns of the rows that `where` selects, after verifying their checksums.

    Returns no rows if the ledger's schema is older than the table.

    Raises:
        sqlite3.DatabaseError: a row differs from its checksum; `sqlite_errorname` is
            `SQLITE_CORRUPT`, as for a damaged page.
    """
    if table in ADDED_TABLES and schema_version(connection) < ADDED_TABLES[table][0]:
        return []
    names = LEDGER_COLUMNS[table]
    query = f"SELECT {', '.join(names)}, seal FROM {table} {where}"
    rows: list[tuple[Any, ...]] = connection.execute(query, parameters).fetchall()
    # same text as in `checksum`, but faster for many rows; %.0s skips the checksum itself
    template = SEPARATOR.join(["%s"] * len(names)) + "%.0s"
    for row in rows:
        if crc32((template % row).encode()) != row[-1]:
            error = sqlite3.DatabaseError(f"row {row[0]} of {table} does not match its checksum")
            error.sqlite_errorname = "SQLITE_CORRUPT"
            raise error
    return [row[:-1] for row in rows]


def upgrade(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging and upgrade an older schema in one transaction."""
    connection.execute("PRAGMA journal_mode = WAL")
    before = schema_version(connection)
    if before == SCHEMA_VERSION:
        return
    with transaction(connection, synced=True):
        for introduced, sql in ADDED_TABLES.values():
            if before < introduced:
                connection.execute(sql)
        write_row(connection, "meta", (REQUIRED_RELEASE, SCHEMA_RELEASE))
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
