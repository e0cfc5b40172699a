"""The verb `studies`: list, print and copy; names in `run` and `check`."""

from pathlib import Path

import pytest
from command_line import run_cli

from partialnas.search.study.study_file import load_study

STUDIES = Path(__file__).parents[2] / "search" / "studies"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_studies_are_listed_with_their_trials(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("studies") == 0
    lines = capsys.readouterr().out.splitlines()
    first_words = [line.split()[0] for line in lines if line.strip()]
    for path in STUDIES.glob("*.yaml"):
        assert path.stem in first_words
    (quickstart,) = (line for line in lines if line.split()[:1] == ["quickstart"])
    assert quickstart.split()[-2:] == ["16", "6"]  # its budgets


def test_a_study_is_printed_and_copied_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    text = (STUDIES / "ladder.yaml").read_text("utf-8")
    assert run_cli("studies", "ladder") == 0
    assert capsys.readouterr().out == text
    assert run_cli("studies", "ladder", "-o", "below/mine.yaml") == 0
    assert Path("below/mine.yaml").read_text("utf-8") == text
    Path("below/mine.yaml").write_text("edited")
    assert run_cli("studies", "ladder", "-o", "below/mine.yaml") == 2
    assert "exists already" in capsys.readouterr().err
    assert Path("below/mine.yaml").read_text() == "edited"


def test_the_function_of_a_study_is_copied_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("studies", "own-function", "-o", "below/mine.yaml") == 0
    assert (Path("below") / "own_function.py").read_text("utf-8") == (
        STUDIES / "own_function.py"
    ).read_text("utf-8")
    assert run_cli("run", "below/mine.yaml", "--rehearse", "--quick") == 0
    Path("below/mine.yaml").unlink()
    assert run_cli("studies", "own-function", "-o", "below/mine.yaml") == 2
    assert "own_function.py exists already" in capsys.readouterr().err
    assert not Path("below/mine.yaml").exists()


def test_wrong_names_and_options_are_mistakes_of_the_user(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_cli("studies", "laddr") == 2
    assert "did you mean ladder" in capsys.readouterr().err
    assert run_cli("studies", "-o", "file.yaml") == 2
    assert run_cli("run", "laddr") == 2
    assert "did you mean ladder" in capsys.readouterr().err


def test_run_and_check_say_which_study_they_took(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("run", "quickstart", "--rehearse", "--quick") == 0
    assert "study: quickstart of partialnas" in capsys.readouterr().err
    assert load_study("results/quickstart-quick-rehearsal/study.yaml").study.startswith("quick")
    Path("quickstart.yaml").write_text("study: mine\ntask: {resolution: 32}\narms: {one: {}}\n")
    assert run_cli("run", "quickstart", "--rehearse") == 0
    assert "study: the file quickstart.yaml" in capsys.readouterr().err
    assert Path("results/mine-rehearsal").is_dir()
