"""Console output that the commands share: lines, paragraphs and tables."""

from collections.abc import Iterable
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from partialnas.analysis.formats.text_table import format_number

if TYPE_CHECKING:
    import pandas as pd


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that does not highlight numbers and paths."""
    return Console(highlight=False, stderr=stderr)


def print_lines(console: Console, *lines: str) -> None:
    """Print lines as they are, without wrapping."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def print_files(console: Console, files: Iterable[Path]) -> None:
    """Print the paths of written files."""
    print_lines(console, *(f"wrote {path}" for path in files))


def plain_table(title: str, *heads: str, no_wrap: bool = False) -> Table:
    """Return a table with a rule below its head.

    Args:
        title: title of the table.
        heads: heads of the columns; all but the first hold numbers and are right-aligned.
        no_wrap: whether numbers stay on one line.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for index, head in enumerate(heads):
        justify, fixed = ("right", no_wrap and head != "") if index else ("left", False)
        table.add_column(Text(head), justify=justify, no_wrap=fixed)  # type: ignore[arg-type]
    return table


def frame_table(title: str, texts: "pd.DataFrame") -> Table:
    """Return a frame of texts as a table."""
    table = plain_table(title, *map(str, texts.columns))
    for row in texts.astype(str).itertuples(index=False):
        table.add_row(*map(Text, row))
    return table


def format_spread(mean: float, sd: float, spec: str) -> str:
    """Return `mean ± sd`, without the deviation if it is NaN."""
    return format_number(mean, spec, "-") + ("" if isnan(sd) else f" ± {sd:{spec}}")


def count_seeds(seeds: int, **counts: int) -> str:
    """Return `3`, or `3 (1 failed, 2 warned)`."""
    remarks = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    return f"{seeds} ({remarks})" if remarks else f"{seeds}"
