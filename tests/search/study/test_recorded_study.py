"""Studies read again from what a run records: `study.yaml` and the ledger."""

from pathlib import Path
from typing import Any

import pytest

from partialnas.runs.config.design import StudyStage
from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.followup.stages import resolve_stage
from partialnas.search.session.run_study import rehearse_study
from partialnas.search.study.study_file import load_study, recorded_study, to_yaml
from partialnas.space.errors import UserError

STUDY: dict[str, Any] = {
    "study": "short",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "arms": {"a": {}},
    "objectives": {"val_nll": "min"},  # no speed decides: timings take 5 s
    "executor": {"kind": "in-process"},
}
SECONDS = pytest.mark.parametrize(
    ("measure", "seconds"), [({}, 5.0), ({"max_seconds": 20}, 20.0), ({"max_seconds": 3}, 3.0)]
)


@SECONDS
def test_a_written_study_times_networks_as_long_as_the_study(
    measure: dict[str, Any], seconds: float, tmp_path: Path
) -> None:
    study = load_study(STUDY | {"measure": measure})
    path = tmp_path / "study.yaml"
    path.write_text(to_yaml(study))
    again = load_study(path)
    assert (study.protocol.max_seconds, again.protocol.max_seconds) == (seconds, seconds)
    assert (again, again.digest) == (study, study.digest)


@pytest.mark.parametrize("limit", [{}, {"limits": {"latency_ms": {"max": 5}}}])
@pytest.mark.parametrize("measure", [{}, {"max_seconds": 3}])
def test_a_recorded_study_times_networks_as_long_as_the_study(
    measure: dict[str, Any], limit: dict[str, Any]
) -> None:
    study = load_study(STUDY | {"measure": measure} | limit)
    again = recorded_study(study.frozen())
    assert again.protocol.max_seconds == study.protocol.max_seconds
    assert again.frozen() == study.frozen()


@pytest.mark.parametrize("condition", ["", "small"])
def test_a_later_stage_times_networks_as_long_as_the_study(condition: str, tmp_path: Path) -> None:
    conditions = {condition: {"recipe.batch_size": 32}} if condition else {}
    study = load_study(STUDY | {"conditions": conditions})
    rehearse_study(study, tmp_path / "out")
    with Ledger.open(tmp_path / "out") as ledger:
        recorded = ledger.study
    recipe = recorded.recipe(condition)
    stage = StudyStage(
        name="confirm",
        recipe=recipe.identity_data(),
        seeds=(7,),
        chosen="",
        origins={},
        condition=condition,
    )
    (resolved,) = resolve_stage(recorded, stage, {}).conditions
    assert (resolved.protocol.max_seconds, resolved.recipe) == (5.0, recipe)


def test_a_ledger_that_reserves_several_gpus_for_a_trial_is_still_read() -> None:
    frozen = load_study(STUDY).frozen()
    frozen["executor"]["gpus_per_trial"] = 2.0  # legal until a trial was limited to one GPU
    assert recorded_study(frozen).executor.gpus_per_trial == 1
    frozen["executor"]["gpus_per_trial"] = 0.25
    assert recorded_study(frozen).executor.gpus_per_trial == 0.25
    with pytest.raises(UserError, match="a trial uses one GPU"):
        load_study(STUDY | {"executor": {"gpus_per_trial": 2}})
