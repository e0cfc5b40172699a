"""Ledgers whose names would control a terminal: earlier versions accepted them."""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from partialnas.cli import main

HOSTILE = "red\x1b[31m bell\a back\r \u202egnorw csi\x9b2J line\nend"
STUDY = "study\x1b]0;title\a"


@pytest.fixture
def folder(tmp_path: Path, ablations: Callable[..., Path]) -> Path:
    values = {
        "base": {0: 88.0, 1: 88.4, 2: 88.2},
        HOSTILE: {0: 90.0, 1: 90.5, 2: 90.1},
        f"failed {HOSTILE}": {0: None, 1: None, 2: None},
    }
    settings = {
        "study": STUDY,
        "question": HOSTILE,
        "objectives": {"val_accuracy": "max", "macs": "min"},
    }
    return ablations(tmp_path / "ledger", values, study=settings)


def control_characters(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")} - {"\n"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "DIR"),
        ("status", "DIR", "--watch"),
        ("table", "DIR"),
        ("table", "DIR", "--format", "html"),
        ("effects", "DIR", "-o", "OUT.svg"),
        ("pareto", "DIR", "-x", "macs", "-y", "val_accuracy", "-o", "OUT.svg"),
        ("figure", "curves", "DIR", "-o", "OUT.svg"),
        ("report", "DIR", "-o", "OUT.html"),
        ("export", "DIR", "-o", "OUT.csv"),
        ("merge", "DIR", "DIR", "-o", "OUT"),
        ("describe", "DIR:1"),
    ],
    ids=" ".join,
)
def test_no_name_controls_the_terminal(
    arguments: tuple[str, ...], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out\x1b[31m"
    words = [word.replace("DIR", str(folder)).replace("OUT", str(output)) for word in arguments]
    with pytest.raises(SystemExit) as ended:
        main(words)
    shown = "".join(capsys.readouterr())
    assert ended.value.code in (0, 2)
    assert "may be a bug" not in shown
    assert control_characters(shown) == set()
    if arguments == ("status", "DIR"):
        assert r"red\x1b[31m" in shown.replace("\n", "")
    for figure in tmp_path.glob("*.svg"):
        ElementTree.parse(figure)
    for page in tmp_path.glob("*.html"):
        assert control_characters(page.read_text()) <= {"\u202e"}  # no terminal shows the page
