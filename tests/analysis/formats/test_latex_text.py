"""Any text is LaTeX that pdflatex compiles without further packages."""

import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.analysis.formats.latex import to_latex
from partialnas.analysis.formats.latex_text import escape_latex
from partialnas.analysis.formats.text_table import Cell, Column, TextTable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50%", r"a\_b \& 50\%"),
        ("Ångström naïve", r"\r{A}ngstr\"{o}m na\"{i}ve"),
        ("λ=0.5, Ω, Ο, ο", r"$\lambda$=0.5, $\Omega$, O, o"),
        ("x\u0302", r"\^{x}"),
        ("ﬁ ½ ℓ ™", "fi 1/2 l TM"),
        ("漢字!", r"\ifdefined\Umathcode 漢字\else U+6F22 U+5B57\fi{}!"),
        ("ok\N{VARIATION SELECTOR-16}\u200d\u202e", "ok"),
        ("\x1b[31m", " {[}31m"),
        ("one-factor [95%]", r"one-factor [95\%]"),
    ],
)
def test_letters_have_commands_and_other_scripts_have_code_points(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


@given(st.text())
def test_pdflatex_reads_ascii_only(text: str) -> None:
    printed = escape_latex(text)
    while r"\ifdefined\Umathcode " in printed:
        before, _, rest = printed.partition(r"\ifdefined\Umathcode ")
        printed = before + rest.partition(r"\else ")[2].replace(r"\fi{}", "", 1)
    assert printed.isascii()
    assert printed.count("$") % 2 == printed.count(r"\$") % 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_a_table_of_all_characters_compiles(tmp_path: Path) -> None:
    codes = (*range(0x20, 0x3000), *range(0x1F300, 0x1F650), *range(sys.maxunicode, 0x3000, -9973))
    characters = [chr(code) for code in codes if unicodedata.category(chr(code)) != "Cs"]
    rows = ["".join(characters[i : i + 60]) for i in range(0, len(characters), 60)]
    names = Column(header="λ é 漢", cells=[*map(Cell, rows)])
    numbers = Column(header="n", cells=[*map(Cell, rows)], is_numeric=True)
    sheet = TextTable(name="é", columns=[names, numbers], caption=" ".join(rows[:12]))
    (tmp_path / "t.tex").write_text(to_latex(sheet), encoding="utf-8")
    document = (
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{t}\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]
