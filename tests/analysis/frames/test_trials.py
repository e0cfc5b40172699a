"""Trials with the settings of their studies, from folders and from plain frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from partialnas.analysis import front, load, load_trials
from partialnas.analysis.frames.load import as_trials
from partialnas.analysis.frames.provenance import Query
from partialnas.analysis.frames.trials import TIMING_COLUMN, Trials
from partialnas.analysis.registry import build_artefact
from partialnas.space.errors import UserError

Ledgers = Callable[..., Path]
TWO: dict[str, Any] = {"val_nll": "min", "params": "min"}
LIMITS = {"params": {"max": 11}, "latency_ms": {"max": 1e9}}


@pytest.fixture
def folder(tmp_path: Path, ledgers: Ledgers, measure: Callable[..., Any]) -> Path:
    records = [
        {"state": "done", "metrics": {"val_nll": 0.5 - 0.1 * i},
         "cost": {"params": 10 + i, "macs": 1, "macs_core": 1, "activations": 1}}
        for i in range(3)
    ]  # fmt: skip
    measured = [measure(f"{i:016x}", 1.0 + i, 3000.0) for i in range(3)]
    study = {"objectives": TWO, "limits": LIMITS}
    meta = {"reference_point": '{"val_nll": 2.0}'}
    return ledgers(tmp_path / "s", records, measured, study, meta)


def test_settings_of_a_plain_frame_are_read_from_its_ledgers(folder: Path) -> None:
    trials = load_trials(folder)
    assert (trials.objectives, trials.limits) == (TWO, {str(folder): LIMITS})
    assert trials.reference_point == {"val_nll": 2.0}
    frame = load(folder)
    pd.testing.assert_frame_equal(frame[trials.frame.columns], trials.frame)
    part = pd.concat([frame[frame["val_nll"] < 0.45], frame.head(0)])  # drops all attributes
    for source in (frame, part):
        settings = as_trials(source)
        pd.testing.assert_frame_equal(settings.frame, source[trials.frame.columns])
        for field in ("objectives", "limits", "reference_point", "studies", "timing"):
            assert getattr(settings, field) == getattr(trials, field)
    assert front(part, TWO)["on_front"].tolist() == [True, False]


def test_timing_settings_stay_with_a_plain_frame(folder: Path) -> None:
    frame = load(folder, timing="batch_size=32")
    assert frame[TIMING_COLUMN].unique().tolist() == ["batch_size=32"]
    trials = as_trials(frame)
    assert trials.timing == "batch_size=32"
    assert TIMING_COLUMN not in trials.frame
    assert trials.limits == {str(folder): {"params": {"max": 11}}}
    with pytest.raises(UserError, match="different timing settings"):
        as_trials(pd.concat([frame, load(folder)]))


def test_frame_without_a_ledger_has_no_settings() -> None:
    for frame in (pd.DataFrame({"folder": ["no-such-folder", ""]}), pd.DataFrame({"a": [1]})):
        trials = as_trials(frame)
        assert (trials.studies, trials.objectives, trials.limits) == ([], {}, {})
    assert as_trials(trials) is trials


def test_unknown_arguments_are_errors_and_defects_are_not_hidden(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for verb, arguments in (
        ("table", {"colour": "red"}),
        ("pareto", {"colour": "red"}),
        ("figure", {}),
        ("report", {"x": "macs"}),
    ):
        with pytest.raises(UserError, match=f"{verb}: this version .* does not support"):
            build_artefact([folder], Query(verb=verb, arguments=arguments))
    with pytest.raises(UserError, match="unknown verb; choose table, effects"):
        build_artefact([folder], Query(verb="picture", arguments={}))

    def defective(*_: Any) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr(Trials, "quantity", defective)
    with pytest.raises(TypeError, match="a defect"):
        build_artefact([folder], Query(verb="pareto", arguments={}))
