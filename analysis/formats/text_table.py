"""Tables of formatted text for print, with export to Markdown and HTML."""

import html
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from partialnas.runs.config.quantities import format_value

MINUS, PLUS_MINUS = "−", "±"

_MARKDOWN = re.compile(r"([\\`*~|$\[\]]|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|(?<![^\W_])_|_(?![^\W_]))")
FIRST_WORD = re.compile(r"[^ ]+")
_LINE_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")

_STYLE = (
    "body{font:14px/1.4 sans-serif;margin:2em;max-width:70em}"
    "table{border-collapse:collapse;border-top:2px solid;border-bottom:2px solid}"
    "caption{caption-side:bottom;text-align:left;padding-top:.8em}"
    "thead{border-bottom:1px solid}th,td{padding:.2em .7em;text-align:left}"
    ".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
)


class Cell(NamedTuple):
    """One cell of a table; if bold, it is printed bold up to its first space."""

    text: str
    bold: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column with its header and cells; numeric columns are right-aligned.

    Neighboring columns with one `group` share it as a heading above their headers.
    """

    header: str
    cells: Sequence[Cell]
    is_numeric: bool = True
    group: str = ""

    @property
    def full_header(self) -> str:
        """The header with its group, for formats with one line of headers."""
        return f"{self.group}: {self.header}" if self.group else self.header


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table of texts with its caption; the first column names the rows.

    Attributes:
        name: title of the table.
        columns: columns from left to right.
        caption: caption, or empty for none.
        label: label of the table in LaTeX, without its prefix.
    """

    name: str
    columns: Sequence[Column]
    caption: str
    label: str = ""

    @property
    def rows(self) -> list[list[tuple[Column, Cell]]]:
        """The cells of each row with their columns."""
        cells = zip(*(column.cells for column in self.columns), strict=True)
        return [[*zip(self.columns, row, strict=True)] for row in cells]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The groups of neighboring columns with their numbers of columns."""
        runs = itertools.groupby(column.group for column in self.columns)
        return [(group, len([*run])) for group, run in runs]


def to_markdown(sheet: TextTable) -> str:
    """Return the table in GitHub's Markdown, with the caption below."""
    headers = [_markdown_cell(column, Cell(column.full_header)) for column in sheet.columns]
    rows = [[_markdown_cell(column, cell) for column, cell in row] for row in sheet.rows]
    widths = [max(3, *map(len, column)) for column in zip(headers, *rows, strict=True)]
    rules = [
        "-" * (width - 1) + ":" if column.is_numeric else "-" * width
        for width, column in zip(widths, sheet.columns, strict=True)
    ]
    lines = [
        " | ".join(
            cell.rjust(width) if column.is_numeric else cell.ljust(width)
            for cell, width, column in zip(line, widths, sheet.columns, strict=True)
        )
        for line in (headers, rules, *rows)
    ]
    table = "".join(f"| {line} |\n" for line in lines)
    caption = re.sub(r"^([#>+=-])", r"\\\1", _markdown_text(sheet.caption))
    return f"{table}\n{caption}\n" if caption else table


def _markdown_cell(column: Column, cell: Cell) -> str:
    """Return a cell; the brackets of a numeric interval cannot be a link and are not escaped."""
    text = _markdown_text(cell.text)
    if column.is_numeric:
        text = re.sub(r"\\([\[\]])", r"\1", text)
    return FIRST_WORD.sub(r"**\g<0>**", text, count=1) if cell.bold else text


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def to_html(sheet: TextTable) -> str:
    """Return the table as a self-contained web page without scripts or external resources."""
    headers = "".join(_html_cell("th", column, Cell(column.header)) for column in sheet.columns)
    if any(group for group, _ in sheet.groups):
        spans = (f'<th colspan="{n}">{_escaped(group)}</th>' for group, n in sheet.groups)
        headers = f"{''.join(spans)}</tr><tr>{headers}"
    rows = ["".join(_html_cell("td", column, cell) for column, cell in row) for row in sheet.rows]
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{_escaped(sheet.name)}</title>',
            f"<style>{_STYLE}</style></head>",
            "<body>",
            "<table>",
            *([f"<caption>{_escaped(sheet.caption)}</caption>"] if sheet.caption else []),
            f"<thead><tr>{headers}</tr></thead>",
            "<tbody>",
            *(f"<tr>{row}</tr>" for row in rows),
            "</tbody>",
            "</table>",
            "</body>",
            "</html>",
            "",
        )
    )


def _html_cell(tag: str, column: Column, cell: Cell) -> str:
    css_class = ' class="n"' if column.is_numeric else ""
    text = _escaped(cell.text)
    if cell.bold:
        text = FIRST_WORD.sub(r"<strong>\g<0></strong>", text, 1)
    return f"<{tag}{css_class}>{text}</{tag}>"


def _escaped(text: str) -> str:
    return html.escape(one_line(text))


def one_line(text: str) -> str:
    """Return the text with line breaks and control characters replaced by spaces."""
    return _LINE_BREAKS.sub(" ", text).strip()


def format_interval(estimate: str, low: str, high: str) -> str:
    """Return `estimate [low, high]` from formatted numbers, or the estimate if an end is empty."""
    return f"{estimate} [{low}, {high}]" if low and high else estimate


def format_number(value: float, spec: str, missing: str = "") -> str:
    """Return a formatted number, or `missing` for NaN."""
    return missing if math.isnan(value) else format_value(value, spec)


def format_mean(row: Mapping[Any, Any], key: str, spec: str) -> str:
    """Return the mean `key` of a row with its interval, `key_low` to `key_high`, if it has one."""
    mean, low, high = (row[name] for name in (key, f"{key}_low", f"{key}_high"))
    interval = (
        "" if math.isnan(low) else f" [{format_value(low, spec)}, {format_value(high, spec)}]"
    )
    return format_number(mean, spec) + interval


def table_from_rows(
    name: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: str = "",
    note: str = "",
) -> TextTable:
    """Return a table of the given texts.

    Args:
        name: title of the table.
        heads: headers of the columns.
        rows: one text per column.
        numbers: one letter per column, `n` for numbers and any other for words.
        note: caption below the table.
    """
    columns = [*zip(*rows, strict=True)] or [()] * len(heads)
    kinds = numbers.ljust(len(heads), "t")
    return TextTable(
        name=name,
        columns=[
            Column(header=head, cells=[Cell(one_line(t)) for t in texts], is_numeric=kind == "n")
            for head, texts, kind in zip(heads, columns, kinds, strict=True)
        ],
        caption=note,
    )
