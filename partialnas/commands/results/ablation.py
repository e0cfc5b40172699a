"""The verbs `table`, `effects` and `verify`."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from rich.table import Table
from rich.text import Text

from partialnas.analysis.ablation.figure import effects_figure, factorial_sheet
from partialnas.analysis.ablation.table import FORMATS, effects_sheet, row_label_column
from partialnas.analysis.formats.latex import NARROW_PAGE, WIDE_PAGE
from partialnas.analysis.formats.text_table import TextTable
from partialnas.analysis.frames.chance import chance_note
from partialnas.analysis.frames.provenance import Query
from partialnas.analysis.registry import build_artefact
from partialnas.analysis.verification import verify
from partialnas.commands.terminal import (
    add_column,
    make_console,
    plain_table,
    print_files,
    print_lines,
    print_table,
)
from partialnas.space.errors import UserError, printable_message

_COLUMNS = ("n", "metric", "delta", "p", "effect", "equivalence")
_LADDER_COLUMNS = ("n", "metric", "step")
_MAX_DIFFERENCES = 20
_WIDE = (
    f"about {{:.0f}} pt wide at 10 points; a page of NeurIPS has {NARROW_PAGE:.0f} pt, one of CVPR "
    f"{WIDE_PAGE:.0f} pt."
)


def write_table(
    folders: list[Path], output: Path | None, format: str | None, arguments: dict[str, Any]
) -> None:
    """Write a table of studies to a file, or print it.

    Args:
        folders: the studies' folders.
        output: file to write, or None to print the table.
        format: name of the format; by default that of the file's suffix.
        arguments: arguments of `table_artefact`.

    Raises:
        UserError: unknown format or suffix, or the studies cannot be tabulated.
    """
    suffix = _suffix(output, format)
    artefact = build_artefact(folders, Query(verb="table", arguments=arguments))
    if output is None:
        text = artefact.content(suffix).decode()
        if sys.stdout.isatty():  # a person does not read the stamp, which `verify` does
            text = text.partition("\n")[2] if text.startswith("<!-- ") else text
        print(printable_message(text), end="")
    else:
        console = make_console()
        print_files(console, artefact.write(output, format=suffix))
        if suffix == ".tex" and artefact.width > NARROW_PAGE:
            advice = _narrower_table(folders, output, arguments, artefact.narrower)
            print_lines(console, f"{output}: {_WIDE.format(artefact.width)} {advice}")


def _narrower_table(
    folders: Sequence[Path], output: Path, arguments: Mapping[str, Any], columns: Sequence[str]
) -> str:
    """Return how to make a table narrower: by the command with fewer columns, if there is one."""
    if not columns:
        if len(arguments.get("metric") or ()) > 1:
            return "Write a table for each --metric"
        if arguments.get("columns"):
            return r"Use \small or \resizebox in the document"
        return r"Choose a few --columns, or use \small or \resizebox in the document"
    words = ["partialnas", "table", *map(str, folders), "-o", str(output)]
    for key, value in arguments.items():
        if key in ("columns", "caption") or value is None:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            words += [f"--{key}", str(item)]
    caption = arguments.get("caption", "full")
    words += ["--columns", ",".join(columns)]
    words += ["--caption", "short" if caption in (None, "full") else str(caption)]
    return f"A narrower table:\n  {shlex.join(words)}"


def _suffix(output: Path | None, format: str | None) -> str:
    """Return the suffix of the requested format."""
    if format is not None or output is None:
        return FORMATS[format or "markdown"]
    if output.suffix.lower() not in FORMATS.values():
        suffixes = ", ".join(FORMATS.values())
        raise UserError(f"{output}: the file of a table ends in {suffixes}; or give --format")
    return output.suffix.lower()


def draw_effects(
    folder: Path, kind: str | None, output: Path | None, arguments: dict[str, Any]
) -> None:
    """Draw the effects of a study, print its table, and name the files written.

    Args:
        folder: the study's folder.
        kind: `effect`, `interaction` or `ladder`; by default the one that fits the design.
        output: file of the figure; by default in the study's folder.
        arguments: arguments of `effects_figure`.

    Raises:
        UserError: unknown kind, or the kind does not fit the design.
    """
    name = "effects" if kind in (None, "effect") else kind
    path = output or folder / f"{name}.pdf"
    figure = effects_figure(folder, path, kind=cast(Any, kind), **arguments)
    effects = figure.effects
    columns = _LADDER_COLUMNS if effects.steps else _COLUMNS
    sheet = effects_sheet(effects, [row_label_column(effects), *columns])
    console = make_console()
    print_table(console, _terminal_table(sheet, f"effects: {effects.quantity.label}"))
    if effects.factorial is not None:
        title = "main effects and two-factor interactions"
        print_table(console, _terminal_table(factorial_sheet(effects), title))
    chance = chance_note(effects.rows.trials)
    print_lines(console, effects.comparison.note, *filter(None, [chance]))
    print_files(console, figure.files)


def _terminal_table(sheet: TextTable, title: str) -> Table:
    table = plain_table(title)
    columns = [column for column in sheet.columns if any(cell.text for cell in column.cells)]
    for column in columns:
        head = column.header.replace(" ", "\n") if column.is_numeric else column.header
        add_column(table, head, numeric=column.is_numeric)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell.text, "bold" if cell.bold else "") for cell in row))
    return table


def show_verdict(path: Path, folders: Sequence[Path]) -> bool:
    """Verify a file, print the differences, and return whether every number is equal."""
    verdict = verify(path, folders)
    console = make_console()
    arguments = verdict.stamp.query.arguments
    pairs = (f"{key}={value}" for key, value in sorted(arguments.items()))
    query = " ".join((verdict.stamp.query.verb, *pairs))
    if not verdict.differences:
        message = f"{path}: all {verdict.numbers:,} numbers agree with the ledger ({query})"
        print_lines(console, message, *([verdict.note] if verdict.note else []))
        return True
    count = len(verdict.differences)
    print_lines(console, f"{path}: {count} difference{'s' * (count != 1)} ({query})")
    print_lines(console, *(f"  {item}" for item in verdict.differences[:_MAX_DIFFERENCES]))
    if count > _MAX_DIFFERENCES:
        print_lines(console, f"  and {count - _MAX_DIFFERENCES} more")
    return False
