"""The notebooks are current; they run on the shipped ledgers, which contain no private paths."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

from partialnas.analysis import load

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "analysis" / "notebooks"
LEDGERS = sorted((NOTEBOOKS / "ledgers").iterdir())
LARGEST = 400_000
LARGEST_NOTEBOOKS = 3_000_000


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = load_script("make_notebooks")


@pytest.fixture
def maker() -> ModuleType:
    return load_script("make_ledgers")


def committed(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def test_the_page_lists_every_notebook() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == MAKER.NAMES
    assert len(MAKER.NAMES) == len([*NOTEBOOKS.glob("*.ipynb")])


@pytest.mark.parametrize("name", MAKER.NAMES)
def test_a_notebook_has_the_cells_of_its_script(name: str) -> None:
    cells, expected = committed(name).cells, MAKER.read_script(name).cells
    assert [(c.id, c.cell_type, c.source) for c in cells] == [
        (c.id, c.cell_type, c.source) for c in expected
    ], f"make notebooks writes {name}.ipynb again"
    assert all(cell.metadata == {} for cell in cells)
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert any("image/png" in out.get("data", {}) for cell in code for out in cell.outputs)


def test_notebooks_are_small_and_without_private_paths() -> None:
    texts = [path.read_text(encoding="utf-8") for path in NOTEBOOKS.glob("*.ipynb")]
    assert sum(map(len, texts)) < LARGEST_NOTEBOOKS
    for text in texts:
        assert not re.findall(r"(?<![\w./+=])/(?:home|root|tmp|work|Users|var)/", text)


def test_masks_cover_timings_and_no_other_numbers() -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                outputs=[
                    nbformat.v4.new_output(
                        "stream", text="16 trials, 1,204 img/s, 3.5 s, tau 0.52"
                    ),
                    nbformat.v4.new_output("display_data", {"image/png": "eA=="}),
                ]
            )
        ]
    )
    texts = MAKER.text_outputs(notebook, training=False)
    assert texts == ["16 trials, # img/s, # s, tau 0.52", ""]
    texts = MAKER.text_outputs(notebook, training=True)
    assert texts == ["# trials, # img/s, # s, tau #", ""]


def test_a_script_runs_without_jupyter(tmp_path: Path) -> None:
    command = [sys.executable, str(NOTEBOOKS / "ablation_table.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    table = (tmp_path / "results/notebooks/ablation_table/partitions.tex").read_text("utf-8")
    arms = load(NOTEBOOKS / "ledgers" / "partitions")["arm"].unique()
    assert len(arms) == 4
    for arm in arms:
        assert arm in ended.stdout
        assert arm in table


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKER.NAMES)
def test_a_notebook_runs_with_the_outputs_in_its_file(name: str, tmp_path: Path) -> None:
    notebook = MAKER.execute(name, tmp_path)
    is_training = name in MAKER.TRAINING
    texts = [MAKER.text_outputs(n, training=is_training) for n in (notebook, committed(name))]
    assert texts[0] == texts[1], f"make notebooks writes {name}.ipynb again"
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
