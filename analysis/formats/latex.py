"""Export of tables to LaTeX, with all text escaped."""

import re
from collections.abc import Sequence

from partialnas.analysis.formats.latex_text import escape_latex
from partialnas.analysis.formats.text_table import FIRST_WORD, Cell, Column, TextTable, one_line
from partialnas.analysis.plotting.labels import split_in_two

_MATH = {"−": "-", "±": r"\pm", "~": r"{\sim}", "<": "<", "%": r"\%"}

_NUMBER = re.compile(r"[~<+−]?[0-9][-0-9.,\s~<>+−±×%e[\]]*")
"""Text of a cell that is written as mathematics."""

_MAX_HEADER_LINE = 10
_MAX_COLUMN_WIDTH = 80
"""Characters of a row that fit into one column of a two-column page."""


def to_latex(sheet: TextTable) -> str:
    r"""Return the table as LaTeX that compiles as is with `\usepackage{booktabs}`."""
    alignment = "".join("r" if column.is_numeric else "l" for column in sheet.columns)
    rows = [" & ".join(_latex_cell(column, cell) for column, cell in row) for row in sheet.rows]
    label = re.sub(r"[^A-Za-z0-9]+", "-", sheet.name).strip("-") or "table"
    wide = _num_characters(sheet) > _MAX_COLUMN_WIDTH
    table = "table*" if wide else "table"
    return "\n".join(
        (
            r"% needs \usepackage{booktabs}; with graphicx, too wide a table is scaled down",
            rf"\begin{{{table}}}",
            r"\centering",
            r"\scriptsize" if wide else r"\footnotesize",
            r"\setlength{\tabcolsep}{3pt}",
            rf"\sbox0{{\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            rf"{' & '.join(map(_latex_header, sheet.columns))} \\",
            r"\midrule",
            *(rf"{row} \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\ifdim\wd0>\linewidth\ifdefined\resizebox\resizebox{\linewidth}{!}{\usebox0}%",
            r"\else\usebox0\fi\else\usebox0\fi",
            rf"\caption{{{_escape(sheet.caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\end{{{table}}}",
            "",
        )
    )


def _escape(text: str) -> str:
    return escape_latex(one_line(text))


def _num_characters(sheet: TextTable) -> int:
    """Return the approximate width of a row in characters."""
    texts = ((*_header_lines(c.header), *(cell.text for cell in c.cells)) for c in sheet.columns)
    return sum(1 + max(map(len, column)) for column in texts)


def _header_lines(header: str) -> Sequence[str]:
    words = header.split()
    if len(header) <= _MAX_HEADER_LINE or len(words) < 2:
        return [header]
    return split_in_two(words)


def _latex_header(column: Column) -> str:
    lines = [_escape(line) for line in _header_lines(column.header)]
    if len(lines) == 1:
        return lines[0]
    side, stacked = "r" if column.is_numeric else "l", r" \\ ".join(lines)
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}"


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
