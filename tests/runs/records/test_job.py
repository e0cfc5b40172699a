import re
from typing import Any

import pytest
from pydantic import ValidationError

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.job import Job, trial_key
from partialnas.runs.records.subject import TimmModel
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import preset
from partialnas.space.arch.ratio import LearnedRatio

FACTS: dict[str, Any] = {
    "subject": preset("partialnet_t0"),
    "task": Task(data="cifar10:/here", resolution=32, channels=3, classes=10),
    "recipe": Recipe(),
    "fidelity": 4,
    "seed": 0,
}
SAME: dict[str, Any] = {
    "subject": preset("partialnet_t0").model_copy(update={"name": "renamed"}),
    "task": FACTS["task"].model_copy(update={"data": "cifar10:/there"}),
    "recipe": Recipe(epochs=7, keep_weights="none"),
}
OTHER: dict[str, Any] = {
    "subject": TimmModel(timm="resnet10t"),
    "task": FACTS["task"].model_copy(update={"resolution": 16}),
    "recipe": Recipe(lr=0.02),
    "fidelity": 5,
    "seed": 1,
}


def test_a_key_is_16_hex_digits() -> None:
    assert re.fullmatch("[0-9a-f]{16}", trial_key(**FACTS))


@pytest.mark.parametrize("name", SAME)
def test_what_does_not_affect_the_result_does_not_affect_the_key(name: str) -> None:
    assert trial_key(**{**FACTS, name: SAME[name]}) == trial_key(**FACTS)


@pytest.mark.parametrize("name", OTHER)
def test_whatever_affects_the_result_affects_the_key(name: str) -> None:
    assert trial_key(**{**FACTS, name: OTHER[name]}) != trial_key(**FACTS)


def test_ratio_freeze_affects_the_key_of_networks_with_learned_ratios() -> None:
    learned = Plan(ratio="1/4").model_copy(update={"ratio": (LearnedRatio(),)}).architecture()
    early = Recipe(ratio_freeze=0.5)
    assert trial_key(**{**FACTS, "recipe": early}) == trial_key(**FACTS)
    facts = {**FACTS, "subject": learned}
    assert trial_key(**{**facts, "recipe": early}) != trial_key(**facts)


def test_a_job_has_a_key_for_each_seed_and_survives_json() -> None:
    facts = {name: value for name, value in FACTS.items() if name != "seed"}
    job = Job(**facts, seeds=(0, 3))
    assert job.trial_keys == {seed: trial_key(**{**FACTS, "seed": seed}) for seed in (0, 3)}
    again = Job.model_validate_json(job.model_dump_json())
    assert (again, again.trial_keys) == (job, job.trial_keys)
    model = Job(**{**facts, "subject": OTHER["subject"]}, seeds=(0,))
    assert Job.model_validate_json(model.model_dump_json()) == model


@pytest.mark.parametrize(("name", "value"), [("fidelity", 0), ("seeds", ()), ("seeds", (-1,))])
def test_invalid_jobs_are_rejected(name: str, value: Any) -> None:
    facts = {key: value for key, value in FACTS.items() if key != "seed"}
    with pytest.raises(ValidationError):
        Job(**{**facts, "seeds": (0,), name: value})
