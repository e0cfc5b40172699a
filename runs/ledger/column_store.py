"""Volumes: what a thousand rows of the ledger say that never change again, column by column.

Read row by row, a ledger of a hundred thousand trials takes seconds. A volume has a text with a
seal of its own for each column, so that readers read those that they need, many values at a time.
The rows themselves stay where they are, and what is not bound yet is read from them.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from pydantic_core import from_json

from partialnas.runs.ledger.rows import FINAL_STATES, TrialRow, to_json, trial_rows
from partialnas.runs.ledger.schema import LEDGER_COLUMNS, read_rows, write_row
from partialnas.runs.records.measurement import (
    MEASUREMENT_DEFAULTS,
    Columns,
    MeasurementTable,
    parse_measurement,
)

VOLUME_SIZE = 1000
"""Rows of a volume."""

_FEW = VOLUME_SIZE // 10
"""Values that a column has at most, if they are told once and their places in it."""

_END = 2**63 - 1
_MEASUREMENT = LEDGER_COLUMNS["measurements"].index("measurement")
_SPREAD = ("metrics", "cost")


@dataclass(frozen=True)
class ArchivedTable:
    """A table that is bound.

    Attributes:
        table: its name.
        lasting: what SQL says of a row that never changes again.
        opened: what several rows say, column by column.
        missing: what a column says in volumes that are older than it; None unless told.
    """

    table: str
    lasting: str
    opened: Callable[[Sequence[tuple[Any, ...]]], Columns]
    missing: Mapping[str, Any] = field(default_factory=dict)


def _trials(rows: Sequence[tuple[Any, ...]]) -> Columns:
    values = map(list, zip(*trial_rows(rows), strict=True))
    columns: Columns = dict(zip(TrialRow._fields, values, strict=True))
    for kind in _SPREAD:
        told = columns.pop(kind)
        keys = dict.fromkeys(chain.from_iterable(told))
        columns |= {f"{kind}.{key}": [each.get(key) for each in told] for key in keys}
    return columns


def _measurements(rows: Sequence[tuple[Any, ...]]) -> Columns:
    told = [parse_measurement(row[_MEASUREMENT]) for row in rows]
    return MeasurementTable.from_records(told).columns


def _proposals(rows: Sequence[tuple[Any, ...]]) -> Columns:
    """All but the networks, which hardly anybody asks for."""
    columns = zip(LEDGER_COLUMNS["proposals"], map(list, zip(*rows, strict=True)), strict=True)
    return {name: values for name, values in columns if name not in ("subject", "created")}


PROPOSALS = ArchivedTable("proposals", "TRUE", _proposals)
TRIALS = ArchivedTable("trials", f"state IN {tuple(sorted(FINAL_STATES))}", _trials)
MEASUREMENTS = ArchivedTable("measurements", "TRUE", _measurements, MEASUREMENT_DEFAULTS)


def read_columns(
    connection: sqlite3.Connection, source: ArchivedTable, wanted: Sequence[str]
) -> Columns:
    """Columns of a table, in the order of its rows, each value compared with a seal.

    Args:
        connection: to the ledger.
        source: the table.
        wanted: names of columns; `metrics` stands for `metrics.val_nll` and all others of its kind.
    """
    parts: list[tuple[int, Columns]] = []
    following = 1
    for first, bound in _volumes(connection, source, wanted).items():
        parts += _loose(connection, source, following, first)
        parts.append((VOLUME_SIZE, bound))
        following = first + VOLUME_SIZE
    parts += _loose(connection, source, following, _END)
    plain = [name for name in wanted if name not in _SPREAD]
    names = dict.fromkeys(chain(plain, *(part for _, part in parts)))
    return {
        name: [*chain.from_iterable(_values(source, name, *part) for part in parts)]
        for name in names
        if _is_wanted(name, wanted)
    }


def columns_of_kind(columns: Columns, kind: str) -> Columns:
    """The columns of one kind, such as all metrics, by their own names."""
    prefix = f"{kind}."
    own = (name for name in columns if name.startswith(prefix))
    return {name.removeprefix(prefix): columns[name] for name in own}


def results_by_row(columns: Columns) -> list[dict[str, Any]]:
    """Metrics and cost row by row, each by its own name; what a row does not tell is left out."""
    told = [each for kind in _SPREAD for each in columns_of_kind(columns, kind).items()]
    names, values = [name for name, _ in told], [each for _, each in told]
    if any(None in each for each in values):
        rows = (zip(names, row, strict=True) for row in zip(*values, strict=True))
        return [{name: value for name, value in row if value is not None} for row in rows]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def archive_rows(connection: sqlite3.Connection) -> None:
    """Binds what has come to last since, inside a transaction."""
    for source in (PROPOSALS, TRIALS, MEASUREMENTS):
        known = f"SELECT first FROM volumes WHERE source = '{source.table}'"
        full = connection.execute(
            f"SELECT (number - 1) / {VOLUME_SIZE} * {VOLUME_SIZE} + 1 AS first FROM {source.table} "
            f"WHERE {source.lasting} AND first NOT IN ({known}) GROUP BY 1 HAVING count(*) = {VOLUME_SIZE}"
        )
        for (first,) in full.fetchall():
            ((_, told),) = _loose(connection, source, first, first + VOLUME_SIZE)
            for name, values in told.items():
                write_row(connection, "volumes", (source.table, first, name, _packed(values)))


def _values(source: ArchivedTable, name: str, count: int, part: Columns) -> list[Any]:
    return part[name] if name in part else [source.missing.get(name)] * count


def _is_wanted(name: str, wanted: Sequence[str]) -> bool:
    return name in wanted or name.partition(".")[0] in wanted


def _volumes(
    connection: sqlite3.Connection, source: ArchivedTable, wanted: Sequence[str]
) -> dict[int, Columns]:
    """Columns by the first row of their volume."""
    marks = ", ".join("?" * len(wanted))
    kind = "substr(name, 1, instr(name, '.') - 1)"
    where = f"WHERE source = ? AND (name IN ({marks}) OR {kind} IN ({marks})) ORDER BY first, rowid"
    found: dict[int, Columns] = {}
    for _, first, name, text in read_rows(
        connection, "volumes", where, source.table, *wanted, *wanted
    ):
        found.setdefault(first, {})[name] = _unpacked(text)
    return found


def _loose(
    connection: sqlite3.Connection, source: ArchivedTable, start: int, stop: int
) -> list[tuple[int, Columns]]:
    """What the rows say from one number up to another, which is left out, if there are any."""
    if start == stop:
        return []
    where = "WHERE number >= ? AND number < ? ORDER BY number"
    rows = read_rows(connection, source.table, where, start, stop)
    return [(len(rows), source.opened(rows))] if rows else []


def _packed(values: list[Any]) -> str:
    """A column as text: its values, or the few that there are and where each stands."""
    kinds = [*map(repr, values)]
    few = dict(zip(kinds, values, strict=True))
    if len(few) > _FEW:
        return to_json(values)
    place = {kind: place for place, kind in enumerate(few)}
    return to_json({"values": [*few.values()], "places": [*map(place.__getitem__, kinds)]})


def _unpacked(text: str) -> list[Any]:
    found = from_json(text)
    if isinstance(found, list):
        return found
    return [*map(found["values"].__getitem__, found["places"])]
