"""Tables as LaTeX, with everything escaped."""

import re

from partialnas.analysis.formats.text_table import _FIRST, Cell, Column, TextTable, one_line

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}",
    "*": "{*}", "-": "-{}", "`": "{`}", "'": "{'}", "–": "--{}", "—": "---{}", "“": "``{}",
    "”": "''{}", "’": "'{}", "…": r"\dots{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$",
    "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$", "†": r"$\dagger$", "Δ": r"$\Delta$",
    "α": r"$\alpha$", "η": r"$\eta$", "²": "$^2$", "→": r"$\to$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}  # fmt: skip


_MATH = {"−": "-", "±": r"\pm", "~": r"{\sim}", "<": "<", "%": r"\%"}


_LONGEST_HEAD = 10


_NARROW = 80


def to_latex(sheet: TextTable) -> str:
    r"""The sheet as a LaTeX table that compiles as is with `\usepackage{booktabs}`."""
    form = "".join("r" if column.is_numeric else "l" for column in sheet.columns)
    rows = [" & ".join(_latex_cell(column, cell) for column, cell in row) for row in sheet.rows]
    label = re.sub(r"[^A-Za-z0-9]+", "-", sheet.name).strip("-") or "table"
    wide = _characters(sheet) > _NARROW
    table = "table*" if wide else "table"
    return "\n".join(
        (
            r"% needs \usepackage{booktabs}; with graphicx it shrinks to the line if it must",
            rf"\begin{{{table}}}",
            r"\centering",
            r"\scriptsize" if wide else r"\footnotesize",
            r"\setlength{\tabcolsep}{3pt}",
            rf"\sbox0{{\begin{{tabular}}{{@{{}}{form}@{{}}}}",
            r"\toprule",
            rf"{' & '.join(map(_latex_head, sheet.columns))} \\",
            r"\midrule",
            *(rf"{row} \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\ifdim\wd0>\linewidth\ifdefined\resizebox\resizebox{\linewidth}{!}{\usebox0}%",
            r"\else\usebox0\fi\else\usebox0\fi",
            rf"\caption{{{escape_latex(sheet.caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\end{{{table}}}",
            "",
        )
    )


def _characters(sheet: TextTable) -> int:
    """About how many characters a row is wide."""
    return sum(
        1 + max(map(len, (*_broken(c.header), *(cell.text for cell in c.cells))))
        for c in (sheet.columns)
    )


def _broken(head: str) -> list[str]:
    """A long head in two lines, broken where these come out the most alike."""
    words = head.split()
    if len(head) <= _LONGEST_HEAD or len(words) < 2:
        return [head]
    ways = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    return [*min(ways, key=lambda lines: max(map(len, lines)))]


def _latex_head(column: Column) -> str:
    lines = [escape_latex(line) for line in _broken(column.header)]
    if len(lines) == 1:
        return lines[0]
    side, stacked = "r" if column.is_numeric else "l", r" \\ ".join(lines)
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}"


def _latex_cell(column: Column, cell: Cell) -> str:
    if column.is_numeric and re.fullmatch(r"[~<+−]?\d.*", cell.text) and "(" not in cell.text:
        text = re.sub(r"(?<=\d),(?=\d{3})", "{,}", cell.text).replace(" [", r"\ [")
        if cell.bold:
            text = _FIRST.sub(r"\\mathbf{\g<0>}", text, 1)
        for char, command in _MATH.items():
            text = text.replace(char, command)
        return f"${text}$"
    text = escape_latex(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text


def escape_latex(text: str) -> str:
    """A text for LaTeX: every character that it gives a meaning to is printed as it is."""
    return "".join(_LATEX.get(char, char) for char in one_line(text))
