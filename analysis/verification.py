"""Verification of exported files: their numbers recomputed from the ledger by their own query."""

import csv
import html
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from partialnas.analysis.formats.artefact import Artefact
from partialnas.analysis.frames.folders import Paths, study_folders
from partialnas.analysis.frames.provenance import (
    STAMP_FORM,
    Stamp,
    StudyId,
    has_valid_checksum,
    read_stamp,
    study_id,
    table_excerpt,
)
from partialnas.analysis.registry import build_artefact
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import UserError

_PATHS = ("folder",)
"""Columns with the place of a study, which is not one of its results."""

_ABSENT = "nothing"
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?|\bTrue\b|\bFalse\b")

_LAYOUT_NOTE = "Spaces or line breaks differ from those of the export; all numbers are equal."
_DRAWING_NOTE = (
    "The bytes of the drawing differ from those of a figure drawn here: it was drawn with other "
    "fonts, or other versions of the plotting libraries."
)
_OLD_FORM_NOTE = (
    "An older version of partialnas wrote this file: its numbers were compared, its words were not."
)

_RULE = re.compile(r":?-+:?")
"""Cell of the line below the heads of a table in Markdown."""

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
    """Result of verifying a file.

    Attributes:
        stamp: stamp of the file.
        differences: differences between file and ledger; empty if every number is equal.
        numbers: number of values compared.
        note: further remark in one sentence, or empty.
    """

    stamp: Stamp
    differences: tuple[Difference, ...]
    numbers: int
    note: str = ""


def verify(path: Path | str, folders: Paths) -> Verdict:
    """Recompute an exported table or figure and compare every number.

    The words around the numbers are compared too, except those of files that an older version
    wrote (lower forms of the stamp): of their tables the numbers alone are compared, by position.

    Args:
        path: exported file.
        folders: folders of the studies that the file was made from, in any order.

    Raises:
        UserError: the file cannot be read, carries no stamp, or was made from another study.
        MachineError: a ledger is damaged or cannot be read.
    """
    path = Path(path)
    stamp, content = read_stamp(path)
    artefact = build_artefact(_order_folders(path, stamp, study_folders(folders)), stamp.query)
    if stamp.shown is not None:
        return _verify_figure(stamp, artefact, content)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no longer the exported text file; export it again") from None
    return _verify_text(stamp, text, artefact.content(stamp.format).decode())


def _order_folders(path: Path, stamp: Stamp, folders: Sequence[Path]) -> list[Path]:
    """Return the folders in the order of the stamp's studies; refuse other and damaged ones."""
    studies = [study_id(folder) for folder in folders]
    given = [study.digest for study in studies]
    wanted = [study.digest for study in stamp.studies]
    if sorted(given) != sorted(wanted):
        raise UserError(
            f"{path}: was made from {_describe_studies(stamp.studies)}, but "
            f"{_describe_studies(studies)} was given; give the ledger that it was made from"
        )
    for folder in folders:
        with Ledger.open(folder) as ledger:
            ledger.check_integrity()
    # repeats of one study share a digest and keep their given order
    by_digest: dict[str, list[Path]] = {}
    for digest, folder in zip(given, folders, strict=True):
        by_digest.setdefault(digest, []).append(folder)
    return [by_digest[digest].pop(0) for digest in wanted]


def _describe_studies(studies: Sequence[StudyId]) -> str:
    return " and ".join(f"study {study.name} ({study.digest})" for study in studies)


def _verify_figure(stamp: Stamp, artefact: Artefact, content: bytes) -> Verdict:
    """Compare the numbers that a figure carries, then its drawing."""
    assert stamp.shown is not None
    assert artefact.drawing is not None
    ledger = table_excerpt(artefact.drawing.plot_data)
    differences = _compare_excerpts(stamp, stamp.shown, ledger)
    if not has_valid_checksum(content):
        differences.append(
            Difference("the drawing", "", "changed after it was written", "the original")
        )
    note = ""
    if not differences and content != artefact.content(stamp.format):
        note = _DRAWING_NOTE if stamp.form == STAMP_FORM else _OLD_FORM_NOTE
    count = sum(isinstance(v, int | float) for row in ledger["rows"] for v in row)
    return Verdict(stamp=stamp, differences=tuple(differences), numbers=count, note=note)


def _compare_excerpts(
    stamp: Stamp, file: Mapping[str, Any], ledger: Mapping[str, Any]
) -> list[Difference]:
    tables = [
        [[*map(str, part["columns"])], *([_text(v) for v in row] for row in part["rows"])]
        for part in (file, ledger)
    ]
    differences = _compare_tables(stamp, *tables)
    same_words = stamp.form == STAMP_FORM or tables[0] == tables[1]
    same_digest = file["digest"] == ledger["digest"] or not same_words
    if not differences and not (same_digest and file["count"] == ledger["count"]):
        counts = (f"{part['count']} rows ({part['digest']})" for part in (file, ledger))
        return [Difference("the whole table", "", *counts)]
    return differences


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _verify_text(stamp: Stamp, file: str, ledger: str) -> Verdict:
    """Compare every cell of a table, then the words around it."""
    texts = (file.replace("\r\n", "\n"), ledger)
    tables = [_READERS[stamp.format](text) for text in texts]
    differences = _compare_tables(stamp, *(rows for rows, _ in tables))
    note = _OLD_FORM_NOTE
    if stamp.form == STAMP_FORM:
        words = [re.findall(r"\S+", rest) for _, rest in tables]
        if words[0] != words[1]:
            differences.append(_first_text_difference(*words))
        note = _LAYOUT_NOTE if texts[0] != texts[1] and not differences else ""
    count = sum(bool(re.search(r"\d", cell)) for row in tables[1][0] for cell in row)
    return Verdict(stamp=stamp, differences=tuple(differences), numbers=count, note=note)


def _first_text_difference(file: Sequence[str], ledger: Sequence[str]) -> Difference:
    """Return the first place where the words around a table differ, with the words after it."""
    pairs = zip_longest(file, ledger)
    at = next(i for i, (one, other) in enumerate(pairs) if one != other)
    before = " ".join(ledger[max(0, at - 3) : at])
    parts = (f"“{' '.join(words[at : at + 4])}”" for words in (file, ledger))
    return Difference(f"the text after “{before}”", "", *parts)


def _compare_tables(stamp: Stamp, file: Rows, ledger: Rows) -> list[Difference]:
    """Return the cells that differ; rows are named by their first cell, or by their number."""
    places = _places(ledger)
    equal = _equal if stamp.form == STAMP_FORM else _equal_numbers
    differences = []
    for index, (one, other) in enumerate(_pair_rows(file, ledger)):
        if stamp.form != STAMP_FORM and index == 0:
            continue  # heads are words
        name, heads = places[index] if index < len(places) else ((one or [""])[0], [])
        if one is None or other is None:
            row = " | ".join((one or other or [])[:6])
            pair = (row, _ABSENT) if other is None else (_ABSENT, row)
            differences.append(Difference(f"row {name}", "", *pair))
            continue
        for column, (a, b) in enumerate(zip_longest(one, other, fillvalue=_ABSENT)):
            head = heads[column] if column < len(heads) else f"{column + 1}"
            if not equal(a, b) and head not in _PATHS:
                differences.append(Difference(name, head or "1", a or _ABSENT, b or _ABSENT))
    return differences


def _places(rows: Rows) -> list[tuple[str, list[str]]]:
    """Return the name of each row and the heads of its table; Markdown has a rule below heads."""
    counts = Counter(row[0] if row else "" for row in rows)
    rules = [index for index, row in enumerate(rows) if row and all(map(_RULE.fullmatch, row))]
    starts = [rule - 1 for rule in rules if rule] or [0]
    places = []
    for number, (start, end) in enumerate(pairwise([*starts, len(rows)]), start=1):
        table = f" of table {number}" if len(starts) > 1 else ""
        for index in range(start, end):
            first = rows[index][0] if rows[index] else ""
            line = f"{index - start - (start + 1 in rules)} ({first}){table}"
            places.append((first if first and counts[first] < 2 else line, rows[start]))
    return places


def _pair_rows(file: Rows, ledger: Rows) -> Iterable[tuple[list[str] | None, list[str] | None]]:
    """Return pairs of rows: by position if the counts are equal, else by the first cell."""
    if len(file) == len(ledger):
        return zip(file, ledger, strict=True)
    by_first: dict[str, Rows] = {}
    for row in file:
        by_first.setdefault(row[0] if row else "", []).append(row)
    pairs: list[tuple[list[str] | None, list[str] | None]] = []
    for row in ledger:
        candidates = by_first.get(row[0] if row else "", [])
        pairs.append((candidates.pop(0) if candidates else None, row))
    pairs.extend((row, None) for rows in by_first.values() for row in rows)
    return pairs


def _equal(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _equal_numbers(one: str, other: str) -> bool:
    """Return whether two cells hold the same numbers and truth values, whatever their words."""
    numbers = [_NUMBER.findall(cell.replace("−", "-")) for cell in (one, other)]
    return len(numbers[0]) == len(numbers[1]) and all(
        _equal(a.replace(",", ""), b.replace(",", "")) for a, b in zip(*numbers, strict=True)
    )


def _csv_rows(text: str) -> tuple[Rows, str]:
    first, _, table = text.partition("\n")
    return [*csv.reader(io.StringIO(table, newline=""))], first


def _markdown_rows(text: str) -> tuple[Rows, str]:
    return _by_line(text, r"\|(.*)\|\s*", "|")


def _latex_rows(text: str) -> tuple[Rows, str]:
    """Return the rows of a table, with all lines of its headers as the first row."""
    before, rule, after = text.partition(r"\midrule")
    (heads, first), (rows, last) = (_by_line(t, r"(.*)\\\\\s*", "&") for t in (before, after))
    stacked = re.compile(r"\\begin\{tabular\}\S*\}|\\end\{tabular\}|\\\\ ")  # form 1
    lines = [_spread([stacked.sub("", cell) for cell in line]) for line in heads]
    head = [" ".join(filter(None, cells)) for cells in zip_longest(*lines, fillvalue="")]
    return [head, *rows], first + rule + last


def _spread(cells: Sequence[str]) -> list[str]:
    r"""Return the cells of a row, those of `\multicolumn` once for each column."""
    matches = [re.fullmatch(r"\\multicolumn\{(\d+)\}\{c\}\{(.*)\}", cell) for cell in cells]
    pairs = zip(cells, matches, strict=True)
    return [text for cell, m in pairs for text in ([m[2]] * int(m[1]) if m else [cell])]


def _by_line(text: str, pattern: str, separator: str) -> tuple[Rows, str]:
    """Return the rows of a table with one line per row, and the rest of the text."""
    rows, rest = [], []
    for line in text.split("\n"):
        match = re.fullmatch(pattern, line)
        if match:
            rows.append([cell.strip() for cell in _split(match[1], separator)])
        else:
            rest.append(line)
    return rows, "\n".join(rest)


def _split(text: str, separator: str) -> list[str]:
    """Split a text at the separators that no backslash escapes."""
    marked = re.sub(rf"(\\.)|{re.escape(separator)}", lambda match: match[1] or "\0", text)
    return marked.split("\0")


def _html_rows(text: str) -> tuple[Rows, str]:
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    rest = re.sub(r"<tr>.*?</tr>", "", text, flags=re.DOTALL)
    return [[html.unescape(cell.strip()) for cell in row] for row in cells], rest


_READERS = {".csv": _csv_rows, ".md": _markdown_rows, ".tex": _latex_rows, ".html": _html_rows}
