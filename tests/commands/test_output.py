"""What the command line prints: names of networks, first seconds, no timing, hints."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import yaml
from command_line import run_cli

from partialnas.analysis.audit.confirmation import _row
from partialnas.analysis.figures.kinds import FIGURE_KINDS
from partialnas.analysis.plotting import style
from partialnas.cli import _PANELS, app
from partialnas.runs.config import protocol
from partialnas.runs.config.recipe import RECIPES
from partialnas.search.check.check_study import _measuring, _sampler
from partialnas.search.driver.scheduler import Scheduler
from partialnas.search.executors.base import END
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.study.study_file import load_study
from partialnas.verbs import options

STUDY: dict[str, Any] = {
    "study": "tiny",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16, 20], "mlp_ratio": [1, 2, 3]}},
    "recipe": {"use": "short", "epochs": 1},
    "search": {"sampler": "random"},
    "seeds": 2,
    "arms": {"fasternet": {"operations": ["conv", "identity"]}},
    "budget": {"trials": 8},
}
DIGEST = re.compile(r"\b[0-9a-f]{16}\b")


def rehearse(folder: Path, **changes: Any) -> Path:
    """Run a study with simulated results; return the folder of its ledger."""
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({**STUDY, **changes}))
    assert run_cli("run", file, "--rehearse", "--out", folder / "out") == 0
    return folder / "out"


def check_lines(check: Any, **changes: Any) -> list[str]:
    return [*check(resolve_study(load_study({**STUDY, **changes}), Path()))]


# Names of networks.


def test_a_network_has_the_same_name_in_run_lines_status_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rehearse(tmp_path)
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    trained = [line.split(":")[0].split("] ")[1] for line in lines if line.startswith("[")]
    assert trained[:2] == ["fasternet seed 0 (#1)", "fasternet seed 1 (#2)"]
    assert trained[2:] == [
        *("#3 seed 0", "#3 seed 1 (#4)", "#5 seed 0", "#5 seed 1 (#6)", "#7 seed 0"),
        "#7 seed 1 (#8)",
    ]
    timed = {line.split(":")[0] for line in lines if line.startswith("timed")}
    assert timed == {"timed fasternet", "timed #3", "timed #5", "timed #7"}
    rows = {words[0] for line in printed.out.splitlines() if (words := line.split())}
    assert rows >= {"fasternet"}
    assert {row for row in rows if row.startswith("#")} <= {"#3", "#5", "#7"}
    assert not DIGEST.search(printed.err + printed.out)
    assert run_cli("run", tmp_path / "tiny.yaml", "--rehearse", "--out", folder) == 0
    assert not DIGEST.search(capsys.readouterr().err)
    assert run_cli("describe", f"{folder}:5", "--resolution", 8) == 0
    first_line = capsys.readouterr().out.splitlines()[0]
    assert first_line.startswith("#5 · ")
    assert DIGEST.search(first_line)


# The first seconds, and studies without timing.


def test_status_before_the_first_result_says_that_there_is_no_front_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scheduler, "ask", lambda _: END)
    folder = rehearse(tmp_path)
    for watch in ((), ("--watch",)):
        capsys.readouterr()
        assert run_cli("status", folder, *watch) == 0
        output = capsys.readouterr().out
        assert output.startswith("tiny-rehearsal: 2 planned")
        assert watch or "no front yet: no trial has ended" in output


def test_an_empty_front_is_explained_by_every_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rehearse(tmp_path, arms={}, limits={"val_accuracy": {"min": 99.9}})
    capsys.readouterr()
    expected = "no network is within the limits (val_accuracy at least 99.9)"
    for verb, code in (("status", 0), ("pareto", 0), ("table", 2), ("confirm", 2)):
        assert run_cli(verb, folder) == code, verb
        printed = capsys.readouterr()
        assert expected in " ".join((printed.out + printed.err).split()), verb
        assert "hypervolume" not in printed.out
    for kind in ("convergence", "cost"):
        assert run_cli("figure", kind, folder) == 2
        assert "nothing to draw" in capsys.readouterr().err


def test_a_study_that_measures_nothing_times_no_network_and_shows_no_speed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rehearse(tmp_path, measure="none")
    printed = capsys.readouterr()
    assert "timed" not in printed.err + printed.out
    assert "throughput" not in printed.out
    assert run_cli("table", folder) == 0
    assert "images/s" not in capsys.readouterr().out
    assert run_cli("report", folder) == 0
    assert check_lines(_measuring, measure="none") == [
        "measuring: none; tables and figures will have no speeds"
    ]


def test_check_says_where_timing_is_short() -> None:
    assert check_lines(_measuring) == []
    (line,) = check_lines(_measuring, objectives={"val_nll": "min"})
    assert line.startswith("measuring: at most 5 s per network")


@pytest.mark.parametrize(
    ("search", "trials", "start"),
    [
        ({"sampler": "hybrid"}, 30, "sampler: hybrid; the first 10 of 14 networks are spread"),
        ({"sampler": "hybrid"}, 18, "sampler: hybrid uses results from network 11 on, but the"),
        ({"sampler": "hybrid", "population": 4}, 18, "sampler: hybrid; the first 4 of 8 networks"),
        ({"sampler": "random"}, 18, "sampler: random"),
    ],
)
def test_check_explains_a_budget_within_the_initial_design(
    search: dict[str, Any], trials: int, start: str
) -> None:
    (line,) = check_lines(_sampler, search=search, budget={"trials": trials})
    assert line.startswith(start)
    assert ("plain space-filling design" in line) == (start.endswith("but the"))
    if "plain" in line:
        assert "Set budget.trials to more than 22, search.population to a smaller number" in line


def test_a_dry_run_is_not_continued_by_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rehearse(tmp_path)
    assert run_cli("confirm", folder) == 2
    assert "holds a dry run with simulated results" in capsys.readouterr().err


# Options.


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("--version") == 0
    assert capsys.readouterr().out == f"partialnas {metadata.version('partialnas')}\n"


def test_fixed_values_of_options_are_those_of_the_library() -> None:
    assert set(get_args(options.FigureKind)) == set(FIGURE_KINDS)
    assert set(get_args(options.Width)) == set(get_args(style.Width))
    assert set(get_args(options.Precision)) == set(get_args(protocol.Precision))
    assert set(get_args(options.Form)) == set(get_args(protocol.Form))
    assert set(get_args(options.Runtime)) == set(get_args(protocol.Runtime)) - {"onnxruntime"}
    assert set(get_args(options.RecipeName)) == set(RECIPES)


def test_every_verb_is_in_one_group_of_the_help() -> None:
    grouped = [verb for verbs in _PANELS.values() for verb in verbs]
    assert len(grouped) == len(set(grouped)) == len(app.registered_commands)
    assert next(iter(_PANELS)) == "First steps"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("figure", "convergance", "."), "Did you mean convergence?"),
        (("measure", "partialnet_t0", "--precision", "bflot16"), "mean bfloat16 or float16?"),
        (("figrue", "."), "Did you mean 'figure'?"),
    ],
)
def test_misspelled_verbs_and_values_get_a_hint(
    arguments: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(*arguments) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert hint in message.replace("│ ", "")
    assert "Value error" not in message


def test_the_shell_completes_kinds_of_figures() -> None:
    words = {"COMP_WORDS": "partialnas figure c", "COMP_CWORD": "2", "PATH": ""}
    environment = {**words, "_PARTIALNAS_COMPLETE": "complete_bash"}
    # the console script is named partialnas; completion goes by that name
    code = "import sys; sys.argv = ['partialnas']; from partialnas.__main__ import main; main()"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["convergence", "curves", "cost"]


# Intervals.


def test_intervals_of_accuracies_end_at_100_percent() -> None:
    fresh = pd.DataFrame(
        {"state": "done", "val_nll": [0.1, 0.2], "test_nll": [0.1, 0.3]}
        | {"test_accuracy": [98.0, 99.8]}
    )
    row = _row("one", fresh, fresh, "val_nll")
    assert row["test_accuracy_high"] == 100.0
    assert row["test_nll_low"] == 0.0
    # the other ends are those of the t interval with one degree of freedom: mean ± 12.706 s / √2
    assert row["test_accuracy_low"] == pytest.approx(98.9 - 12.706 * 0.9, abs=1e-3)
