"""Archive of final rows by column, which makes long ledgers fast to read.

A volume holds `VOLUME_SIZE` rows that never change again. Each of its columns is one text with a
checksum, so that readers parse only the columns that they need. The rows stay in their own tables;
those that are not archived yet are read from there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from sqlite3 import Connection
from typing import Any

from pydantic_core import from_json

from partialnas.runs.ledger.rows import FINAL_STATES, TrialRow, to_json, trial_rows
from partialnas.runs.ledger.schema import LEDGER_COLUMNS, read_rows, write_row
from partialnas.runs.records.measurement import MEASUREMENT_DEFAULTS, Columns, MeasurementTable

VOLUME_SIZE = 1000
"""Rows per volume."""

_MAX_DISTINCT = VOLUME_SIZE // 10
"""Largest number of distinct values for which a column is stored as a dictionary."""

_END = 2**63 - 1
_MEASUREMENT = LEDGER_COLUMNS["measurements"].index("measurement")
_NESTED = ("metrics", "cost")


@dataclass(frozen=True)
class ArchivedTable:
    """A table of the ledger that is archived by column.

    Attributes:
        table: name of the table.
        final_rows: SQL condition of the rows that never change again.
        to_columns: function that converts rows to columns.
        defaults: values of columns that older volumes lack; None for columns not listed.
    """

    table: str
    final_rows: str
    to_columns: Callable[[Sequence[tuple[Any, ...]]], Columns]
    defaults: Mapping[str, Any] = field(default_factory=dict)


def _trials(rows: Sequence[tuple[Any, ...]]) -> Columns:
    values = map(list, zip(*trial_rows(rows), strict=True))
    columns: Columns = dict(zip(TrialRow._fields, values, strict=True))
    for kind in _NESTED:
        results = columns.pop(kind)
        keys = dict.fromkeys(chain.from_iterable(results))
        columns |= {f"{kind}.{key}": [result.get(key) for result in results] for key in keys}
    return columns


def _measurements(rows: Sequence[tuple[Any, ...]]) -> Columns:
    return MeasurementTable.from_json(row[_MEASUREMENT] for row in rows).columns


def _proposals(rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Return all columns but the networks, which are rarely read."""
    columns = zip(LEDGER_COLUMNS["proposals"], map(list, zip(*rows, strict=True)), strict=True)
    return {name: values for name, values in columns if name not in ("subject", "created")}


PROPOSALS = ArchivedTable("proposals", "TRUE", _proposals)
TRIALS = ArchivedTable("trials", f"state IN {tuple(sorted(FINAL_STATES))}", _trials)
MEASUREMENTS = ArchivedTable("measurements", "TRUE", _measurements, MEASUREMENT_DEFAULTS)


def read_columns(connection: Connection, source: ArchivedTable, names: Sequence[str]) -> Columns:
    """Return columns of a table in the order of its rows, after verifying their checksums.

    Args:
        connection: connection to the ledger.
        source: the table.
        names: column names; `metrics` stands for `metrics.val_nll` and all others of its kind.
    """
    parts: list[tuple[int, Columns]] = []
    following = 1
    for first, volume in _read_volumes(connection, source, names).items():
        parts += _read_rows(connection, source, following, first)
        parts.append((VOLUME_SIZE, volume))
        following = first + VOLUME_SIZE
    parts += _read_rows(connection, source, following, _END)
    plain = [name for name in names if name not in _NESTED]
    present = dict.fromkeys(chain(plain, *(part for _, part in parts)))
    return {
        name: [*chain.from_iterable(_values(source, name, *part) for part in parts)]
        for name in present
        if name in names or name.partition(".")[0] in names
    }


def columns_of_kind(columns: Columns, kind: str) -> Columns:
    """Return the columns of one kind, such as all metrics, without the prefix of their names."""
    prefix = f"{kind}."
    return {n.removeprefix(prefix): values for n, values in columns.items() if n.startswith(prefix)}


def results_by_row(columns: Columns) -> list[dict[str, Any]]:
    """Return metrics and cost by row, without those that a row does not have."""
    results = [item for kind in _NESTED for item in columns_of_kind(columns, kind).items()]
    names, values = [name for name, _ in results], [column for _, column in results]
    if any(None in column for column in values):
        rows = (zip(names, row, strict=True) for row in zip(*values, strict=True))
        return [{name: value for name, value in row if value is not None} for row in rows]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def archive_rows(connection: Connection) -> None:
    """Write volumes of all full blocks of final rows. Call it inside a transaction."""
    for source in (PROPOSALS, TRIALS, MEASUREMENTS):
        archived = f"SELECT first FROM volumes WHERE source = '{source.table}'"
        first_row = f"(number - 1) / {VOLUME_SIZE} * {VOLUME_SIZE} + 1"
        full = connection.execute(
            f"SELECT {first_row} AS first FROM {source.table} WHERE {source.final_rows} "
            f"AND first NOT IN ({archived}) GROUP BY 1 HAVING count(*) = {VOLUME_SIZE}"
        )
        for (first,) in full.fetchall():
            ((_, columns),) = _read_rows(connection, source, first, first + VOLUME_SIZE)
            for name, values in columns.items():
                write_row(connection, "volumes", (source.table, first, name, _packed(values)))


def _values(source: ArchivedTable, name: str, count: int, part: Columns) -> list[Any]:
    return part[name] if name in part else [source.defaults.get(name)] * count


def _read_volumes(
    connection: Connection, source: ArchivedTable, names: Sequence[str]
) -> dict[int, Columns]:
    """Return archived columns by the number of their volume's first row."""
    marks = ", ".join("?" * len(names))
    kind = "substr(name, 1, instr(name, '.') - 1)"
    where = f"WHERE source = ? AND (name IN ({marks}) OR {kind} IN ({marks})) ORDER BY first, rowid"
    volumes: dict[int, Columns] = {}
    rows = read_rows(connection, "volumes", where, source.table, *names, *names)
    for _, first, name, text in rows:
        volumes.setdefault(first, {})[name] = _unpacked(text)
    return volumes


def _read_rows(
    connection: Connection, source: ArchivedTable, start: int, stop: int
) -> list[tuple[int, Columns]]:
    """Return number and columns of the rows from `start` to `stop` - 1; empty without rows."""
    if start == stop:
        return []
    where = "WHERE number >= ? AND number < ? ORDER BY number"
    rows = read_rows(connection, source.table, where, start, stop)
    return [(len(rows), source.to_columns(rows))] if rows else []


def _packed(values: list[Any]) -> str:
    """Return a column as JSON: its values, or its distinct values and their positions."""
    texts = [*map(repr, values)]
    distinct = dict(zip(texts, values, strict=True))
    if len(distinct) > _MAX_DISTINCT:
        return to_json(values)
    positions = {text: position for position, text in enumerate(distinct)}
    places = [*map(positions.__getitem__, texts)]
    return to_json({"values": [*distinct.values()], "places": places})


def _unpacked(text: str) -> list[Any]:
    column = from_json(text)
    if isinstance(column, list):
        return column
    return [*map(column["values"].__getitem__, column["places"])]
