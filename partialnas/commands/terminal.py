"""Tables for a terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table


def plain_table(title: str) -> Table:
    """A table for the terminal, ruled below its head alone."""
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
