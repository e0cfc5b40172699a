"""`status --trials`: the numbers of trials, and options that are stated twice."""

from pathlib import Path

import pytest
from command_line import run_cli

STUDY = """
study: two-arms
seeds: 2
arms:
  narrow: {width: 8, depths: [1, 1, 1, 1], stem_stride: 1, head_width: 16}
  wide: {width: 16, depths: [1, 1, 1, 1], stem_stride: 1, head_width: 16}
reference: {width: 8, depths: [1, 1, 1, 1], stem_stride: 1}
task: {data: digits}
recipe: {epochs: 1}
objectives: {val_nll: min}
measure: none
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a dry run with two arms of two seeds."""
    monkeypatch.chdir(tmp_path)
    Path("arms.yaml").write_text(STUDY)
    assert run_cli("run", "arms.yaml", "--rehearse", "--out", "arms") == 0
    return Path("arms")


def test_trials_of_arms_are_listed_with_their_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("status", str(folder), "--trials", "--watch") == 2
    capsys.readouterr()
    assert run_cli("status", str(folder), "--trials") == 0
    output = capsys.readouterr().out
    assert "simulated" in output
    rows = [line.split() for line in output.splitlines()]
    listed = {(row[0], row[1], row[2], row[3]) for row in rows if len(row) > 4}
    assert {number for number, *_ in listed} == {"Dry", "trial", "1", "2", "3", "4"}
    arms = {("narrow", "0"), ("narrow", "1"), ("wide", "0"), ("wide", "1")}
    assert arms <= {(name, seed) for _, name, seed, _ in listed}


def test_options_stated_twice_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("effects", str(folder), "--metric", "val_nll", "--metric", "macs") == 2
    assert "--metric is stated 2 times" in capsys.readouterr().err
    assert run_cli("table", str(folder), "--metric", "val_nll", "--metric", "val_accuracy") == 0
