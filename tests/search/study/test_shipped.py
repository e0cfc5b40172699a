"""Studies by name: a file of the current folder comes first, then those of the package."""

import os
import threading
from pathlib import Path

import pytest

import partialnas
from partialnas.search.study.shipped import find_study, shipped_studies, shipped_study
from partialnas.search.study.study_file import load_study
from partialnas.space.errors import UserError

STUDIES = Path(__file__).parents[3] / "search" / "studies"
MINIMAL = "study: mine\narms: {one: {}}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_files_of_the_folder_are_studies_with_their_own_name() -> None:
    shipped = shipped_studies()
    assert {*shipped} == {path.stem for path in STUDIES.iterdir() if path.suffix == ".yaml"}
    for name, path in shipped.items():
        assert path.samefile(STUDIES / f"{name}.yaml")
        assert load_study(path).study == name
        assert load_study(path).question


@pytest.mark.parametrize("file", ["quickstart", "quickstart.yaml"])
def test_a_file_of_the_current_folder_comes_first_and_is_named(file: str) -> None:
    found = find_study("quickstart")
    assert found.path.samefile(STUDIES / "quickstart.yaml")
    assert found.is_shipped
    assert found.note.startswith("study: quickstart of partialnas")
    Path(file).write_text(MINIMAL)
    found = find_study("quickstart")
    assert (found.path, found.is_shipped) == (Path(file), False)
    assert found.note == f"study: the file {file}; quickstart of partialnas is another study"


def test_a_stated_file_needs_no_note() -> None:
    Path("mine.yaml").write_text(MINIMAL)
    assert find_study("mine.yaml").note == ""
    assert find_study("mine").note == "study: the file mine.yaml"
    assert find_study(Path("mine.yaml").resolve()).note == ""


def test_a_folder_is_no_study() -> None:
    Path("ladder").mkdir()
    assert find_study("ladder").is_shipped
    Path("other").mkdir()
    with pytest.raises(UserError, match="other is a folder"):
        find_study("other")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("quikstart", "did you mean quickstart"),
        ("ladder.yaml", "did you mean ladder"),
        ("folder/mien.yaml", "did you mean mine"),
        ("zzz", "choose .*ladder"),
    ],
)
def test_unknown_names_suggest_the_nearest(name: str, hint: str) -> None:
    Path("folder").mkdir()
    (Path("folder") / "mine.yaml").write_text(MINIMAL)
    with pytest.raises(UserError, match=f"there is no study {name}.*{hint}"):
        find_study(name)
    with pytest.raises(UserError, match=r"has no study 'quikstart'; did you mean quickstart"):
        shipped_study("quikstart")


def test_a_pipe_is_read() -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_text, args=(MINIMAL,))
    writer.start()
    assert load_study(find_study("pipe").path).study == "mine"
    writer.join()


def test_relative_paths_of_a_shipped_study_start_from_the_current_folder() -> None:
    with pytest.raises(UserError) as raised:
        partialnas.check("quickstart", overrides=["task.data=folder:flowers"])
    assert str(Path.cwd() / "flowers") in str(raised.value)
    with pytest.raises(UserError) as raised:
        partialnas.check(STUDIES / "quickstart.yaml", overrides=["task.data=folder:flowers"])
    assert str(STUDIES / "flowers") in str(raised.value)


def test_a_shipped_study_calls_the_function_beside_it() -> None:
    lines: list[str] = []
    partialnas.check("own-function", quick=True, show=lines.append)
    assert any(line.startswith("function: own_function:train") for line in lines)
