import math
from decimal import Decimal
from fractions import Fraction
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


def test_a_function_replaces_training() -> None:
    calls: list[tuple[Subject, int, int]] = []

    def function(subject: Subject, seed: int, epochs: int) -> dict[str, Any]:
        calls.append((subject, seed, epochs))
        return {"val_nll": np.float32(seed + 0.5), "val_accuracy": torch.tensor(7), "n": 3}

    requested = job(seeds=(2, 5))
    records = run_function(requested, function, Context(), required=["val_nll"])
    assert calls == [(SUBJECT, 2, EPOCHS), (SUBJECT, 5, EPOCHS)]
    assert [record.metrics for record in records] == [
        {"val_nll": seed + 0.5, "val_accuracy": 7.0, "n": 3.0} for seed in (2, 5)
    ]
    assert [record.key for record in records] == list(requested.trial_keys.values())
    assert {record.state for record in records} == {"done"}
    assert records[0].cost == subject_cost(SUBJECT, TASK)


def test_a_failure_on_one_seed_does_not_affect_the_others() -> None:
    def function(_: Subject, seed: int, __: int) -> dict[str, float]:
        return {"val_nll": 1 / seed}

    failed, done = run_function(job(seeds=(0, 1)), function, Context())
    assert (failed.state, failed.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert (done.state, done.metrics) == ("done", {"val_nll": 1.0})


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "expected a mapping of metrics, got None"),
        (0.5, "expected a mapping of metrics, got 0.5"),
        ({}, "expected a mapping of metrics, got {}"),
        ({"val_nll": math.nan}, "metric val_nll is nan, expected a finite number"),
        ({"val_nll": 1, "x": math.inf}, "metric x is inf, expected a finite number"),
        ({"val_nll": "0.5"}, "metric val_nll is '0.5', expected a finite number"),
        ({"val_nll": None}, "metric val_nll is None, expected a finite number"),
        ({"val_nll": [1, 2]}, r"metric val_nll is [1, 2], expected a finite number"),
        ({"accuracy": 1}, "metric val_nll is missing; got accuracy"),
        ({"val_nll": 1e308}, "metric val_nll is 1e+308, expected at most ±1e+100"),
        (
            {"val_nll": -(10**5000)},
            "metric val_nll is a value of type int, expected a finite number",
        ),
        (
            {"val_nll": Decimal("1e400")},
            "metric val_nll is Decimal('1E+400'), expected a finite number",
        ),
        (
            {"val_nll": Decimal("sNaN")},
            "metric val_nll is Decimal('sNaN'), expected a finite number",
        ),
        ({"val_nll": b"1"}, "metric val_nll is b'1', expected a finite number"),
        ({"val_nll": 1j}, "metric val_nll is 1j, expected a finite number"),
        (
            {"val_nll": torch.ones(2)},
            "metric val_nll is tensor([1., 1.]), expected a finite number",
        ),
        (
            {"val_nll": np.float64("inf")},
            "metric val_nll is np.float64(inf), expected a finite number",
        ),
        ("\ud800", r"expected a mapping of metrics, got '\ud800'"),
    ],
)
def test_invalid_metrics_give_a_record_with_a_reason(returned: Any, reason: str) -> None:
    (record,) = run_function(job(), lambda *_: returned, Context(), required=["val_nll"])
    assert (record.state, record.reason, record.metrics) == ("failed", reason, {})


def test_numbers_of_any_library_are_recorded() -> None:
    values = [
        Decimal("0.5"),
        Fraction(1, 2),
        np.float16(0.5),
        np.array(0.5),
        torch.tensor(0.5),
        True,
    ]
    metrics = {str(index): value for index, value in enumerate(values)}
    (record,) = run_function(job(), lambda *_: metrics, Context())
    assert [*record.metrics.values()] == [0.5] * 5 + [1.0]


class WithoutMessage(BaseException):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("\ud800"), r"ValueError: \ud800"),
        (WithoutMessage(), "WithoutMessage: its message cannot be shown"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_any_exception_gives_a_record_that_can_be_stored(error: BaseException, reason: str) -> None:
    def function(*_: Any) -> dict[str, float]:
        raise error

    (record,) = run_function(job(), function, Context())
    assert (record.state, record.reason) == ("failed", reason)
