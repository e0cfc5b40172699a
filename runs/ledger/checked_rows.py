"""Rows of the ledger with checksums, and totals of its tables: reading and writing.

Every row ends with the CRC-32 of its columns. The table `totals` holds, for each table, the number
of its rows and the sum of their checksums, so that missing, repeated and outdated rows are
detected whatever happened to the pages that held them. Of curves and learned ratios it has one
entry per trial. Ledgers of schema 3 and older have no totals: of them, only damaged rows and gaps
in the numbers of rows are detected without a full check (see `full_check`).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from zlib import crc32

from partialnas.runs.ledger.rows import SEPARATOR, checksum
from partialnas.runs.ledger.schema import (
    ADDED_TABLES,
    LEDGER_COLUMNS,
    TOTALS_VERSION,
    schema_version,
)

_KEY_LENGTHS = {"curves": 2, "ratios": 2, "volumes": 3}
"""Number of leading columns that identify a row; 1 for tables not listed."""

_TRIAL_TABLES = ("curves", "ratios")
"""Tables with one entry in `totals` per trial; their first column is its key."""

_MASK = 0xFFFFFFFF


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let all reads of the block see the same state of the ledger."""
    is_outermost = not connection.in_transaction
    if is_outermost:
        connection.execute("BEGIN")
    try:
        yield
    finally:
        if is_outermost:
            with suppress(sqlite3.Error):  # a failed read may have ended the transaction
                connection.execute("ROLLBACK")


def damage(message: str) -> sqlite3.DatabaseError:
    """Return the error for damaged content; its code is `SQLITE_CORRUPT`, as for a damaged page."""
    error = sqlite3.DatabaseError(message)
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error


def write_row(connection: sqlite3.Connection, table: str, columns: Sequence[object]) -> None:
    """Write one row with its checksum; replace the row with the same key. Updates `totals`."""
    names = LEDGER_COLUMNS[table][: _KEY_LENGTHS.get(table, 1)]
    where = " AND ".join(f"{name} = ?" for name in names)
    query = f"SELECT seal FROM {table} WHERE {where}"
    replaced = connection.execute(query, columns[: len(names)]).fetchone()
    seal, marks = checksum(columns), ", ".join("?" * (len(columns) + 1))
    connection.execute(f"REPLACE INTO {table} VALUES ({marks})", (*columns, seal))
    part = columns[0] if table in _TRIAL_TABLES else ""
    change = (1, seal) if replaced is None else (0, seal - replaced[0])
    total = f"rows = rows + excluded.rows, checksum = checksum + excluded.checksum & {_MASK}"
    upsert = f"INSERT INTO totals VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET {total}"
    connection.execute(upsert, (table, part, *change))


def delete_rows(connection: sqlite3.Connection, table: str, **columns: object) -> None:
    """Delete the rows with these columns. Updates `totals`.

    Args:
        connection: connection that may write.
        table: name of the table.
        columns: values of columns by name; of `curves` and `ratios`, the key of one trial.
    """
    where, values = " AND ".join(f"{name} = ?" for name in columns), (*columns.values(),)
    query = f"SELECT count(*), ifnull(sum(seal), 0) FROM {table} WHERE {where}"
    removed = connection.execute(query, values).fetchone()
    connection.execute(f"DELETE FROM {table} WHERE {where}", values)
    part = columns["key"] if table in _TRIAL_TABLES else ""
    total, entry = f"rows = rows - ?, checksum = checksum - ? & {_MASK}", (table, part)
    change = f"UPDATE totals SET {total} WHERE source = ? AND part = ?"
    connection.execute(change, (*removed, *entry))
    connection.execute("DELETE FROM totals WHERE source = ? AND part = ? AND rows = 0", entry)


def read_rows(
    connection: sqlite3.Connection, table: str, where: str = "", *parameters: object
) -> list[tuple[Any, ...]]:
    """Return the columns of the rows that `where` selects, after verifying their checksums.

    Rows that are missing are not detected; see `read_table` and `read_trial_rows`. Returns no rows
    if the ledger's schema is older than the table.

    Raises:
        sqlite3.DatabaseError: a row differs from its checksum; see `damage`.
    """
    return read_summed_rows(connection, table, where, *parameters)[0]


def read_table(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield the columns of all rows of a table in the order of their keys.

    Use the rows only once the last one has been yielded: missing rows are detected then.

    Raises:
        sqlite3.DatabaseError: a row is damaged, missing or out of place; see `damage`.
    """
    keys = ", ".join(LEDGER_COLUMNS[table][: _KEY_LENGTHS.get(table, 1)])
    is_numbered = keys == "number"
    count = checksums = 0
    with snapshot(connection):
        for count, row in enumerate(_checked_rows(connection, table, f"ORDER BY {keys}"), start=1):
            if is_numbered and row[0] != count:
                raise damage(f"row {count} of {table} is missing")
            checksums += row[-1]
            yield row[:-1]
        check_total(connection, table, count, checksums)


def read_trial_rows(connection: sqlite3.Connection, table: str, key: str) -> list[tuple[Any, ...]]:
    """Return all rows of a trial in `curves` or `ratios`, in the order of epochs.

    Raises:
        sqlite3.DatabaseError: a row is damaged or missing; see `damage`.
    """
    with snapshot(connection):
        where = "WHERE key = ? ORDER BY epoch"
        rows, checksums = read_summed_rows(connection, table, where, key)
        check_total(connection, table, len(rows), checksums, key)
    if [row[1] for row in rows] != [*range(1, len(rows) + 1)]:
        raise damage(f"epochs of trial {key} are missing in {table}")
    return rows


def read_summed_rows(
    connection: sqlite3.Connection, table: str, where: str, *parameters: object
) -> tuple[list[tuple[Any, ...]], int]:
    """Return the rows of `read_rows`, and the sum of their checksums."""
    rows = [*_checked_rows(connection, table, where, *parameters)]
    return [row[:-1] for row in rows], sum(row[-1] for row in rows)


def _checked_rows(
    connection: sqlite3.Connection, table: str, where: str, *parameters: object
) -> Iterator[tuple[Any, ...]]:
    """Yield rows with their checksum as the last column, after verifying it."""
    if table in ADDED_TABLES and schema_version(connection) < ADDED_TABLES[table][0]:
        return
    names = LEDGER_COLUMNS[table]
    query = f"SELECT {', '.join(names)}, seal FROM {table} {where}"
    # same text as in `checksum`, but faster for many rows; %.0s skips the checksum itself
    template = SEPARATOR.join(["%s"] * len(names)) + "%.0s"
    for row in connection.execute(query, parameters):
        if crc32((template % row).encode()) != row[-1]:
            raise damage(f"row {row[0]} of {table} does not match its checksum")
        yield row


def check_numbers(table: str, rows: Sequence[Sequence[Any]], first: int) -> None:
    """Check that rows are numbered without gaps from `first`.

    Raises:
        sqlite3.DatabaseError: a number is missing; see `damage`.
    """
    for number, row in enumerate(rows, start=first):
        if row[0] != number:
            raise damage(f"row {number} of {table} is missing")


def check_total(
    connection: sqlite3.Connection, table: str, rows: int, checksums: int, key: str | None = None
) -> None:
    """Compare the rows of a table, or of one trial in it, with `totals`.

    Args:
        connection: connection to the ledger.
        table: name of the table.
        rows: number of rows that were read.
        checksums: sum of their checksums.
        key: key of the trial, or None for all rows of the table.

    Raises:
        sqlite3.DatabaseError: a row is missing, repeated or outdated; see `damage`.
    """
    if schema_version(connection) < TOTALS_VERSION:
        return
    expected = _total(connection, table, key)
    if (rows, checksums & _MASK) != expected:
        place = f"{table} of trial {key}" if key else table
        raise damage(f"{place}: rows are missing, repeated or outdated ({rows} of {expected[0]})")


def _total(connection: sqlite3.Connection, table: str, key: str | None = None) -> tuple[int, int]:
    """Return the recorded number of rows and sum of checksums; (0, 0) if nothing is recorded."""
    where, parameters = ("", (table,)) if key is None else (" AND part = ?", (table, key))
    query = f"SELECT rows, checksum FROM totals WHERE source = ?{where}"
    totals = connection.execute(query, parameters).fetchall()
    if not all(isinstance(number, int) for row in totals for number in row):
        raise damage("totals hold something other than numbers")
    return sum(rows for rows, _ in totals), sum(total for _, total in totals) & _MASK


def compute_totals(connection: sqlite3.Connection) -> None:
    """Write the totals of a ledger that has none."""
    for table in LEDGER_COLUMNS:
        part = "key" if table in _TRIAL_TABLES else "''"
        connection.execute(
            f"INSERT INTO totals SELECT '{table}', {part}, count(*), sum(seal) & {_MASK} "
            f"FROM {table} GROUP BY 2 HAVING count(*) > 0"
        )
