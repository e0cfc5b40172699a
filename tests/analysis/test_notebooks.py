"""The notebooks run on the shipped ledgers, which contain no private paths."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from partialnas.analysis import load

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "analysis" / "notebooks"
LEDGERS = sorted((NOTEBOOKS / "ledgers").iterdir())
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.py") if path.stem != "make_ledgers")
LARGEST = 400_000


def run_cli(name: str, folder: Path) -> str:
    command = [sys.executable, str(NOTEBOOKS / f"{name}.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_ledgers", NOTEBOOKS / "make_ledgers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_lists_every_notebook() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)\.py` \|", page, re.MULTILINE) != []
    assert sorted(re.findall(r"^\| `(\w+)\.py` \|", page, re.MULTILINE)) == NAMES


def test_an_ablation_in_a_notebook_ends_in_a_table_with_every_arm(tmp_path: Path) -> None:
    output = run_cli("ablation_table", tmp_path)
    table = (tmp_path / "results/notebooks/ablation_table/partitions.tex").read_text("utf-8")
    arms = load(NOTEBOOKS / "ledgers" / "partitions")["arm"].unique()
    assert len(arms) == 4
    for arm in arms:
        assert arm in output
        assert arm in table


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ablation_table"])
def test_a_notebook_runs_and_leaves_figures(name: str, tmp_path: Path) -> None:
    assert run_cli(name, tmp_path)
    figures = [*(tmp_path / "results" / "notebooks" / name).glob("*.pdf")]
    assert figures
    assert all(path.read_bytes().startswith(b"%PDF") for path in figures)


@pytest.mark.parametrize("ledger", LEDGERS, ids=lambda path: path.name)
def test_a_shipped_ledger_is_complete_small_and_without_private_paths(ledger: Path) -> None:
    assert sorted(path.name for path in ledger.iterdir()) == ["ledger.sqlite", "study.yaml"]
    assert load(ledger, stage=None)["state"].eq("done").all()
    held = b"".join(path.read_bytes() for path in ledger.iterdir())
    assert len(held) < LARGEST
    assert not re.findall(rb"(?<![\w./])/(?:home|root|tmp|work|Users)/", held)


def test_the_ledgers_are_those_of_the_listed_commands(maker: ModuleType) -> None:
    commands = maker.COMMANDS.replace("\\\n", "").strip().splitlines()
    folders = {maker.add_folder(line.split())[-1] for line in commands if line.startswith("run")}
    assert folders == {str(maker.RESULTS / path.name) for path in LEDGERS}
    for line in commands:
        verb, subject, *_ = line.split()
        if verb == "run":
            assert (ROOT / subject).exists()
        else:
            assert str(maker.RESULTS / subject) in folders


def test_a_ledger_with_a_path_of_its_machine_is_not_packed(
    maker: ModuleType, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    shutil.copytree(LEDGERS[0], study)
    assert maker.pack(study, tmp_path / "packed") > 0
    (study / "study.yaml").write_text("task: folder:/home/someone/birds", encoding="utf-8")
    with pytest.raises(SystemExit, match="contains a path"):
        maker.pack(study, tmp_path / "packed")
