"""What the verbs `table`, `effects` and `verify` print and write."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from partialnas.commands.terminal import plain_table
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from partialnas.analysis.formats.text_table import TextTable

_SHOWN = ("n", "metric", "delta", "p", "effect", "equivalence")
_SHOWN_OF_LADDERS = ("n", "metric", "step")
_LEAST_WIDTH = 14
_WIDEST = 1000
_MOST_DIFFERENCES = 20


def write_table(
    folders: list[Path], output: Path | None, format: str | None, arguments: dict[str, Any]
) -> None:
    """Write the table of studies into a file, or print it.

    Args:
        folders: of the studies.
        output: the file; without it the table is printed.
        format: one of `analysis.tables.FORMATS`; by default what the file's suffix says.
        arguments: of `analysis.tables.table_artefact`.
    """
    from partialnas.analysis.frames.provenance import Query
    from partialnas.analysis.registry import build_artefact

    suffix = _suffix(output, format)
    artefact = build_artefact(folders, Query(verb="table", arguments=arguments))
    if output is None:
        print(artefact.content(suffix).decode(), end="")
        return
    for path in artefact.write(output, format=suffix):
        _console().print(f"wrote {path}", soft_wrap=True, markup=False)


def _suffix(output: Path | None, format: str | None) -> str:
    """The suffix of the format that is asked for."""
    from partialnas.analysis.ablation.table import FORMATS

    if format is not None and format not in FORMATS:
        raise UserError(f"--format {format}: expected {', '.join(FORMATS)}")
    if format is not None or output is None:
        return FORMATS[format or "markdown"]
    if output.suffix.lower() not in FORMATS.values():
        raise UserError(f"{output}: a table ends in {', '.join(FORMATS.values())}; or say --format")
    return output.suffix.lower()


def draw_effects(
    folder: Path, kind: str | None, output: Path | None, arguments: dict[str, Any]
) -> None:
    """Draw the effects of a study, print its table, and name the files written.

    Args:
        folder: of the study.
        kind: one of `effect`, `interaction` and `ladder`; by default what fits the design.
        output: the figure's file; in the study's folder without it.
        arguments: of `analysis.effects_figure`.
    """
    from partialnas.analysis.ablation.figure import effects_figure, factorial_sheet
    from partialnas.analysis.ablation.table import effects_sheet, row_label_column

    kinds = ("effect", "interaction", "ladder")
    if kind not in (None, *kinds):
        raise UserError(f"--kind {kind}: expected {', '.join(kinds)}")
    name = "effects" if kind in (None, "effect") else kind
    path = output or folder / f"{name}.pdf"
    drawn = effects_figure(folder, path, kind=cast(Any, kind), **arguments)
    console = _console()
    shown = _SHOWN_OF_LADDERS if drawn.effects.steps else _SHOWN
    printed = effects_sheet(drawn.effects, [row_label_column(drawn.effects), *shown])
    _print_whole(_terminal(printed, f"effects: {drawn.effects.quantity.label}"))
    if drawn.effects.factorial is not None:
        told = factorial_sheet(drawn.effects)
        _print_whole(_terminal(told, "main effects and two-factor interactions"))
    console.print(drawn.effects.comparison.note, markup=False)
    for path in drawn.files:
        console.print(f"wrote {path}", soft_wrap=True, markup=False)


def _print_whole(table: Table) -> None:
    """Prints a table wider than the terminal where its numbers would be cut off otherwise."""
    console = _console()
    least = console.measure(table, options=console.options.update(max_width=_WIDEST)).minimum
    Console(highlight=False, width=max(console.width, least)).print(table)


def _terminal(sheet: "TextTable", title: str) -> Table:
    table = plain_table(title)
    told = [column for column in sheet.columns if any(cell.text for cell in column.cells)]
    for column in told:
        head = column.header.replace(" ", "\n") if column.is_numeric else column.header
        longest = max(len(text) for text in (*head.split("\n"), *(c.text for c in column.cells)))
        table.add_column(
            escape(head),
            justify="right" if column.is_numeric else "left",
            no_wrap=column.is_numeric,
            min_width=longest if column.is_numeric else min(longest, _LEAST_WIDTH),
        )
    for row in zip(*(column.cells for column in told), strict=True):
        table.add_row(*(f"[b]{escape(c.text)}[/b]" if c.bold else escape(c.text) for c in row))
    return table


def show_verdict(path: Path, folders: Sequence[Path]) -> bool:
    """Print what verifying a file came to; whether every number is equal."""
    from partialnas.analysis.verification import verify

    found = verify(path, folders)
    console = _console()
    query = found.stamp.query
    arguments = " ".join(f"{key}={value}" for key, value in sorted(query.arguments.items()))
    asked = f"{query.verb} {arguments}".strip()
    if not found.differences:
        told = f"{path}: all {found.numbers:,} numbers are those of the ledger ({asked})"
        console.print(told, soft_wrap=True, markup=False)
        if found.note:
            console.print(found.note, soft_wrap=True, markup=False)
        return True
    number = len(found.differences)
    head = f"{path}: {number} place{'s' * (number != 1)} differ{'s' * (number == 1)} ({asked})"
    shown = [str(each) for each in found.differences[:_MOST_DIFFERENCES]]
    more = [f"and {number - len(shown)} more"] if number > len(shown) else []
    for line in (head, *(f"  {text}" for text in (*shown, *more))):
        console.print(line, soft_wrap=True, markup=False)
    return False


def _console() -> Console:
    return Console(highlight=False)
