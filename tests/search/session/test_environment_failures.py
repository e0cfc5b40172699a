"""Trials that fail because of the environment are run again; defects of a network are not."""

import errno
import os
from pathlib import Path

import pytest

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.record import is_environment_failure
from partialnas.search.executors.base import run_item
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.errors import MachineError
from partialnas.space.values import Value

FUNCTION = """
import errno
import os
from pathlib import Path

def evaluate(architecture, seed, epochs):
    broken = Path(os.environ["PARTIALNAS_TEST_BROKEN"])
    width = architecture.widths[0]
    if width == 8:
        raise ArithmeticError("of the network")
    if broken.exists() and width == 12:
        import a_library_that_is_not_installed
    if broken.exists() and width == 16:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return {"val_nll": 1 / width}
"""


def study() -> Study:
    return Study.model_validate(
        {
            "study": "environment",
            "task": {"data": "digits"},
            "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
            "arms": {f"w{width}": {"width": width} for width in (8, 12, 16, 20)},
            "objectives": {"val_nll": "min"},
            "seeds": 1,
            "executor": {"kind": "in-process"},
            "trial": "environment_trial:evaluate",
        }
    )


def states(folder: Path) -> dict[str, tuple[str, int]]:
    with Ledger.open(folder) as ledger:
        names = {row.number: row.arm for row in ledger.arms()}
        rows = ledger.trials()
        return {str(names[row.proposal]): (row.state, row.attempts) for row in rows}


def test_they_run_again_on_resume_and_a_defect_of_a_network_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "environment_trial.py").write_text(FUNCTION)
    broken = tmp_path / "broken"
    broken.touch()
    monkeypatch.setenv("PARTIALNAS_TEST_BROKEN", str(broken))
    out = tmp_path / "out"
    run_study(study(), out, base_dir=tmp_path)
    assert {name: state for name, (state, _) in states(out).items()} == {
        "w8": "failed",
        "w12": "failed",
        "w16": "failed",
        "w20": "done",
    }
    assert "2 trials failed because of the environment" in capsys.readouterr().err
    broken.unlink()
    run_study(study(), out, base_dir=tmp_path)
    again = states(out)
    assert {name: state for name, (state, _) in again.items()} == {
        "w8": "failed",
        "w12": "done",
        "w16": "done",
        "w20": "done",
    }
    assert again["w8"] == ("failed", 1)
    assert again["w20"] == ("done", 1)


@pytest.mark.parametrize(
    "reason",
    [
        "ModuleNotFoundError: No module named 'timm.layers'",
        "ImportError: cannot import name 'layers' from 'timm'",
        f"OSError: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}: 'x.pt'",
        "RuntimeError: unable to open shared memory object </torch_1>: Too many open files (24)",
        "RuntimeError: PytorchStreamWriter failed writing file: No space left on device (28)",
    ],
)
def test_failures_of_software_and_machine_are_recognized(reason: str) -> None:
    assert is_environment_failure(reason)


@pytest.mark.parametrize(
    "reason",
    [
        "ArithmeticError: of the network",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x4 and 5x2)",
        "FileNotFoundError: [Errno 2] No such file or directory: 'mine.csv'",
        "out of memory on cpu with batch size 64",
        "val_nll is nan in epoch 1",
        "worker process died 3 times",
    ],
)
def test_failures_of_a_network_are_kept(reason: str) -> None:
    assert not is_environment_failure(reason)


class Item(Value):
    """An item that is not a job."""


@pytest.mark.parametrize(
    "error", [ImportError("no timm"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
)
def test_outside_a_network_they_end_the_run(error: Exception) -> None:
    def work(_: Item) -> None:
        raise error

    with pytest.raises(MachineError, match=r"no timm|No space left"):
        run_item(work, Item(), None)  # type: ignore[arg-type]
