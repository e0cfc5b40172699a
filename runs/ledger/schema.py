"""SQL schema of the ledger and its versions; transactions."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from partialnas.runs.ledger.rows import TRIAL_STATES

SCHEMA_VERSION = 4
"""Schema that this version of partialnas writes, and the newest that it reads."""

SCHEMA_RELEASE = "0.2.0"
"""First release of partialnas with this schema. Change both constants together."""

REQUIRED_RELEASE = "required_partialnas"
"""Metadata key of the first release that reads the ledger."""

LEDGER_ID = "ledger_id"
"""Metadata key of a random identifier that a ledger shares with its copies alone."""

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
TOTALS_VERSION = 4
"""First schema with the table `totals`."""

TOTALS = """
CREATE TABLE totals (
    source TEXT NOT NULL, part TEXT NOT NULL, rows INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (source, part)) WITHOUT ROWID;
"""
ADDED_TABLES = {"ratios": (2, RATIOS), "volumes": (3, VOLUMES), "totals": (TOTALS_VERSION, TOTALS)}
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
{TOTALS}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


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


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the schema version of a ledger."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def matches_schema(connection: sqlite3.Connection, version: int, *, exact: bool = False) -> bool:
    """Return whether a ledger has the tables and indexes of a schema version.

    Args:
        connection: connection to the ledger.
        version: the schema version.
        exact: whether it may have no others.
    """
    query = "SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL"
    actual = {name: _words(sql) for name, sql in connection.execute(query)}
    absent = {name for name, (introduced, _) in ADDED_TABLES.items() if version < introduced}
    expected = {name: sql for name, sql in _schema_objects().items() if name not in absent}
    if exact:
        return actual == expected
    return expected.items() <= actual.items() and not absent & actual.keys()


@cache
def _schema_objects() -> dict[str, str]:
    """Return the SQL of all tables and indexes of the newest schema, by name."""
    statements = [_words(sql) for sql in SCHEMA.split(";")]
    return {sql.split()[2]: sql for sql in statements if sql.startswith("CREATE")}


def _words(sql: str) -> str:
    return " ".join(sql.split())
