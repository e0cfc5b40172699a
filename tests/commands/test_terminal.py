"""Printed tables and JSON: nothing is parsed as markup, cut off, or invalid."""

import io
import json
import math
import unicodedata
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from partialnas.cli import main
from partialnas.commands.terminal import (
    add_column,
    make_console,
    plain_table,
    print_json,
    print_lines,
    print_table,
)
from partialnas.search.session.progress import Progress
from partialnas.space.errors import printable_message

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=60)
NUMBERS = st.from_regex(r"[0-9]{1,3}(,[0-9]{3}){0,3}( ± [0-9]{1,4})?", fullmatch=True)


def printed(table: Any, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)  # its markup is on
    with console.capture() as captured:
        print_table(console, table)
    return captured.get()


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(NAMES, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4),
    width=st.sampled_from([40, 80, 200]),
)
def test_no_character_of_a_table_is_lost(rows: list[tuple[str, ...]], width: int) -> None:
    table = plain_table("", "", "first", "second", "third")
    for row in rows:
        table.add_row(*row)
    output = printed(table, width)
    expected = "".join(map("".join, [*rows, ("first", "second", "third")]))
    shown = "".join(line for line in output.splitlines() if "─" not in line)
    assert sorted(shown.replace(" ", "")) == sorted(expected.replace(" ", ""))


def test_numbers_are_never_broken_within_a_word() -> None:
    table = plain_table("", "", *"abcdef")
    table.add_row("a-name-that-is-much-too-long-for-any-table-of-this-width", *["1,234,567"] * 6)
    output = printed(table, 80)
    assert output.count("1,234,567") == 6
    assert max(map(len, output.splitlines())) <= 85
    rows = output.rpartition("─")[2]
    folded = "".join(line.split()[0] for line in rows.splitlines() if line.strip())
    assert folded == "a-name-that-is-much-too-long-for-any-table-of-this-width"


def test_markup_is_printed_as_it_is() -> None:
    table = plain_table("[bold]title[/bold]", "", "[red]")
    table.add_row("[x]", "[/]")
    output = printed(table, 80).replace("\n", "")
    for text in ("[bold]title[/bold]", "[red]", "[x]", "[/]"):
        assert text in output


def test_json_has_null_for_numbers_that_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": math.nan, "b": [math.inf, 1.5], "c": "NaN"})

    def refuse(name: str) -> None:
        raise ValueError(name)

    data = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert data == {"a": None, "b": [None, 1.5], "c": "NaN"}


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x1b\a\r\x9b\u202e"))


def controls(text: str) -> set[str]:
    """Return the characters that control a terminal or reverse its text, without line breaks."""
    dangerous = {"Cc", "Zl", "Zp"}
    marks = {*"\u061c\u200e\u200f", *map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))}
    return {char for char in text if unicodedata.category(char) in dangerous or char in marks} - {
        "\n", "\t"
    }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(HOSTILE, min_size=3, max_size=3))
def test_no_text_controls_the_terminal(texts: list[str]) -> None:
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        console = make_console()
        print_lines(console, *texts)
        console.print(texts[0])
        console.print(Text(texts[1]))
        table = plain_table(*texts)
        add_column(table, texts[0], numeric=False)
        table.add_row(*texts)
        print_table(console, table)
        Progress(Console(stderr=True)).event(texts[2])
        with suppress(SystemExit):
            main(["--", texts[0]])
        with suppress(SystemExit):
            main(["ratios", f"{texts[0]}:1"])
    assert controls(output.getvalue()) == set()


def test_layout_spaces_and_emoji_are_printed_as_they_are() -> None:
    text = "a\n\tb\u00a0c\u2009漢 \U0001f469\u200d\U0001f52c \u2764\ufe0f"
    assert printable_message(text) == text
    assert printable_message("\x1b[0m \u202e \x9b \r") == r"\x1b[0m \u202e \x9b \r"
