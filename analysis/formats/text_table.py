"""Sheets: tables of texts as they are printed, written as LaTeX, Markdown or HTML."""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MINUS, PLUS_MINUS = "−", "±"

_MARKDOWN = re.compile(r"([\\`*~|$\[\]]|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|(?<![^\W_])_|_(?![^\W_]))")
_FIRST = re.compile(r"[^ ]+")
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")


_STYLE = (
    "body{font:14px/1.4 sans-serif;margin:2em;max-width:70em}"
    "table{border-collapse:collapse;border-top:2px solid;border-bottom:2px solid}"
    "caption{caption-side:bottom;text-align:left;padding-top:.8em}"
    "thead{border-bottom:1px solid}th,td{padding:.2em .7em;text-align:left}"
    ".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
)


class Cell(NamedTuple):
    """One entry of a sheet; a strong one is printed bold up to its first space."""

    text: str
    bold: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a sheet: what stands above it, and its entries; numbers stand to the right."""

    header: str
    cells: Sequence[Cell]
    is_numeric: bool = True


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table of texts with its caption; the first column says what each row is of."""

    name: str
    columns: Sequence[Column]
    caption: str

    @property
    def rows(self) -> list[list[tuple[Column, Cell]]]:
        """The entries of each row with their columns."""
        cells = zip(*(column.cells for column in self.columns), strict=True)
        return [[*zip(self.columns, row, strict=True)] for row in cells]


def to_markdown(sheet: TextTable) -> str:
    """The sheet as a Markdown table (GitHub's), the caption below."""
    heads = [_markdown_cell(column, Cell(column.header)) for column in sheet.columns]
    rows = [[_markdown_cell(column, cell) for column, cell in row] for row in sheet.rows]
    widths = [max(3, *map(len, column)) for column in zip(heads, *rows, strict=True)]
    rules = [
        "-" * (width - 1) + ":" if column.is_numeric else "-" * width
        for width, column in zip(widths, sheet.columns, strict=True)
    ]
    lines = [
        " | ".join(
            cell.rjust(width) if column.is_numeric else cell.ljust(width)
            for cell, width, column in zip(line, widths, sheet.columns, strict=True)
        )
        for line in (heads, rules, *rows)
    ]
    table = "".join(f"| {line} |\n" for line in lines)
    caption = re.sub(r"^([#>+=-])", r"\\\1", _markdown_text(sheet.caption))
    return f"{table}\n{caption}\n"


def _markdown_cell(column: Column, cell: Cell) -> str:
    """An entry; the brackets of an interval are no link, and stay as they are."""
    text = _markdown_text(cell.text)
    if column.is_numeric:
        text = re.sub(r"\\([\[\]])", r"\1", text)
    return _FIRST.sub(r"**\g<0>**", text, count=1) if cell.bold else text


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def to_html(sheet: TextTable) -> str:
    """The sheet as a web page of its own, without scripts or anything from elsewhere."""
    heads = "".join(_html_cell("th", column, Cell(column.header)) for column in sheet.columns)
    rows = [
        "<tr>" + "".join(_html_cell("td", column, cell) for column, cell in row) + "</tr>"
        for row in sheet.rows
    ]
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{_escaped(sheet.name)}</title>',
            f"<style>{_STYLE}</style></head>",
            "<body>",
            "<table>",
            f"<caption>{_escaped(sheet.caption)}</caption>",
            f"<thead><tr>{heads}</tr></thead>",
            "<tbody>",
            *rows,
            "</tbody>",
            "</table>",
            "</body>",
            "</html>",
            "",
        )
    )


def _html_cell(tag: str, column: Column, cell: Cell) -> str:
    kind = ' class="n"' if column.is_numeric else ""
    text = _escaped(cell.text)
    if cell.bold:
        text = _FIRST.sub(r"<strong>\g<0></strong>", text, 1)
    return f"<{tag}{kind}>{text}</{tag}>"


def _escaped(text: str) -> str:
    return html.escape(one_line(text))


def one_line(text: str) -> str:
    """The text without line breaks and control characters, a space in their place."""
    return _BREAKS.sub(" ", text).strip()


def table_from_rows(
    name: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: str = "",
    note: str = "",
) -> TextTable:
    """A sheet of texts.

    Args:
        name: of the table, which stands above it.
        heads: of its columns.
        rows: a text for each column.
        numbers: `n` for each column of numbers, another letter for one of words.
        note: that stands below it.
    """
    columns = [*zip(*rows, strict=True)] or [()] * len(heads)
    kinds = numbers.ljust(len(heads), "t")
    made = [
        Column(header=head, cells=[Cell(one_line(text)) for text in texts], is_numeric=kind == "n")
        for head, texts, kind in zip(heads, columns, kinds, strict=True)
    ]
    return TextTable(name=name, columns=made, caption=note)
