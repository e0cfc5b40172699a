"""Archive of final rows by column, which makes long ledgers fast to read.

A volume holds `VOLUME_SIZE` rows that never change again. Each of its columns is one text with a
checksum, so that readers parse only the columns that they need. Its manifest names the columns and
states the sum of the rows' checksums, which readers add up and compare with the total of the table
(see `checked_rows`). The rows stay in their own tables; those that are not archived yet are read
from there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from sqlite3 import Connection
from typing import Any, NamedTuple

from pydantic_core import from_json

from partialnas.runs.ledger import checked_rows, schema
from partialnas.runs.ledger.checked_rows import read_rows, write_row
from partialnas.runs.ledger.rows import FINAL_STATES, TrialRow, to_json, trial_rows
from partialnas.runs.ledger.schema import LEDGER_COLUMNS
from partialnas.runs.records.measurement import MEASUREMENT_DEFAULTS, Columns, MeasurementTable

VOLUME_SIZE = 1000
"""Rows per volume."""

_MAX_DISTINCT = VOLUME_SIZE // 10
"""Largest number of distinct values for which a column is stored as a dictionary."""

_END = 2**63 - 1
_MANIFEST = ""
"""Name of the manifest among the columns of a volume."""

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
ARCHIVED_TABLES = (PROPOSALS, TRIALS, MEASUREMENTS)


class _Part(NamedTuple):
    """Consecutive rows of a table.

    Attributes:
        rows: number of rows.
        columns: their columns, or some of them.
        checksum: sum of the checksums of the rows.
    """

    rows: int
    columns: Columns
    checksum: int


def read_columns(connection: Connection, source: ArchivedTable, names: Sequence[str]) -> Columns:
    """Return columns of a table in the order of its rows, after verifying their checksums.

    Args:
        connection: connection to the ledger.
        source: the table.
        names: column names; `metrics` stands for `metrics.val_nll` and all others of its kind.

    Raises:
        sqlite3.DatabaseError: a row or a column is damaged or missing; see `checked_rows.damage`.
    """
    parts: list[_Part] = []
    following = 1
    with checked_rows.snapshot(connection):
        for first, volume in _read_volumes(connection, source, names).items():
            parts += _read_rows(connection, source, following, first)
            parts.append(volume)
            following = first + VOLUME_SIZE
        parts += _read_rows(connection, source, following, _END)
        count, checksums = sum(p.rows for p in parts), sum(p.checksum for p in parts)
        checked_rows.check_total(connection, source.table, count, checksums)
    plain = [name for name in names if name not in _NESTED]
    present = dict.fromkeys(chain(plain, *(part.columns for part in parts)))
    return {
        name: [*chain.from_iterable(_values(source, name, part) for part in parts)]
        for name in present
        if _is_requested(name, names)
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


def discard_volume(connection: Connection, source: ArchivedTable, number: int) -> None:
    """Remove the volume that holds the row of a number, if any; call it before the row changes."""
    first = (number - 1) // VOLUME_SIZE * VOLUME_SIZE + 1
    checked_rows.delete_rows(connection, "volumes", source=source.table, first=first)


def archive_rows(connection: Connection) -> None:
    """Write volumes of all full blocks of final rows. Call it inside a transaction."""
    for source in ARCHIVED_TABLES:
        archived = f"SELECT first FROM volumes WHERE source = '{source.table}'"
        first_row = f"(number - 1) / {VOLUME_SIZE} * {VOLUME_SIZE} + 1"
        full = connection.execute(
            f"SELECT {first_row} AS first FROM {source.table} WHERE {source.final_rows} "
            f"AND first NOT IN ({archived}) GROUP BY 1 HAVING count(*) = {VOLUME_SIZE}"
        )
        for (first,) in full.fetchall():
            (part,) = _read_rows(connection, source, first, first + VOLUME_SIZE)
            manifest = {"columns": [*part.columns], "checksum": part.checksum}
            texts = {_MANIFEST: to_json(manifest)}
            texts |= {name: _packed(values) for name, values in part.columns.items()}
            for name, text in texts.items():
                write_row(connection, "volumes", (source.table, first, name, text))


def _is_requested(name: str, names: Sequence[str]) -> bool:
    return name in names or name.partition(".")[0] in names


def _values(source: ArchivedTable, name: str, part: _Part) -> list[Any]:
    columns = part.columns
    return columns[name] if name in columns else [source.defaults.get(name)] * part.rows


def _read_volumes(
    connection: Connection, source: ArchivedTable, names: Sequence[str]
) -> dict[int, _Part]:
    """Return archived columns by the number of their volume's first row."""
    marks = ", ".join("?" * len(names))
    kind = "substr(name, 1, instr(name, '.') - 1)"
    where = (
        f"WHERE source = ? AND (name = ? OR name IN ({marks}) OR "
        f"instr(name, '.') AND {kind} IN ({marks})) ORDER BY first, rowid"
    )
    texts: dict[int, dict[str, str]] = {}
    rows = read_rows(connection, "volumes", where, source.table, _MANIFEST, *names, *names)
    for _, first, name, text in rows:
        texts.setdefault(first, {})[name] = text
    has_manifests = schema.schema_version(connection) >= schema.TOTALS_VERSION
    return {
        first: _parse_volume(source, first, columns, names, has_manifests=has_manifests)
        for first, columns in texts.items()
    }


def _parse_volume(
    source: ArchivedTable,
    first: int,
    texts: dict[str, str],
    names: Sequence[str],
    *,
    has_manifests: bool,
) -> _Part:
    manifest = from_json(texts.pop(_MANIFEST, "{}"))
    expected = {name for name in manifest.get("columns", ()) if _is_requested(name, names)}
    if has_manifests and (expected != {*texts} or "checksum" not in manifest):
        raise checked_rows.damage(f"columns of the volume {first} of {source.table} are missing")
    columns = {name: _unpacked(text) for name, text in texts.items()}
    return _Part(VOLUME_SIZE, columns, manifest.get("checksum", 0))


def _read_rows(connection: Connection, source: ArchivedTable, start: int, stop: int) -> list[_Part]:
    """Return the rows from `start` to `stop` - 1 as one part; empty without rows."""
    if start == stop:
        return []
    where = "WHERE number >= ? AND number < ? ORDER BY number"
    rows, checksum = checked_rows.read_summed_rows(connection, source.table, where, start, stop)
    checked_rows.check_numbers(source.table, rows, start)
    if stop != _END and len(rows) != stop - start:
        raise checked_rows.damage(f"row {start + len(rows)} of {source.table} is missing")
    return [_Part(len(rows), source.to_columns(rows), checksum)] if rows else []


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
