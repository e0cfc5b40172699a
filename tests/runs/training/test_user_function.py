import math
from typing import Any

import numpy as np
import pytest
import torch

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import Subject
from partialnas.runs.training.build import subject_cost
from partialnas.runs.training.context import Context
from partialnas.runs.training.user_function import run_function
from partialnas.space.arch.plan import Plan

TASK = resolve_task("digits")
PLAN = Plan(width=4, depths=(1, 1, 1, 1), stem_stride=1, head_width=16, attention="channel")
SUBJECT = PLAN.architecture()
EPOCHS = 2


def job(subject: Subject = SUBJECT, seeds: tuple[int, ...] = (0,), **settings: Any) -> Job:
    usual = {"drop_path": 0.1, "ema": 0.9, "keep_weights": "all"}
    recipe = Recipe.model_validate(usual | settings)
    return Job(subject=subject, task=TASK, recipe=recipe, fidelity=EPOCHS, seeds=seeds)


def test_a_function_stands_in_for_training() -> None:
    calls: list[tuple[Subject, int, int]] = []

    def function(subject: Subject, seed: int, epochs: int) -> dict[str, Any]:
        calls.append((subject, seed, epochs))
        return {"val_nll": np.float32(seed + 0.5), "val_accuracy": torch.tensor(7), "n": 3}

    asked = job(seeds=(2, 5))
    records = run_function(asked, function, Context(), required=["val_nll"])
    assert calls == [(SUBJECT, 2, EPOCHS), (SUBJECT, 5, EPOCHS)]
    assert [record.metrics for record in records] == [
        {"val_nll": seed + 0.5, "val_accuracy": 7.0, "n": 3.0} for seed in (2, 5)
    ]
    assert [record.key for record in records] == list(asked.trial_keys.values())
    assert {record.state for record in records} == {"done"}
    assert records[0].cost == subject_cost(SUBJECT, TASK)


def test_metrics_of_a_function_that_fails_on_one_seed_stay_for_the_others() -> None:
    def function(_: Subject, seed: int, __: int) -> dict[str, float]:
        return {"val_nll": 1 / seed}

    failed, done = run_function(job(seeds=(0, 1)), function, Context())
    assert (failed.state, failed.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert (done.state, done.metrics) == ("done", {"val_nll": 1.0})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "expected metrics by name, got None"),
        (0.5, "expected metrics by name, got 0.5"),
        ({}, "expected metrics by name, got {}"),
        ({"val_nll": math.nan}, "metric val_nll is nan, expected a finite number"),
        ({"val_nll": 1, "x": math.inf}, "metric x is inf, expected a finite number"),
        ({"val_nll": "0.5"}, "metric val_nll is '0.5', expected a finite number"),
        ({"val_nll": None}, "metric val_nll is None, expected a finite number"),
        ({"val_nll": [1, 2]}, r"metric val_nll is [1, 2], expected a finite number"),
        ({"accuracy": 1}, "metric val_nll is missing; there are accuracy"),
    ],
)
def test_an_answer_that_is_no_metrics_is_a_record_with_a_reason(answer: Any, reason: str) -> None:
    (record,) = run_function(job(), lambda *_: answer, Context(), required=["val_nll"])
    assert (record.state, record.reason, record.metrics) == ("failed", reason, {})
