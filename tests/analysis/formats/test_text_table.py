import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from partialnas.analysis.formats.data_files import frame_to_csv
from partialnas.analysis.formats.latex import escape_latex, to_latex
from partialnas.analysis.formats.text_table import Cell, Column, TextTable, to_html, to_markdown

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20)
NASTY = st.sampled_from(
    ["", "|", "\\", "\\|", "a_b*c", "<b>&amp;", "[x]", "*", "-->", "a & b \\\\"]
)


def sheet_of(*names: str, strong: int = -1) -> TextTable:
    numbers = [Cell(f"{i}.50 ± 0.25", bold=i == strong) for i in range(len(names))]
    arms = Column(header="Arm", cells=[*map(Cell, names)], is_numeric=False)
    return TextTable(
        name="s", columns=[arms, Column(header="x (%)", cells=numbers)], caption="Of two."
    )


class Cells(HTMLParser):
    """Parser that collects the cell texts and the tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert all(name in ("class", "charset", "lang") for name, _ in attrs)
        self.tags.add(tag)
        if tag in ("td", "th"):
            self._inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data


@given(st.lists(st.one_of(TEXT, NASTY), min_size=1, max_size=4))
def test_any_name_survives_html(names: list[str]) -> None:
    page = Cells()
    page.feed(to_html(sheet_of(*names)))
    assert page.texts[2::2] == [name.strip() for name in names]
    plain = "html head meta title style body table caption thead tbody tr th td"
    assert page.tags == set(plain.split())


@given(st.lists(st.one_of(TEXT, NASTY), min_size=1, max_size=4))
def test_any_name_survives_markdown(names: list[str]) -> None:
    tokens = MarkdownIt().enable("table").parse(to_markdown(sheet_of(*names)))
    inline = [token for token in tokens if token.type == "inline"]
    cells = [
        "".join(child.content for child in token.children or ()) for token in inline[2:-1]
    ]  # fmt: skip
    assert {child.type for token in inline for child in token.children or ()} <= {
        "text",
        "text_special",
    }
    assert [" ".join(cell.split()) for cell in cells[::2]] == [" ".join(n.split()) for n in names]
    assert [cell.split()[0] for cell in cells[1::2]] == [f"{i}.50" for i in range(len(names))]


@given(st.lists(st.one_of(TEXT, NASTY), min_size=1, max_size=4))
def test_no_name_breaks_the_structure_of_latex(names: list[str]) -> None:
    text = to_latex(sheet_of(*names))
    bare = re.sub(r"\$\^(2|\\circ)\$|\\[\\{}&%#$_^~]", "", text.replace("\\\\\n", "\n"))
    rows = bare.split("\\midrule\n")[1].split("\\bottomrule")[0].rstrip().splitlines()
    assert [row.count("&") for row in rows] == [1] * len(names)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not any(set("#^~_<>|") & set(row) for row in rows)
    assert not any(row.lstrip().startswith(("[", "*")) for row in rows)  # \\ would take it


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50%", r"a\_b \& 50\%"),
        ("−1 ± 2", r"$-$1 $\pm$ 2"),
        ("x--y-z", "x-{}-y-z"),
        ("it's ''so''", "it's {'}'so{'}'"),
        ("[1]*", "{[}1]*"),
        ("\\frac{a}", r"\textbackslash{}frac\{a\}"),
        ("a\nb", "a b"),
    ],
)
def test_latex_prints_every_character_as_it_is(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


def test_only_the_mean_of_the_best_arm_is_bold() -> None:
    sheet = sheet_of("one", "two", strong=1)
    assert r"two & $\mathbf{1.50} \pm 0.25$ \\" in to_latex(sheet)
    assert "| **1.50** ± 0.25 |" in to_markdown(sheet)
    assert "<strong>1.50</strong> ± 0.25" in to_html(sheet)
    assert to_latex(sheet).count("mathbf") == 1


def test_numbers_are_math_and_words_are_not() -> None:
    texts = ["1,234", "−0.50 [−1.00, +0.10]", "<0.001", "~3,000", "failed", "2 (1 failed)", ""]
    column = Column(header="x", cells=[*map(Cell, texts)])
    rows = to_latex(TextTable(name="s", columns=[column], caption="")).split("\\midrule\n")[1]
    assert [row.removesuffix("\\\\").strip() for row in rows.splitlines()[:7]] == [
        "$1{,}234$", r"$-0.50\ [-1.00, +0.10]$", "$<0.001$", r"${\sim}3{,}000$", "failed",
        "2 (1 failed)", "",
    ]  # fmt: skip


def test_a_wide_table_spans_two_columns_and_a_long_header_two_lines() -> None:
    cells = [Cell("x" * 50)]
    columns = [Column(header="Validation accuracy (%)", cells=cells) for _ in range(2)]
    text = to_latex(TextTable(name="a b", columns=columns, caption="Two."))
    assert text.count("{table*}") == 2
    cells = [[cell.strip(" \\") for cell in line.split("&")] for line in text.splitlines()]
    assert cells[7:9] == [["Validation"] * 2, [r"accuracy (\%)"] * 2]
    assert r"\label{tab:a-b}" in text
    assert "{table}" in to_latex(sheet_of("one"))


def test_latex_leaves_sizes_to_the_document_and_aligns_its_source() -> None:
    text = to_latex(sheet_of("one", "the second"))
    for command in ("resizebox", "size", r"\small", "tabcolsep", "sbox", "usepackage{g"):
        assert command not in text
    rows = text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert len({line.index("&") for line in rows[:2]}) == 1
    assert len({line.index("\\\\") for line in rows[:2]}) == 1


def test_without_a_caption_the_tabular_is_alone() -> None:
    sheet = replace(sheet_of("one"), caption="")
    lines = to_latex(sheet).splitlines()
    assert lines[1].startswith(r"\begin{tabular}")
    assert lines[-1] == r"\end{tabular}"
    assert "caption" not in to_html(sheet).partition("<table>")[2]
    assert to_markdown(sheet).count("\n\n") == 0


def test_groups_of_columns_have_a_heading_in_every_format() -> None:
    columns = [
        Column(header="Arm", cells=[Cell("a")], is_numeric=False),
        Column(header="mean", cells=[Cell("1.00")], group="Accuracy (%)"),
        Column(header="Δ", cells=[Cell("+0.10")], group="Accuracy (%)"),
        Column(header="mean", cells=[Cell("2.00")], group="NLL"),
    ]
    sheet = TextTable(name="s", columns=columns, caption="c")
    text = to_latex(sheet)
    assert r" & \multicolumn{2}{c}{Accuracy (\%)} & \multicolumn{1}{c}{NLL} \\" in text
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}" in text
    assert "| Accuracy (%): mean | Accuracy (%): Δ | NLL: mean |" in to_markdown(sheet)
    assert '<tr><th colspan="1"></th><th colspan="2">Accuracy (%)</th>' in to_html(sheet)


def test_csv_fields_with_a_hash_are_quoted_so_that_comments_can_be_read() -> None:
    table = pd.DataFrame({"#": ["#3", 'a "q", #', "plain"], "n": [1.5, 2.0, float("nan")]})
    text = "# a comment\n" + frame_to_csv(table)
    read = pd.read_csv(io.StringIO(text), comment="#")
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
