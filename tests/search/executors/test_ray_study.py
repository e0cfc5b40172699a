"""A study of real trainings under Ray; tests/test_chaos.py interrupts such studies."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study

STUDY: dict[str, Any] = {
    "study": "real",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [4 * i for i in range(2, 12)], "mlp_ratio": [1, 2, 3]}},
    "search": {"sampler": "nsga2", "population": 6},
    "budget": {"trials": 4},
    "executor": {"kind": "ray", "workers": 2},
    "recipe": {"use": "short", "epochs": 1, "keep_weights": "all"},
    "measure": {"batch_size": 8, "max_seconds": 0.1, "retries": 0},
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
    assert not list((out / "checkpoints").glob("*"))


FAULTY_TRIAL = """
from partialnas.space.errors import DeviceFaultError

def evaluate(architecture, seed, epochs):
    if architecture.widths[0] == 12:
        raise DeviceFaultError("cuda", "an illegal memory access was encountered")
    return {"val_nll": 1 / architecture.widths[0]}
"""


@pytest.mark.slow
def test_a_network_that_breaks_its_device_fails_and_the_study_goes_on(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY_TRIAL)
    arms = {f"width{width}": {"width": width} for width in (8, 12, 16)}
    changed = {"trial": "faulty:evaluate", "arms": arms, "objectives": {"val_nll": "min"}}
    kept = {key: STUDY[key] for key in ("study", "task", "base", "executor")}
    study = Study.model_validate({**kept, **changed})
    run_study(study, tmp_path / "out", base_dir=tmp_path)
    with Ledger.open(tmp_path / "out") as ledger:
        rows = {row.name: (row.state, row.reason) for row in ledger.trials()}
    fault = "device fault: an illegal memory access was encountered"
    assert rows == {
        "width8": ("done", None),
        "width12": ("failed", fault),
        "width16": ("done", None),
    }
