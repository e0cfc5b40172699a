"""`status --watch`, `dashboard` and `run --rehearse` from the command line."""

import os
import re
from pathlib import Path

import pytest
from command_line import run_cli

from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.pareto.front import front
from partialnas.commands.studies.status import front_table
from partialnas.commands.studies.study import print_next_steps
from partialnas.commands.terminal import make_console, print_table
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.system.environment import environment
from partialnas.runs.system.study_lock import driver_pid

LEDGERS = Path(__file__).parents[2] / "analysis" / "notebooks" / "ledgers"
STUDY = """
study: plain
task: {data: digits}
base: {stem_stride: 1, width: 8, depths: [1, 1, 1, 1], head_width: 16}
space: {axes: {width: [8, 12, 16, 20, 24], mlp_ratio: [1, 2]}}
search: {sampler: random}
budget: {trials: 6}
executor: {kind: in-process}
"""


@pytest.fixture
def rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("plain.yaml").write_text(STUDY)
    assert run_cli("run", "plain.yaml", "--rehearse") == 0
    return Path("results/plain-rehearsal")


def test_a_rehearsal_is_marked_and_its_compute_listed_by_kind(
    rehearsed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run_cli("status", str(rehearsed)) == 0
    output = capsys.readouterr().out
    assert "Dry run: simulated results" in output
    assert "6 done" in output
    assert "device-hours" in output
    assert "measuring" in output
    assert ("as workers use a part of the device" in output) == (environment()["cores"] > 1)


@pytest.mark.parametrize(
    ("name", "verbs"), [("partitions", "table effects report"), ("quickstart", "pareto report")]
)
def test_the_end_of_a_run_names_the_next_commands(
    capsys: pytest.CaptureFixture[str], name: str, verbs: str
) -> None:
    folder = LEDGERS / name
    print_next_steps(folder)
    output = " ".join(capsys.readouterr().out.split())
    assert output == "next: " + " · ".join(f"partialnas {v} {folder}" for v in verbs.split())


def test_watching_ends_when_the_study_does_not_run(
    rehearsed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run_cli("status", str(rehearsed), "--watch", "--every", "0.1") == 0
    assert "6 done" in capsys.readouterr().out


def test_a_driver_is_detected_by_its_lock(tmp_path: Path) -> None:
    assert driver_pid(tmp_path) is None
    with Ledger.create(tmp_path, {}):
        assert driver_pid(tmp_path) == os.getpid()
    assert driver_pid(tmp_path) is None


def test_an_exported_study_has_all_trials_and_their_values(rehearsed: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    assert run_cli("dashboard", str(rehearsed), "--export-only", "study.log") == 0
    storage = JournalStorage(JournalFileBackend("study.log"))
    study = optuna.load_study(study_name="plain-rehearsal", storage=storage)
    with Ledger.open(rehearsed) as ledger:
        rows = ledger.trials()
    assert [trial.user_attrs["network"] for trial in study.trials] == [row.name for row in rows]
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    at = study.metric_names.index("val_nll") if study.metric_names else 0
    assert [trial.values[at] for trial in study.trials] == [row.metrics["val_nll"] for row in rows]
    assert run_cli("dashboard", str(rehearsed), "--export-only", "study.log") == 2


FUNCTION = """
def train(architecture, seed, epochs):
    return {"worst_recall": 0.1 * architecture.widths[0], "train_nll": 0.25}
"""


def test_the_table_of_a_function_study_shows_what_the_function_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recalling.py").write_text(FUNCTION)
    study = STUDY.replace("mlp_ratio: [1, 2]", "ratio: [1/4]").replace("trials: 6", "trials: 3")
    objectives = "objectives: {worst_recall: max, macs: min}\n"
    Path("own.yaml").write_text(f"{study}trial: recalling:train\n{objectives}")
    assert run_cli("run", "own.yaml", "--out", "own") == 0
    capsys.readouterr()
    assert run_cli("status", "own") == 0
    output = capsys.readouterr().out
    (head,) = [line.split() for line in output.splitlines() if "worst_recall" in line][:1]
    assert "val_accuracy" not in output
    assert [name for name in head if name != "macs"][:2] == ["worst_recall", "params"]
    assert "train_nll" in head
    assert "0.25" in output


def test_a_repeated_proposal_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.yaml").write_text(STUDY.replace("width: [8, 12, 16, 20, 24]", "width: [8, 12, 16]"))
    assert run_cli("run", "plain.yaml", "--rehearse", "--out", "small") == 0
    capsys.readouterr()
    assert run_cli("status", "small") == 0
    with Ledger.open(Path("small")) as ledger:
        repeated = ledger.count_repeated_proposals()
    assert repeated > 1
    assert f", {repeated} repeated proposals" in capsys.readouterr().out


def test_a_trial_of_a_rehearsal_is_not_exported_because_nothing_was_trained(
    rehearsed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("export-model", f"{rehearsed}:1", "-o", "model") == 2
    assert (
        "belongs to a dry run (`run --rehearse`), which trains nothing" in capsys.readouterr().err
    )
    assert not Path("model").exists()


def test_a_rule_separates_the_front_from_the_other_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trials = load_trials(LEDGERS / "partitions")
    print_table(make_console(), front_table(trials))
    _, above, below = re.split("─+", capsys.readouterr().out)
    rows = front(trials)
    for on_front, text in ((True, above), (False, below)):
        arms = rows.loc[rows["on_front"].eq(on_front), "arm"]
        assert len(arms)
        assert all(arm in text for arm in arms)
        assert sum(bool(line.strip()) for line in text.splitlines()) == len(arms)
