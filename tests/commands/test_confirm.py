"""The verb `confirm`, and `check` of an ablation, on real trainings of digits."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import run_cli

from partialnas.analysis import load
from partialnas.runs.ledger.ledger import Ledger

STUDY: dict[str, Any] = {
    "study": "small",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
    "recipe": {"use": "short", "epochs": 1},
    "seeds": 2,
    "ablation": {
        "design": "one-factor",
        "match": "macs",
        "factors": {"ratio": ["1/4", "1/2"], "augmentation": {"mixup": {"recipe.mixup": 0.2}}},
        "deviation": {"val_nll": 0.1},
    },
    "objectives": {"val_nll": "min"},
    "measure": {"batch_size": 8, "max_seconds": 0.1},
    "executor": {"kind": "in-process"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("confirm")
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    assert run_cli("run", folder / "study.yaml", "--out", folder / "out") == 0
    return folder


def test_check_prints_the_design_and_its_power(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("check", folder / "study.yaml") == 0
    output = capsys.readouterr().out
    assert "design: one-factor, 3 arms, equal macs ±2%" in output
    assert re.search(r"ratio=1/2 +[\d,]+ +[\d,]+  baseline +[+-][01]\.\d%  width", output)
    assert re.search(r"augmentation=mixup .* \+0\.0%  unchanged", output)
    assert "trials: 6 (2 seeds for each network)" in output
    assert re.search(r"power: 2 seeds detect a difference of [\d.]+ in val_nll", output)


def test_a_pilot_measures_the_spread_over_seeds(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from statistics import stdev

    assert run_cli("check", folder / "study.yaml", "--pilot", 2) == 0
    output = capsys.readouterr().out
    trials = load(folder / "out")
    expected = stdev(trials[trials["arm"].eq("baseline")]["val_nll"])
    assert f"± {expected:.4g}\n" in output
    assert run_cli("check", folder / "study.yaml", "--pilot", 1) == 2
    assert "at least 2 seeds" in capsys.readouterr().err


def test_confirm_trains_the_best_and_its_baseline_and_reports_the_test_split(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out"
    before = load(out)
    assert run_cli("confirm", out, "--top", "1", "--seeds", "2") == 0
    output, progress = capsys.readouterr()
    fresh = load(out, stage="confirm")
    assert "baseline" in set(fresh["arm"])
    assert set(fresh["seed"]) == {10_000, 10_001}
    assert "confirm: the best 1, 2 fresh seeds" in output
    mean = fresh[fresh["arm"].eq("baseline")]["test_nll"].mean()
    assert f"{mean:.4f}" in output
    assert load(out).equals(before)
    with Ledger.open(out) as ledger:
        trials = len(ledger.trials())
    assert [line.split()[0] for line in progress.splitlines() if line.startswith("[")] == [
        f"[{number}/{trials}]" for number in range(len(before) + 1, trials + 1)
    ]
    assert run_cli("confirm", out, "--top", "1", "--seeds", "2") == 0
    with Ledger.open(out) as ledger:
        assert len(ledger.trials()) == trials
    capsys.readouterr()
    assert run_cli("status", out) == 0
    assert f"stage confirm: {len(fresh)} trials" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top", "best"], "expected front, all or a positive number, got 'best'"),
        (["--recipe", "long"], "'long' is not one of 'short', 'standard'"),
        (["--condition", "warm"], "--condition"),
    ],
)
def test_invalid_confirmations_are_rejected(
    folder: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("confirm", folder / "out", *options) == 2
    assert message in capsys.readouterr().err
