"""`status --watch`, `dashboard` and `run --rehearse` from the command line."""

import os
from pathlib import Path

import pytest

from partialnas.cli import main
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.system.study_lock import driver_pid

STUDY = """
study: plain
task: {data: digits}
base: {stem_stride: 1, width: 8, depths: [1, 1, 1, 1], head_width: 16}
space: {axes: {width: [8, 12, 16, 20, 24], mlp_ratio: [1, 2]}}
search: {sampler: random}
budget: {trials: 6}
executor: {kind: in-process}
"""


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main([*arguments])
    return int(str(end.value.code))


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("plain.yaml").write_text(STUDY)
    assert called("run", "plain.yaml", "--rehearse") == 0
    return Path("results/plain-rehearsal")


def test_a_rehearsal_is_told_as_one_and_its_hours_by_kind(
    played: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert called("status", str(played)) == 0
    told = capsys.readouterr().out
    assert "Rehearsal: made-up results" in told
    assert "6 done" in told
    assert "device-hours" in told
    assert "measuring" in told


def test_watching_ends_when_nobody_works_on_the_study(
    played: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert called("status", str(played), "--watch", "--every", "0.1") == 0
    assert "6 done" in capsys.readouterr().out


def test_a_driver_is_known_by_its_lock(tmp_path: Path) -> None:
    assert driver_pid(tmp_path) is None
    with Ledger.create(tmp_path, {}):
        assert driver_pid(tmp_path) == os.getpid()
    assert driver_pid(tmp_path) is None


def test_an_exported_study_has_all_trials_and_their_values(played: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    assert called("dashboard", str(played), "--export-only", "study.log") == 0
    storage = JournalStorage(JournalFileBackend("study.log"))
    study = optuna.load_study(study_name="plain-rehearsal", storage=storage)
    with Ledger.open(played) as ledger:
        rows = ledger.trials()
    assert [trial.user_attrs["network"] for trial in study.trials] == [row.name for row in rows]
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    at = study.metric_names.index("val_nll") if study.metric_names else 0
    assert [trial.values[at] for trial in study.trials] == [row.metrics["val_nll"] for row in rows]
    assert called("dashboard", str(played), "--export-only", "study.log") == 2
