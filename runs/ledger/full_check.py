"""Full check of a ledger: its pages, its schema, its references, and every row and checksum."""

import sqlite3
from collections import deque

from partialnas.runs.ledger import checked_rows, column_store, schema


def check_everything(connection: sqlite3.Connection) -> None:
    """Check every page, index, reference and row of a ledger. Takes seconds for a long ledger.

    Raises:
        sqlite3.Error: the ledger is damaged.
    """
    check_schema(connection)
    connection.execute("PRAGMA cell_size_check = ON")
    ((result, *_), *_) = connection.execute("PRAGMA integrity_check").fetchall()
    if result != "ok":
        raise checked_rows.damage(result)
    for table, *_ in connection.execute("PRAGMA foreign_key_check"):
        raise checked_rows.damage(f"orphaned row of {table}")
    with checked_rows.snapshot(connection):
        for table in schema.LEDGER_COLUMNS:
            deque(checked_rows.read_table(connection, table), maxlen=0)
        for source in column_store.ARCHIVED_TABLES:
            column_store.read_columns(connection, source, ())


def check_schema(connection: sqlite3.Connection) -> None:
    """Check that the tables and indexes are those of the recorded schema version.

    Raises:
        sqlite3.Error: the schema or its recorded version is damaged.
    """
    version = schema.schema_version(connection)
    if not schema.matches_schema(connection, version):
        raise checked_rows.damage(f"its tables are not those of schema {version}")
