import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partialnas.runs.datasets.task import Task, resolve_task
from partialnas.space.errors import UserError


def test_facts_of_the_bundled_data_sets() -> None:
    assert resolve_task("mnist5k") == Task(data="mnist5k", resolution=28, channels=1, classes=10)
    assert resolve_task("digits") == Task(data="digits", resolution=8, channels=1, classes=10)


def test_a_stated_resolution_takes_precedence() -> None:
    assert resolve_task("mnist5k", 14).resolution == 14


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("", "choose mnist5k, digits, cifar10:PATH, cifar100:PATH"),
        (":x", "choose mnist5k, digits, cifar10:PATH, cifar100:PATH"),
        ("mnist", "did you mean mnist5k"),
        ("mnist5k:", "expected mnist5k, got"),
        ("mnist5k:/tmp", "expected mnist5k, got"),
        ("cifar10", "expected cifar10:PATH"),
        ("cifar10:", "expected cifar10:PATH"),
        ("folder", "expected folder:PATH"),
    ],
)
def test_the_error_of_an_unknown_data_set_says_what_is_expected(data: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        resolve_task(data)


@pytest.mark.parametrize("data", ["cifar10:nowhere", "cifar100:nowhere", "folder:nowhere"])
def test_the_error_of_a_missing_data_set_names_its_path(data: str, tmp_path: Path) -> None:
    kind = data.partition(":")[0]
    with pytest.raises(UserError, match=r"nowhere[ ;].*(archive|folder)"):
        resolve_task(f"{kind}:{tmp_path / 'nowhere'}")


def test_a_web_page_saved_as_an_archive_is_rejected(tmp_path: Path) -> None:
    page = tmp_path / "cifar-10-python.tar.gz"
    page.write_text("<html>not found</html>")
    with pytest.raises(UserError, match="not a tar archive"):
        resolve_task(f"cifar10:{page}")


@pytest.mark.parametrize("resolution", [0, -1, 100_000])
def test_an_invalid_resolution_is_rejected(resolution: int) -> None:
    with pytest.raises(UserError, match=r"task\.resolution: "):
        resolve_task("digits", resolution)


def test_identity_does_not_depend_on_the_path() -> None:
    here = Task(data="cifar10:/here", resolution=32, channels=3, classes=10)
    there = here.model_copy(update={"data": "cifar10:/there"})
    other = here.model_copy(update={"data": "cifar100:/here"})
    assert here.identity() == there.identity() != other.identity()
    assert here.identity() != here.model_copy(update={"resolution": 16}).identity()


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "set" / name / "0.png")
    monkeypatch.chdir(tmp_path)
    assert resolve_task("folder:set").path == tmp_path / "set"


def test_tasks_recipes_and_records_do_not_import_torch() -> None:
    code = (
        "import sys, partialnas.runs.datasets.task, partialnas.runs.config.recipe;"
        "import partialnas.runs.records.record, partialnas.runs.records.job;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
