r"""Export of tables to LaTeX: plain booktabs, with all text escaped and the source aligned."""

import re
import textwrap
from collections.abc import Sequence

from partialnas.analysis.formats.latex_text import escape_latex
from partialnas.analysis.formats.text_table import FIRST_WORD, Cell, Column, TextTable, one_line
from partialnas.analysis.plotting.labels import split_in_two

_MATH = {"−": "-", "±": r"\pm", "~": r"{\sim}", "<": "<", "%": r"\%"}

_NUMBER = re.compile(r"[~<+−]?[0-9][-0-9.,\s~<>+−±×%e[\]]*")
"""Text of a cell that is written as mathematics."""

_MAX_HEADER_LINE = 10
_INDENT, _MAX_LINE = "  ", 100
_CHARACTER_WIDTH, _COLUMN_GAP = 5.0, 12.0
"""Points of a digit and of the space between columns at 10 points."""

_COLUMN_WIDTH, NARROW_PAGE, WIDE_PAGE = 237.0, 397.0, 496.0
"""Points of a column of CVPR, of a page of NeurIPS, and of a page of CVPR."""


def to_latex(sheet: TextTable) -> str:
    r"""Return the table as LaTeX that compiles as is with `\usepackage{booktabs}`.

    Font size and column separation are those of the document. A table that is wider than a column
    of a two-column page spans both. Without a caption the text is the tabular alone, for a table
    environment that states its own caption and label.
    """
    lines = _tabular(sheet)
    if not sheet.caption:
        return "\n".join([r"% needs \usepackage{booktabs}", *lines, ""])
    width = estimated_width(sheet)
    environment = "table*" if width > _COLUMN_WIDTH else "table"
    label = re.sub(r"[^A-Za-z0-9]+", "-", sheet.label or sheet.name).strip("-") or "table"
    hint = r"; wider than a page at 10 points: choose \small or fewer columns"
    return "\n".join(
        (
            r"% needs \usepackage{booktabs}" + (hint if width > WIDE_PAGE else ""),
            rf"\begin{{{environment}}}",
            rf"{_INDENT}\centering",
            *_caption_lines(sheet.caption),
            rf"{_INDENT}\label{{tab:{label}}}",
            *(_INDENT + line for line in lines),
            rf"\end{{{environment}}}",
            "",
        )
    )


def _caption_lines(caption: str) -> list[str]:
    indent = 2 * _INDENT
    return textwrap.wrap(
        rf"\caption{{{_escape(caption)}}}", _MAX_LINE, initial_indent=_INDENT,
        subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _tabular(sheet: TextTable) -> list[str]:
    """Return the lines of the tabular, with its cells aligned."""
    alignment = "".join("r" if column.is_numeric else "l" for column in sheet.columns)
    headers = [[_escape(line) for line in _header_lines(c.header)] for c in sheet.columns]
    depth = max(map(len, headers))
    padded = [[""] * (depth - len(lines)) + lines for lines in headers]
    rows = [[*row] for row in zip(*padded, strict=True)]
    rows += [[_latex_cell(column, cell) for column, cell in row] for row in sheet.rows]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    texts = [_aligned(row, widths, sheet.columns) for row in rows]
    return [
        rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        rf"{_INDENT}\toprule",
        *(_INDENT + line for line in _group_lines(sheet)),
        *(_INDENT + text for text in texts[:depth]),
        rf"{_INDENT}\midrule",
        *(_INDENT + text for text in texts[depth:]),
        rf"{_INDENT}\bottomrule",
        r"\end{tabular}",
    ]


def _aligned(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    padded = (
        cell.rjust(width) if column.is_numeric else cell.ljust(width)
        for cell, width, column in zip(cells, widths, columns, strict=True)
    )
    return " & ".join(padded) + r" \\"


def _group_lines(sheet: TextTable) -> list[str]:
    """Return the headings of groups of columns with rules below them, or nothing."""
    if not any(group for group, _ in sheet.groups):
        return []
    headings, rules, start = [], [], 1
    for group, number in sheet.groups:
        if group:
            headings.append(rf"\multicolumn{{{number}}}{{c}}{{{_escape(group)}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + number - 1}}}")
        else:
            headings += [""] * number
        start += number
    return [" & ".join(headings) + r" \\", " ".join(rules)]


def _escape(text: str) -> str:
    return escape_latex(one_line(text))


def estimated_width(sheet: TextTable) -> float:
    """Return the approximate width of the table in points at a font size of 10 points."""
    texts = ((*_header_lines(c.header), *(cell.text for cell in c.cells)) for c in sheet.columns)
    characters = sum(max(map(len, column)) for column in texts)
    return _CHARACTER_WIDTH * characters + _COLUMN_GAP * (len(sheet.columns) - 1)


def _header_lines(header: str) -> list[str]:
    words = header.split()
    if len(header) <= _MAX_HEADER_LINE or len(words) < 2:
        return [header]
    return [*split_in_two(words)]


def _latex_cell(column: Column, cell: Cell) -> str:
    if column.is_numeric and _NUMBER.fullmatch(cell.text):
        text = re.sub(r"(?<=\d),(?=\d{3})", "{,}", cell.text).replace(" [", r"\ [")
        if cell.bold:
            text = FIRST_WORD.sub(r"\\mathbf{\g<0>}", text, 1)
        for char, command in _MATH.items():
            text = text.replace(char, command)
        return f"${text}$"
    text = _escape(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text
