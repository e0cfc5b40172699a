"""Verifying an exported file: its numbers recomputed from the ledger by its own query."""

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from partialnas.analysis.formats.artefact import Artefact
from partialnas.analysis.frames.provenance import (
    Stamp,
    StudyId,
    has_valid_checksum,
    read_stamp,
    study_id,
    table_excerpt,
)
from partialnas.analysis.registry import build_artefact
from partialnas.space.errors import UserError

_PATHS = ("folder",)
"""Columns that tell where a study lies, which is no fact of it."""

_ABSENT = "nothing"

Rows = list[list[str]]


@dataclass(frozen=True)
class Difference:
    """One place where a file and its ledger disagree."""

    row: str
    column: str
    file: str
    ledger: str

    def __str__(self) -> str:
        place = f"row {self.row}, column {self.column}" if self.column else self.row
        return f"{place}: {self.file} in the file, {self.ledger} in the ledger"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of verifying a file.

    Attributes:
        stamp: of the file.
        differences: between file and ledger; none where every number is equal.
        numbers: how many were compared.
        note: what else is to be known, in one sentence; empty where there is nothing.
    """

    stamp: Stamp
    differences: tuple[Difference, ...]
    numbers: int
    note: str = ""


def verify(path: Path | str, folders: Sequence[Path | str]) -> Verdict:
    """Recomputes an exported table or figure and compares every number.

    Args:
        path: the file.
        folders: of the studies that it was made of, in any order.

    Raises:
        UserError: the file cannot be read, carries no stamp, or is of another study.
        MachineError: a ledger is damaged or cannot be read.
    """
    path = Path(path)
    stamp, content = read_stamp(path)
    artefact = build_artefact(_in_order(path, stamp, [*map(Path, folders)]), stamp.query)
    if stamp.shown is not None:
        return _figure(stamp, artefact, content)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not the text that was exported; export it again") from None
    return _text(stamp, text, artefact.content(stamp.format).decode())


def _in_order(path: Path, stamp: Stamp, folders: Sequence[Path]) -> list[Path]:
    """The folders in the order of the stamp's studies; refused where they are not the same."""
    given = [study_id(folder).digest for folder in folders]
    wanted = [study.digest for study in stamp.studies]
    if sorted(given) != sorted(wanted):
        raise UserError(
            f"{path}: was made of {_named(stamp.studies)}, but "
            f"{_named([study_id(folder) for folder in folders])} was given; name its own ledger "
            "with --against"
        )
    # repeats of one study have one digest: they stand in the order in which they are named
    known = {
        digest: [f for f, own in zip(folders, given, strict=True) if own == digest]
        for digest in given
    }
    return [known[digest].pop(0) for digest in wanted]


def _named(studies: Sequence[StudyId]) -> str:
    return " and ".join(f"study {name} ({digest})" for name, digest in studies)


def _figure(stamp: Stamp, artefact: Artefact, content: bytes) -> Verdict:
    """The numbers that a figure carries, then its drawing."""
    assert stamp.shown is not None
    assert artefact.drawing is not None
    now = table_excerpt(artefact.drawing.plot_data)
    found = [*_shown(stamp.shown, now)]
    if not has_valid_checksum(content):
        found.append(Difference("the drawing", "", "changed after it was written", "the original"))
    note = ""
    if not found and content != artefact.content(stamp.format):
        note = (
            "The drawing has other bytes than one made here: other fonts, or other versions of the "
            "libraries that draw it."
        )
    count = sum(isinstance(v, int | float) for row in now["rows"] for v in row)
    return Verdict(stamp=stamp, differences=tuple(found), numbers=count, note=note)


def _shown(file: Mapping[str, Any], ledger: Mapping[str, Any]) -> list[Difference]:
    texts = [
        [
            [str(name) for name in part["columns"]],
            *([_word(v) for v in row] for row in part["rows"]),
        ]
        for part in (file, ledger)
    ]
    found = _cells(*texts)
    if not found and (file["digest"], file["count"]) != (ledger["digest"], ledger["count"]):
        counts = (f"{part['count']} rows ({part['digest']})" for part in (file, ledger))
        found = [Difference("the whole table", "", *counts)]
    return found


def _word(value: Any) -> str:
    return "" if value is None else str(value)


def _text(stamp: Stamp, file: str, ledger: str) -> Verdict:
    """Every cell of a table, then the words around it."""
    texts = (file.replace("\r\n", "\n"), ledger)
    tables = [_READERS[stamp.format](text) for text in texts]
    found = _cells(*(rows for rows, _ in tables))
    words = [re.findall(r"\S+", rest) for _, rest in tables]
    if words[0] != words[1]:
        found.append(_first_word(*words))
    count = sum(bool(re.search(r"\d", cell)) for row in tables[1][0] for cell in row)
    layout = texts[0] != texts[1] and not found
    note = "Spaces or line breaks differ from what is exported; no number does." if layout else ""
    return Verdict(stamp=stamp, differences=tuple(found), numbers=count, note=note)


def _first_word(file: Sequence[str], ledger: Sequence[str]) -> Difference:
    """The first place where the words around a table differ, with some of what follows."""
    pairs = zip_longest(file, ledger)
    at = next(i for i, (one, other) in enumerate(pairs) if one != other)
    before = " ".join(ledger[max(0, at - 3) : at])
    parts = (f"“{' '.join(words[at : at + 4])}”" for words in (file, ledger))
    return Difference(f"the text after “{before}”", "", *parts)


def _cells(file: Rows, ledger: Rows) -> list[Difference]:
    """The cells that differ, rows known by what stands first, or by their place."""
    heads = ledger[0] if ledger else []
    firsts = [row[0] if row else "" for row in ledger]
    found = []
    for index, (one, other) in enumerate(_side_by_side(file, ledger)):
        first = (other or one or [""])[0]
        name = first if first and firsts.count(first) < 2 else f"{index} ({first})"
        if one is None or other is None:
            row = " | ".join((one or other or [])[:6])
            pair = (row, _ABSENT) if other is None else (_ABSENT, row)
            found.append(Difference(f"row {name}", "", *pair))
            continue
        for column, (a, b) in enumerate(zip_longest(one, other, fillvalue=_ABSENT)):
            head = heads[column] if column < len(heads) else f"{column + 1}"
            if not _equal(a, b) and head not in _PATHS:
                found.append(Difference(name, head or "1", a or _ABSENT, b or _ABSENT))
    return found


def _side_by_side(file: Rows, ledger: Rows) -> "list[tuple[list[str] | None, list[str] | None]]":
    """Rows paired by place where there are as many, else by what stands first."""
    if len(file) == len(ledger):
        return [*zip(file, ledger, strict=True)]
    mine: dict[str, Rows] = {}
    for row in file:
        mine.setdefault(row[0] if row else "", []).append(row)
    pairs: list[tuple[list[str] | None, list[str] | None]] = []
    for row in ledger:
        own = mine.get(row[0] if row else "", [])
        pairs.append((own.pop(0) if own else None, row))
    pairs.extend((row, None) for rows in mine.values() for row in rows)
    return pairs


def _equal(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _csv_rows(text: str) -> tuple[Rows, str]:
    first, _, table = text.partition("\n")
    return [*csv.reader(io.StringIO(table, newline=""))], first


def _markdown_rows(text: str) -> tuple[Rows, str]:
    return _by_line(text, r"\|(.*)\|\s*", "|")


def _latex_rows(text: str) -> tuple[Rows, str]:
    rows, rest = _by_line(text, r"(.*)\\\\\s*", "&")
    head = re.compile(r"\\begin\{tabular\}\S*\}|\\end\{tabular\}|\\\\ ")
    return [[head.sub("", cell) for cell in row] for row in rows], rest


def _by_line(text: str, line: str, separator: str) -> tuple[Rows, str]:
    """The rows of a table whose rows are lines, and everything else."""
    rows, rest = [], []
    for each in text.split("\n"):
        found = re.fullmatch(line, each)
        if found:
            rows.append([cell.strip() for cell in _parts(found[1], separator)])
        else:
            rest.append(each)
    return rows, "\n".join(rest)


def _parts(text: str, separator: str) -> list[str]:
    """The parts of a text between separators that no backslash stands before."""
    marked = re.sub(rf"(\\.)|{re.escape(separator)}", lambda found: found[1] or "\0", text)
    return marked.split("\0")


def _html_rows(text: str) -> tuple[Rows, str]:
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    rest = re.sub(r"<tr>.*?</tr>", "", text, flags=re.DOTALL)
    return [[html.unescape(cell.strip()) for cell in row] for row in cells], rest


_READERS = {
    ".csv": _csv_rows,
    ".md": _markdown_rows,
    ".tex": _latex_rows,
    ".html": _html_rows,
}
