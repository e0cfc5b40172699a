"""The page on Python: its code runs, its columns and its stable names are those of the code."""

import importlib
import re
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

from partialnas.analysis import load
from partialnas.analysis.frames.load import TRIAL_COLUMNS
from partialnas.analysis.frames.settings import TASK_COLUMNS
from partialnas.runs.config.recipe import Recipe
from partialnas.space.errors import MachineError, UserError

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "analysis" / "notebooks" / "ledgers"
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
FACES = ("partialnas", *(f"partialnas.{name}" for name in ("space", "runs", "search", "analysis")))


def section(title: str) -> str:
    """Return a section of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_blocks(code: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder / "results").mkdir()
    for name in ("quickstart", "partitions", "static-vs-dynamic"):
        (folder / "results" / name).symlink_to(SHIPPED / name)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(mpl, "get_backend", lambda: "agg")
    mpl.use("agg")
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, "docs/python.md", "exec"), names)
    return folder


@pytest.mark.slow
def test_the_code_about_results_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = blocks(section("Run a study"))
    rest = [block for block in blocks(PAGE) if block not in first]
    assert len(rest) >= 6
    folder = run_blocks(rest, tmp_path, monkeypatch)
    written = {path.name for path in folder.iterdir()} - {"results"}
    assert written == {"widths.png", "grid.pdf", "parts.pdf"}


@pytest.mark.slow
def test_the_code_about_studies_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_blocks(blocks(section("Run a study")), tmp_path, monkeypatch)
    assert len(load(folder / "results" / "from-python")) > 3


def kind(column: "pd.Series[object]") -> str:
    """Return the type of a column, as the page calls it."""
    if is_bool_dtype(column.dtype):
        return "truth value"
    if is_integer_dtype(column.dtype):
        return "integer"
    return "number" if is_numeric_dtype(column.dtype) else "text"


def test_every_column_of_load_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([a-z ]+) \| (.+) \|$", section("Trials as a frame"), re.M)
    described = {name: text for name, text, _ in rows}
    listed = [name for name in described if name not in ("params_AXIS", "recipe_SETTING")]
    assert listed == [*TRIAL_COLUMNS, *TASK_COLUMNS, "recipe_epochs"]
    frame = load(SHIPPED / "quickstart")
    assert {name: described[name] for name in listed} == {
        name: kind(frame[name]) for name in listed
    }
    last = frame.columns[-len(Recipe.model_fields) :]
    assert [*last] == [f"recipe_{name}" for name in Recipe.model_fields]


@pytest.mark.parametrize("face", FACES)
def test_the_stable_names_are_those_that_a_package_offers(face: str) -> None:
    (row,) = re.findall(rf"^\| `{re.escape(face)}` \| (.+) \|$", section("Stability"), re.M)
    names = re.findall(r"`(\w+)`", row)
    assert len({*names}) == len(names)
    assert {*names} == {*importlib.import_module(face).__all__}


@pytest.mark.parametrize("kind", [UserError, MachineError])
def test_notebooks_show_the_message_of_an_error_alone(kind: type[Exception]) -> None:
    render = kind("no study \x1b[2J here")._render_traceback_  # type: ignore[attr-defined]
    assert render() == [f"{kind.__name__}: no study \\x1b[2J here"]  # IPython prints these lines


def test_every_stable_function_and_class_has_a_place_in_the_reference() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/api").glob("*.md"))
    for face in FACES:
        module = importlib.import_module(face)
        for name, source in module._MODULES.items():
            members = re.search(rf"::: {re.escape(source)}\n +options: {{members: \[(.*?)\]", pages)
            if not name.startswith("__") and not (members and name in members[1].split(", ")):
                assert f"::: {source}.{name}\n" in pages or f"{source}.{name}]" in pages, name
