"""The recorded study: parsed on demand, under conditions, up to date."""

import json
from pathlib import Path

import pytest

from partialnas.runs.config.design import StudyStage
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import RecordedCondition, RecordedStudy, stages_meta
from partialnas.runs.records.subject import subject_data
from partialnas.space.arch.presets import preset
from partialnas.space.errors import MachineError

DIGITS, MNIST = resolve_task("digits"), resolve_task("mnist5k")
FROZEN = {
    "study": "tiny",
    "task": {"data": "digits"},
    "recipe": {"epochs": 8},
    "measure": {"threads": 2},
    "conditions": {"long": {"recipe.epochs": 16, "task.data": "mnist5k"}, "plain": {}},
    "search": None,
}
STAGE = StudyStage(name="audit", recipe={"epochs": 32}, seeds=(1,), chosen="all", origins={})


def recorded(**changes: str) -> RecordedStudy:
    tasks = {"long": MNIST.model_dump(mode="json"), "plain": DIGITS.model_dump(mode="json")}
    meta = {"study": "tiny", "frozen": json.dumps(FROZEN), "task": json.dumps(tasks)}
    return RecordedStudy(meta | changes)


def test_conditions_override_task_recipe_and_protocol() -> None:
    study, protocol = recorded(), Protocol(threads=2)
    assert study.under("long") == RecordedCondition(MNIST, Recipe(epochs=16), protocol)
    assert study.under("plain") == RecordedCondition(DIGITS, Recipe(epochs=8), protocol)
    assert study.settings("long")["task"] == {"data": "mnist5k"}
    assert study.task_identities() == {"long": MNIST.identity(), "plain": DIGITS.identity()}


def test_a_study_without_conditions_has_one_task() -> None:
    study = recorded(task=DIGITS.model_dump_json(), frozen="{}")
    assert study.under("") == RecordedCondition(DIGITS, Recipe(), Protocol())
    assert study.task_identities() == DIGITS.identity()
    assert [fidelity.name for fidelity in study.fidelities("")] == ["1 epoch"]


def test_optional_metadata_have_defaults_and_required_ones_are_an_error() -> None:
    study = RecordedStudy({})
    assert (study.name, study.frozen, study.stages, study.amendments) == ("", {}, {}, [])
    assert (study.design, study.sequential, study.environment, study.conditions) == (
        *(None, None),
        *({}, {}),
    )
    assert not study.is_search
    for key in ("task", "reference"):
        with pytest.raises(MachineError, match=rf"metadata is missing \({key}\); restore"):
            _ = study.tasks if key == "task" else study.reference


def test_the_ledger_returns_the_study_as_recorded_now(tmp_path: Path) -> None:
    reference = json.dumps(subject_data(preset("fasternet_t0")))
    with Ledger.create(tmp_path, {"study": "tiny", "reference": reference}) as ledger:
        study = ledger.study
        assert study.reference == preset("fasternet_t0")
        assert ledger.study is study
        ledger.update_meta(stages_meta({"audit": STAGE}))
        assert ledger.study.stages == ledger.study.longer_audit_stages == {"audit": STAGE}
        same_training = {**STAGE.recipe, "keep_weights": "none"}
        assert ledger.study.longer_audit_name(STAGE.recipe, "") == "audit"
        assert ledger.study.longer_audit_name(same_training | {"epochs": 64}, "") == "audit-2"
        with Ledger.open(tmp_path) as reader:
            assert reader.study.stages == {"audit": STAGE}
