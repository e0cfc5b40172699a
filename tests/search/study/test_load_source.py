"""Studies from files, names and plain data, with the folder that their paths start from."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import partialnas
from partialnas.search.study.study_file import load_source

STUDY: dict[str, Any] = {
    "study": "tiny",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "arms": {"a": {}},
    "objectives": {"val_nll": "min"},
    "executor": {"kind": "in-process"},
    "quick": {"recipe.epochs": 1},
}
FUNCTION = "def train(architecture, seed, epochs):\n    return {'val_nll': epochs + 0.5}\n"


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a study with a function beside it, in another folder than the current one."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    (tmp_path / "elsewhere" / "beside_it.py").write_text(FUNCTION)
    path = tmp_path / "elsewhere" / "tiny.yaml"
    path.write_text(yaml.safe_dump(STUDY | {"trial": "beside_it:train"}))
    return path


def test_a_study_from_a_file_runs_as_the_file_does(beside: Path) -> None:
    study = partialnas.Study.from_yaml(beside, quick=True)
    assert study.recipe.epochs == 1
    assert study.base_dir == beside.parent
    folder = partialnas.run(study)
    assert folder == Path("results/tiny")
    assert partialnas.load(folder)["val_nll"].tolist() == [1.5]
    again = partialnas.Study.from_yaml(folder / "study.yaml")
    assert again.base_dir.resolve() == beside.parent
    assert partialnas.run(again) == folder


def test_changed_studies_keep_their_folder(beside: Path) -> None:
    study = partialnas.Study.from_yaml(str(beside))
    changed = load_source(study, overrides={"recipe.epochs": 7})
    assert (changed.recipe.epochs, changed.base_dir) == (7, beside.parent)
    assert study.model_copy(update={"seeds": 2}).base_dir == beside.parent
    assert study.frozen() == load_source(yaml.safe_load(beside.read_text())).frozen()


def test_overrides_by_key_and_as_text_are_alike(beside: Path) -> None:
    read = partialnas.Study.from_yaml
    by_key = read(beside, overrides={"recipe.lr": 0.5, "seeds": 2})
    assert by_key == read(beside, overrides=["recipe.lr=0.5", "seeds=2"])
    assert (by_key.recipe.lr, by_key.seeds) == (0.5, 2)
    assert read(beside, overrides="seeds=3").seeds == 3
    with pytest.raises(partialnas.UserError, match=r"recipe\.lrr"):
        read(beside, overrides={"recipe.lrr": 1})


def test_studies_of_the_package_are_known_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = partialnas.Study.from_yaml("quickstart")
    assert (study.study, study.base_dir) == ("quickstart", Path())
    with pytest.raises(partialnas.UserError, match="quickstart"):
        partialnas.Study.from_yaml("quickstrat")
