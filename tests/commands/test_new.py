"""The verb `new`: whatever is chosen, the file is a study that resolves; nothing is replaced."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import run_cli
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from partialnas.commands.studies import new as new_command
from partialnas.commands.studies.new import new_study
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import expected_trials
from partialnas.search.study.study_fields import OBJECTIVES
from partialnas.search.study.study_file import load_study
from partialnas.search.study.template import KINDS
from partialnas.space.errors import UserError

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True) | st.sampled_from(
    ("null", "1e5", "0x1f", "true", "2001-01-01", "1.0", "no", "con")
)
QUANTITIES = tuple(name for name in OBJECTIVES if name != "peak_memory_bytes")  # needs a GPU


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, without a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("ablation\n" * 9))
    return tmp_path


@st.composite
def flags(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.none() | st.sampled_from(KINDS))
    seeds = draw(st.none() | st.integers(1, 20))
    options: dict[str, Any] = {
        "kind": kind,
        "epochs": draw(st.none() | st.integers(1, 100_000)),
        "seeds": seeds,
        "objectives": draw(
            st.none()
            | st.lists(st.sampled_from(QUANTITIES), min_size=1, unique=True)
            .filter(lambda names: kind != "function" or {*names} & {"val_nll", "val_accuracy"})
            .map(",".join)
        ),
        "question": draw(st.none() | st.text(st.characters(categories=("L", "P", "S", "Zs")))),
    }
    if kind != "function":
        options["data"] = draw(st.sampled_from((None, "mnist5k", "digits", "images: # 'x'")))
        options["resolution"] = draw(st.none() | st.integers(8, 512))
    if kind != "ablation":
        options["trials"] = draw(st.none() | st.integers(seeds or 1, 10_000))
    return options


@settings(max_examples=15)
@given(NAMES, flags(), st.booleans())
def test_any_choices_give_a_study_that_resolves(
    tmp_path_factory: pytest.TempPathFactory, name: str, flags: dict[str, Any], quick: bool
) -> None:
    folder = tmp_path_factory.mktemp("new")
    write_images(folder / "images: # 'x'", sizes=(20, 40))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        new_study(name, flags)
    assert expected_trials(resolve_study(load_study(folder / f"{name}.yaml", quick=quick), folder))
    study = load_study(folder / f"{name}.yaml")
    assert study.study == name
    if flags["question"]:
        assert study.question == flags["question"]
    if flags["objectives"]:
        assert [*study.objectives] == flags["objectives"].split(",")
    for key in ("data", "resolution"):
        if flags.get(key) and flags[key] != "images: # 'x'":
            assert getattr(study.task, key) == flags[key]
    assert study.recipe.epochs == (flags["epochs"] or 4)
    assert study.first_seeds == (flags["seeds"] or (5 if flags["kind"] == "ablation" else 1))
    if flags.get("trials"):
        assert study.budget.trials == flags["trials"]
    assert (study.ablation is not None) == (flags["kind"] == "ablation")
    assert (study.trial is not None) == (flags["kind"] == "function")


def write_images(folder: Path, sizes: tuple[int, ...]) -> None:
    for number in range(20):
        file = folder / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        side = sizes[number % len(sizes)]
        Image.new("RGB", (side, side), (number, 0, 0)).save(file)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_check_and_a_quick_run_accept_the_file_as_written(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = () if kind == "function" else ("--data", "digits")
    assert run_cli("new", "mine", "--kind", kind, *data) == 0
    assert "wrote mine.yaml" in capsys.readouterr().out
    assert run_cli("check", "mine", "--quick") == 0
    settings = ("--set", "executor.kind=in-process", "--set", "measure.max_seconds=0.2")
    assert run_cli("run", "mine", "--quick", *settings) == 0
    output = capsys.readouterr().out
    assert re.search(r"\d+ done", output)
    assert "failed" not in output


def test_images_of_several_sizes_get_a_suggested_resolution() -> None:
    write_images(Path("photos"), sizes=(50, 60, 70))
    new_study("mine", {"data": "photos"})
    text = Path("mine.yaml").read_text()
    assert "task: {data: 'folder:photos', resolution: 56}" in text
    assert "this is a suggestion" in text


@pytest.mark.parametrize("file", ["mine.yaml", "mine_training.py"])
def test_files_are_never_replaced(file: str) -> None:
    Path(file).write_text("precious")
    with pytest.raises(UserError, match=f"{file} exists already"):
        new_study("mine", {"kind": "function"})
    assert Path(file).read_text() == "precious"
    assert len([*Path().iterdir()]) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"kind": "serach"}, "did you mean search"),
        ({"objectives": "val_acuracy"}, "did you mean val_accuracy"),
        ({"objectives": "test_accuracy"}, "unknown quantity 'test_accuracy'"),
        ({"objectives": "peak_memory_bytes"}, "needs a GPU"),
        ({"objectives": " , "}, "expected quantities"),
        ({"kind": "function", "objectives": "macs"}, "expected val_nll or val_accuracy"),
        ({"kind": "function", "data": "digits"}, "--data: the function"),
        ({"kind": "ablation", "trials": 5}, "--trials: an ablation"),
        ({"data": "digit"}, "did you mean digits"),
        ({"resolution": 4}, "smallest valid input is 8x8"),
        ({"trials": 2, "seeds": 3}, "too small for the arms"),
    ],
)
def test_invalid_choices_write_nothing(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        new_study("mine", flags)
    assert not [*Path().iterdir()]


@pytest.mark.parametrize("name", ["", "a/b", "-x", "a" * 65, "\u00e4", ".."])
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        new_study(name, {})
    assert not [*Path().iterdir()]


class Terminal(io.StringIO):
    """Standard input of a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_is_asked_for_what_no_flag_states(monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[str] = []
    answers = {"Kind": "ablation", "Data": "digits", "Epochs": 7}

    def prompt(question: str, *, default: object, **_: object) -> object:
        questions.append(question)
        return answers.get(question.split()[0], default)

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(new_command.typer, "prompt", prompt)
    new_study("mine", {"seeds": 3})
    study = load_study("mine.yaml")
    assert (study.task.data, study.recipe.epochs, study.seeds) == ("digits", 7, 3)
    assert study.ablation is not None
    words = [question.split()[0].strip(",") for question in questions]
    assert words == ["Kind", "Data", "Resolution", "Epochs", "Objectives"]


def test_answers_are_typed_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("search\ndigits\n\nmany\n2\n\n12\n\n"))
    assert run_cli("new", "mine") == 0
    assert "Kind of study" in capsys.readouterr().err
    study = load_study("mine.yaml")
    assert (study.task.resolution, study.recipe.epochs, study.budget.trials) == (8, 2, 12)
