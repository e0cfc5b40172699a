"""Console output that the commands share: lines, paragraphs and tables."""

import json
from collections.abc import Iterable
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from partialnas.analysis.formats.text_table import format_number
from partialnas.runs.config.quantities import format_value
from partialnas.space.errors import printable_message

if TYPE_CHECKING:
    import pandas as pd


_MIN_NAME_WIDTH = 8
"""Least width of a column of names before the table becomes wider than the console."""


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: no markup, no highlighted numbers and paths."""
    return _SafeConsole(highlight=False, markup=False, stderr=stderr)


class _SafeConsole(Console):
    """A console that shows control characters of texts as escape sequences."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts and tables."""
        super().print(*map(_safe, objects), **options)


def _safe(shown: Any) -> Any:
    """Return a text without control characters; tables are made of such texts already."""
    if isinstance(shown, str):
        return printable_message(shown)
    if isinstance(shown, Text):
        text = shown.copy()
        text.plain = printable_message(text.plain)
        return text
    return shown


def print_lines(console: Console, *lines: str) -> None:
    """Print lines as they are, without wrapping."""
    for line in lines:
        console.print(printable_message(line), markup=False, soft_wrap=True)


def print_files(console: Console, files: Iterable[Path]) -> None:
    """Print the paths of written files."""
    print_lines(console, *(f"wrote {path}" for path in files))


def print_json(data: Any) -> None:
    """Print data as JSON; numbers that JSON cannot express (NaN, infinities) become null."""
    text = json.dumps(data)  # NaN and infinities as JavaScript writes them
    plain = json.loads(text, parse_constant=lambda _: None)
    print(json.dumps(plain, indent=2, allow_nan=False))


class PlainTable(Table):
    """A table of texts with a rule below its head; nothing in it is parsed as markup."""

    def add_row(
        self,
        *cells: RenderableType | None,
        style: StyleType | None = None,
        end_section: bool = False,
    ) -> None:
        """Add a row, one text per column."""
        texts = (Text(_safe(cell)) if isinstance(cell, str) else _safe(cell) for cell in cells)
        super().add_row(*texts, style=style, end_section=end_section)


_RULES = Box("    \n    \n ── \n    \n ── \n    \n    \n    \n")
"""Box of tables: rules below the head and between sections."""


def plain_table(title: str, *heads: str) -> PlainTable:
    """Return a table with a rule below its head, and between its sections.

    Args:
        title: title of the table.
        heads: heads of the columns; all but the first hold numbers and are right-aligned.
    """
    table = PlainTable(
        box=_RULES, padding=(0, 1, 0, 0), title=Text(_safe(title)), title_justify="left"
    )
    for index, head in enumerate(heads):
        add_column(table, head, numeric=index > 0)
    return table


def add_column(table: Table, head: str, *, numeric: bool) -> None:
    """Add a column of numbers, right-aligned, or of words, which are folded if they do not fit."""
    table.add_column(Text(_safe(head)), justify="right" if numeric else "left", overflow="fold")


def frame_table(title: str, texts: "pd.DataFrame") -> PlainTable:
    """Return a frame of texts as a table."""
    table = plain_table(title, *map(str, texts.columns))
    for row in texts.astype(str).itertuples(index=False):
        table.add_row(*row)
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table in which nothing is cut off.

    If the table is wider than the console, names are folded and numbers are wrapped at spaces. If
    that is not enough, its lines are longer than the console is wide. Of a table without rows, its
    title and caption are printed.
    """
    if not table.row_count:
        notes = str(table.caption) if table.caption else "none"
        print_lines(console, f"{table.title}: {notes}")
        return
    before = console.width
    console.width = max(before, _fit_columns(table, before))
    console.print(table)
    console.width = before


def _fit_columns(table: Table, width: int) -> int:
    """Set the widths of the columns for a console of this width; return the width of the table."""
    texts = [[_plain(text) for text in (column.header, *column.cells)] for column in table.columns]
    lines = [max(cell_len(line) for text in of for line in text.split("\n")) for of in texts]
    words = [
        max((cell_len(word) for text in of for word in text.split()), default=0) for of in texts
    ]
    names = [column.justify == "left" for column in table.columns]
    least = [
        min(word, _MIN_NAME_WIDTH) if is_name else word
        for word, is_name in zip(words, names, strict=True)
    ]
    around = 2 + len(table.columns) + (len(table.columns) - 1)
    room = width - around - sum(least)
    order = sorted(range(len(least)), key=lambda index: names[index])  # stable: numbers first
    for index in order:
        more = min(lines[index] - least[index], max(room, 0))
        if names[index] or more == lines[index] - least[index]:
            least[index] += more
            room -= more
    for column, fixed in zip(table.columns, least, strict=True):
        column.width = fixed
    return around + sum(least)


def _plain(text: RenderableType) -> str:
    return text.plain if isinstance(text, Text) else str(text)


def format_spread(mean: float, sd: float, spec: str) -> str:
    """Return `mean ± sd`, without the deviation if it is NaN."""
    return format_number(mean, spec, "-") + ("" if isnan(sd) else f" ± {format_value(sd, spec)}")
