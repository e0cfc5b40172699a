"""Workers of Ray on a real GPU: faults, shares of memory, a driver that leaves the GPU alone."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.system.nvml import gpu_uuid
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study

pytestmark = pytest.mark.gpu

TRIAL = """
import torch

def evaluate(architecture, seed, epochs):
    width = architecture.widths[0]
    if width == 12:  # a kernel asserts that the index is in range
        return {"val_nll": float(torch.ones(4, device="cuda")[torch.tensor([9], device="cuda")])}
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.empty(int(0.6 * total), dtype=torch.uint8, device="cuda")
    except torch.OutOfMemoryError:
        return {"val_nll": 1 / width, "fits": 0.0}
    return {"val_nll": 1 / width, "fits": 1.0}
"""

STUDY: dict[str, Any] = {
    "study": "on_gpu",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "arms": {f"width{width}": {"width": width} for width in (8, 12, 16)},
    "objectives": {"val_nll": "min"},
    "executor": {"device": "cuda", "gpus_per_trial": 0.5},
}


def test_a_kernel_that_asserts_costs_its_trial_alone_and_memory_has_a_border(
    tmp_path: Path,
) -> None:
    (tmp_path / "on_gpu.py").write_text(TRIAL)
    study = Study.model_validate(STUDY | {"trial": "on_gpu:evaluate"})
    run_study(study, tmp_path / "out", base_dir=tmp_path)
    with Ledger.open(tmp_path / "out") as ledger:
        rows = {row.name: row for row in ledger.trials()}
    assert {name: row.state for name, row in rows.items()} == {
        "width8": "done",
        "width12": "failed",
        "width16": "done",
    }
    assert "device fault: device-side assert triggered" in str(rows["width12"].reason)
    assert rows["width8"].metrics["fits"] == 0.0
    assert rows["width8"].environment["gpu_share"] == "0.5"


def test_the_driver_has_no_context_on_the_gpu(tmp_path: Path) -> None:
    recipe, measure = {"epochs": 1}, {"device": "cuda", "max_seconds": 1}
    study = STUDY | {"recipe": {"use": "short", **recipe}, "measure": measure}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    program = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from partialnas.search.session.run_study import run_study\n"
        "from partialnas.search.study.study_file import load_study\n"
        "if __name__ == '__main__':\n"
        "    folder = Path(sys.argv[1])\n"
        "    run_study(load_study(folder / 'study.yaml'), folder / 'out')\n"
        "    assert not torch.cuda.is_initialized()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    with Ledger.open(tmp_path / "out") as ledger:
        assert {m.device_kind for m in ledger.measurements()} == {"cuda"}


def test_nvml_and_torch_mean_the_same_gpu() -> None:
    for index in range(torch.cuda.device_count()):
        uuid = str(torch.cuda.get_device_properties(index).uuid)
        assert str(gpu_uuid(index)).removeprefix("GPU-").removeprefix("MIG-") == uuid
