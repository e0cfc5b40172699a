"""The verb `audit`, on real trainings of digits."""

import csv
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import run_cli
from scipy.stats import kendalltau

from partialnas.analysis import load
from partialnas.runs.ledger.ledger import Ledger

STUDY: dict[str, Any] = {
    "study": "small",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [4, 6, 8, 12], "ratio": ["1/4", "1/2"]}},
    "recipe": {"use": "short", "epochs": 1},
    "search": {"sampler": "random"},
    "objectives": {"val_nll": "min", "macs": "min"},
    "measure": {"batch_size": 8, "max_seconds": 0.1},
    "budget": {"trials": 6},
    "executor": {"kind": "in-process"},
}


@pytest.mark.slow
def test_a_search_is_audited_drawn_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # device locks of this test only
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    out, figure = tmp_path / "out", tmp_path / "trust.pdf"
    assert run_cli("run", tmp_path / "study.yaml", "--out", out) == 0
    command = ("audit", out, "--longer", "2x", "--sample", 5, "-o", figure)
    assert run_cli(*command) == 0
    output = capsys.readouterr().out
    longer = load(out, stage="audit")
    assert len(longer) == 10
    assert set(longer["fidelity"]) == {2}
    short, reached = load(out).groupby("digest"), longer.groupby("digest")
    means = reached["val_nll"].mean()
    tau = kendalltau(short["val_nll"].mean().reindex(means.index), means).statistic
    assert f"{tau:.2f} [".replace("-", "−") in output
    assert "(ceiling)" in output
    lines = (tmp_path / "trust-agreement.csv").read_text().splitlines()
    rows = {
        (row["target"], row["ranked_by"], row["by"], row["kind"]): row
        for row in csv.DictReader(lines[1:])
    }
    tau_row = rows["val_nll", "1 epoch", "val_nll", "proxy"]
    assert float(tau_row["tau"]) == pytest.approx(tau)
    with Ledger.open(out) as ledger:
        trials = len(ledger.trials())
    assert run_cli(*command) == 0
    assert run_cli("audit", out, "--report", "-o", tmp_path / "again.pdf") == 0
    with Ledger.open(out) as ledger:
        assert len(ledger.trials()) == trials
    assert (tmp_path / "again.pdf").read_bytes() == figure.read_bytes()
    for name in ("trust.pdf", "trust.csv", "trust.md", "trust-ranks.csv", "trust-agreement.csv"):
        assert run_cli("verify", tmp_path / name, "--against", out) == 0
    capsys.readouterr()
    assert run_cli("status", out) == 0
    assert "stage audit: 10 trials (5 of" in capsys.readouterr().out


def test_user_errors_are_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Ledger.create(tmp_path / "empty", {"study": "empty", "frozen": "{}"}).close()
    for arguments, message in (
        ([tmp_path], "no ledger here"),
        ([tmp_path / "empty"], "no trials"),
        ([tmp_path / "empty", "--report"], "has no audit"),
        ([tmp_path / "empty", "--sample", 2], "greater than or equal to 3"),
    ):
        assert run_cli("audit", *arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
