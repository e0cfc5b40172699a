"""Sheets: tables of texts as they are printed, written as LaTeX, Markdown or HTML."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MINUS, PLUS_MINUS = "−", "±"

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
_MARKDOWN = re.compile(r"([\\`*~|$\[\]]|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|(?<![^\W_])_|_(?![^\W_]))")
_FIRST = re.compile(r"[^ ]+")
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")

_LONGEST_HEAD = 10
_NARROW = 80

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
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a sheet: what stands above it, and its entries; numbers stand to the right."""

    head: str
    cells: Sequence[Cell]
    numbers: bool = True


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table of texts with its caption; the first column says what each row is of."""

    name: str
    columns: Sequence[Column]
    caption: str

    @property
    def rows(self) -> list[list[tuple[Column, Cell]]]:
        """The entries of each row with their columns."""
        cells = zip(*(column.cells for column in self.columns), strict=True)
        return [[*zip(self.columns, row, strict=True)] for row in cells]


def markdown(sheet: Sheet) -> str:
    """The sheet as a Markdown table (GitHub's), the caption below."""
    heads = [_markdown_cell(column, Cell(column.head)) for column in sheet.columns]
    rows = [[_markdown_cell(column, cell) for column, cell in row] for row in sheet.rows]
    widths = [max(3, *map(len, column)) for column in zip(heads, *rows, strict=True)]
    rules = [
        "-" * (width - 1) + ":" if column.numbers else "-" * width
        for width, column in zip(widths, sheet.columns, strict=True)
    ]
    lines = [
        " | ".join(
            cell.rjust(width) if column.numbers else cell.ljust(width)
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
    if column.numbers:
        text = re.sub(r"\\([\[\]])", r"\1", text)
    return _FIRST.sub(r"**\g<0>**", text, count=1) if cell.strong else text


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def latex(sheet: Sheet) -> str:
    r"""The sheet as a LaTeX table that compiles as is with `\usepackage{booktabs}`."""
    form = "".join("r" if column.numbers else "l" for column in sheet.columns)
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
            rf"\caption{{{latex_text(sheet.caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\end{{{table}}}",
            "",
        )
    )


def _characters(sheet: Sheet) -> int:
    """About how many characters a row is wide."""
    return sum(
        1 + max(map(len, (*_broken(c.head), *(cell.text for cell in c.cells))))
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
    lines = [latex_text(line) for line in _broken(column.head)]
    if len(lines) == 1:
        return lines[0]
    side, stacked = "r" if column.numbers else "l", r" \\ ".join(lines)
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}"


def _latex_cell(column: Column, cell: Cell) -> str:
    if column.numbers and re.fullmatch(r"[~<+−]?\d.*", cell.text) and "(" not in cell.text:
        text = re.sub(r"(?<=\d),(?=\d{3})", "{,}", cell.text).replace(" [", r"\ [")
        if cell.strong:
            text = _FIRST.sub(r"\\mathbf{\g<0>}", text, 1)
        for char, command in _MATH.items():
            text = text.replace(char, command)
        return f"${text}$"
    text = latex_text(cell.text)
    return rf"\textbf{{{text}}}" if cell.strong else text


def latex_text(text: str) -> str:
    """A text for LaTeX: every character that it gives a meaning to is printed as it is."""
    return "".join(_LATEX.get(char, char) for char in one_line(text))


def html_page(sheet: Sheet) -> str:
    """The sheet as a web page of its own, without scripts or anything from elsewhere."""
    heads = "".join(_html_cell("th", column, Cell(column.head)) for column in sheet.columns)
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
    kind = ' class="n"' if column.numbers else ""
    text = _escaped(cell.text)
    if cell.strong:
        text = _FIRST.sub(r"<strong>\g<0></strong>", text, 1)
    return f"<{tag}{kind}>{text}</{tag}>"


def _escaped(text: str) -> str:
    return html.escape(one_line(text))


def one_line(text: str) -> str:
    """The text without line breaks and control characters, a space in their place."""
    return _BREAKS.sub(" ", text).strip()
