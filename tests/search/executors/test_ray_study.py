"""A study of real trainings under Ray; tests/test_chaos.py interrupts such studies."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from partialnas.runs.ledger.ledger import Ledger

STUDY: dict[str, Any] = {
    "study": "real",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [4 * i for i in range(2, 12)], "mlp_ratio": [1, 2, 3]}},
    "search": {"sampler": "nsga2", "population": 6},
    "budget": {"trials": 4},
    "executor": {"kind": "ray", "workers": 2},
    "recipe": {"use": "short", "epochs": 1, "keep_weights": "all"},
    "measure": {"batch_size": 8, "max_seconds": 0.5, "retries": 0},
    "arms": {"resnet": "timm:test_resnet"},
}


@pytest.mark.slow
def test_real_trainings_under_ray_leave_records_measurements_and_weights(tmp_path: Path) -> None:
    path, out = tmp_path / "study.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(STUDY))
    command = [sys.executable, "-m", "partialnas", "run", str(path), "--out", str(out)]
    driver = subprocess.run(command, capture_output=True, text=True, check=False)
    assert driver.returncode == 0, driver.stderr
    assert "real: 4 done" in driver.stdout
    with Ledger.open(out) as ledger:
        rows = [row for row in ledger.trials() if row.is_final]
        timed = {m.digest for m in ledger.measurements()}
    assert timed == {row.digest for row in rows}
    assert {path.stem for path in (out / "weights").iterdir()} == {row.key for row in rows}
    assert not list((out / "checkpoints").iterdir())
