import inspect
import json
import math
import re
import tempfile
import threading
import time
import traceback
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.devices.device_lock import exclusive_access
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import Subject
from partialnas.runs.system.files import function_folder
from partialnas.runs.trials.build import subject_cost
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.user_function import import_function, run_function
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError

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


# Curves.


def reporting(*calls: tuple[Any, Any]) -> Any:
    """Return a function that reports these epochs."""

    def function(_: Subject, __: int, ___: int, report: Any) -> dict[str, float]:
        for epoch, metrics in calls:
            report(epoch, metrics)
        return {"val_nll": 0.5}

    return function


def test_reported_epochs_become_rows_of_the_curve(tmp_path: Path) -> None:
    function = reporting(
        (1, {"val_nll": np.float32(1.5), "f1": torch.tensor(0.25)}),
        (np.int64(2), {"val_nll": Fraction(1, 2)}),
    )
    (record,) = run_function(job(), function, Context(folder=tmp_path))
    seconds = [row["seconds"] for row in record.curve]
    assert [{**row, "seconds": 0.0} for row in record.curve] == [
        {"epoch": 1.0, "val_nll": 1.5, "f1": 0.25, "seconds": 0.0},
        {"epoch": 2.0, "val_nll": 0.5, "seconds": 0.0},
    ]
    assert 0 < sum(seconds) <= record.seconds
    assert [*(tmp_path / "checkpoints").iterdir()] == []


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ((1, {"val_nll": math.nan}), "report: metric val_nll is nan, expected a finite number"),
        ((1, {"loss": "0.5"}), "report: metric loss is '0.5', expected a finite number"),
        ((1, {}), "report: expected a mapping of metrics, got {}"),
        ((1, 0.5), "report: expected a mapping of metrics, got 0.5"),
        ((0, {"a": 1}), "report: epoch is 0, expected a whole number from 1 to 2"),
        ((3, {"a": 1}), "report: epoch is 3, expected a whole number from 1 to 2"),
        ((1.0, {"a": 1}), "report: epoch is 1.0, expected a whole number from 1 to 2"),
        ((None, {"a": 1}), "report: epoch is None, expected a whole number from 1 to 2"),
        (
            (1, {"seconds": 1}),
            "report: seconds is recorded with every call; leave it out of metrics",
        ),
    ],
)
@pytest.mark.parametrize("catches", [False, True])
def test_an_invalid_report_fails_the_trial(
    call: tuple[Any, Any], reason: str, catches: bool
) -> None:
    def function(_: Subject, __: int, ___: int, report: Any) -> dict[str, float]:
        try:
            report(*call)
        except Exception:
            if not catches:
                raise
        return {"val_nll": 0.5}

    failures: list[BaseException] = []
    (record,) = run_function(job(), function, Context(), on_failure=failures.append)
    assert (record.state, record.reason, record.curve) == ("failed", reason, ())
    log = "".join(traceback.format_exception(*failures))
    assert "report(*call)" in log
    assert reason in log


def test_epochs_are_reported_in_order() -> None:
    (record,) = run_function(job(), reporting((2, {"a": 1}), (1, {"a": 2})), Context())
    assert record.reason == "report: epoch is 1, expected a whole number from 3 to 2"
    assert [row["a"] for row in record.curve] == [1]


def test_a_trial_beyond_its_time_limit_ends_with_the_next_report() -> None:
    def function(_: Subject, __: int, epochs: int, report: Any) -> dict[str, float]:
        for epoch in range(1, epochs + 1):
            time.sleep(0.02)
            report(epoch, {"val_nll": 1.0})
        return {"val_nll": 1.0}

    (record,) = run_function(job(), function, Context(time_limit_s=0.01))
    assert (record.state, len(record.curve)) == ("timeout", 1)
    assert record.reason == "time limit of 0.01 s reached in epoch 1"
    (record,) = run_function(job(), function, Context(time_limit_s=60))
    assert record.state == "done"


def interrupted(folder: Path, function: Any, epoch: int) -> None:
    """Run a trial that dies after a report, without the clean-up of a failure."""

    def dying(architecture: Subject, seed: int, epochs: int, **options: Any) -> dict[str, float]:
        report = options.pop("report")

        def report_and_die(number: int, metrics: Any) -> None:
            report(number, metrics)
            if number == epoch:
                raise KeyboardInterrupt

        return dict(function(architecture, seed, epochs, report=report_and_die, **options))

    dying.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        run_function(job(), dying, Context(folder=folder))


def test_a_trial_that_starts_anew_replaces_its_earlier_rows(tmp_path: Path) -> None:
    interrupted(tmp_path, reporting((1, {"a": 1}), (2, {"a": 2})), 1)
    (record,) = run_function(
        job(), reporting((1, {"a": 3}), (2, {"a": 4})), Context(folder=tmp_path)
    )
    assert [(row["epoch"], row["a"]) for row in record.curve] == [(1, 3), (2, 4)]


def resuming(
    _: Subject, __: int, epochs: int, report: Any, checkpoint_dir: Path
) -> dict[str, float]:
    file = checkpoint_dir / "epoch.txt"
    start = int(file.read_text()) if file.exists() else 0
    for epoch in range(start + 1, epochs + 1):
        file.write_text(str(epoch))
        report(epoch, {"val_nll": 1 / epoch, "start": start})
    return {"val_nll": 1 / epochs}


def test_a_trial_continues_from_its_folder_with_the_rows_before(tmp_path: Path) -> None:
    interrupted(tmp_path, resuming, 1)
    (file,) = tmp_path.rglob("curve.json")
    kept = json.loads(file.read_text())["rows"]
    (record,) = run_function(job(), resuming, Context(folder=tmp_path))
    assert [(row["epoch"], row["start"]) for row in record.curve] == [(1, 0), (2, 1)]
    assert record.curve[0] == kept[0]
    assert record.seconds > kept[0]["seconds"]
    (folder,) = (tmp_path / "checkpoints").iterdir()  # keep_weights is all
    assert (folder / "checkpoints" / "epoch.txt").read_text() == "2"


def test_the_next_rung_finds_the_folder_of_the_one_below(tmp_path: Path) -> None:
    context = Context(folder=tmp_path)
    low = job().model_copy(update={"fidelity": 1, "rung": "rung 1 of 2"})
    (early,) = run_function(low, resuming, context)
    (other,) = run_function(low.model_copy(update={"seeds": (1,)}), resuming, context)
    (done,) = run_function(job(keep_weights="none"), resuming, context)
    assert [record.state for record in (early, other, done)] == ["early", "early", "done"]
    assert [[row["start"] for row in r.curve] for r in (early, other, done)] == [[0], [0], [0, 1]]
    assert done.curve[0] == early.curve[0]
    assert done.seconds == pytest.approx(sum(row["seconds"] for row in done.curve[1:]), abs=0.1)
    (remaining,) = (tmp_path / "checkpoints").iterdir()  # of the seed that may be promoted
    assert remaining.name == f"{job(seeds=(1,)).trunk_key(1)}.trunk"


def test_a_promoted_trial_that_starts_anew_has_its_own_rows_only(tmp_path: Path) -> None:
    context = Context(folder=tmp_path)
    low = job().model_copy(update={"fidelity": 1, "rung": "rung 1 of 2"})
    run_function(low, reporting((1, {"a": 1})), context)
    (record,) = run_function(job(), reporting((2, {"a": 2})), context)
    assert [(row["epoch"], row["a"]) for row in record.curve] == [(2, 2)]
    assert [*(tmp_path / "checkpoints").iterdir()] == []


def test_a_damaged_curve_is_ignored(tmp_path: Path) -> None:
    path = function_folder(tmp_path, job().trial_keys[0]) / "curve.json"
    rows = ("[1]", '[{"epoch": 1}]', '[{"epoch": "x", "seconds": 1}]', "null")
    for text in (
        "{",
        "\x00",
        "[]",
        *(f'{{"trial": "", "num_inherited": 0, "rows": {r}}}' for r in rows),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        (record,) = run_function(job(), reporting((2, {"a": 1})), Context(folder=tmp_path))
        assert [row["epoch"] for row in record.curve] == [2]


@pytest.fixture
def separate_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use device locks that no other process holds."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("separate_locks")
def test_measured_metrics_of_a_timed_study_are_refused() -> None:
    metrics = {"val_nll": 1.0, "latency_ms": 3.0}
    (record,) = run_function(job(), lambda *_: metrics, Context(), is_timed=True)
    assert record.state == "failed"
    assert "latency_ms is measured by this study" in str(record.reason)
    (record,) = run_function(job(), lambda *_: metrics, Context())
    assert record.metrics == metrics


@pytest.mark.usefixtures("separate_locks")
def test_a_measurement_goes_between_two_epochs() -> None:
    order: list[str] = []
    measures = threading.Event()

    def measurement() -> None:
        measures.set()
        with exclusive_access("cpu"):
            order.append("measured")

    thread = threading.Thread(target=measurement)

    def function(_: Subject, __: int, ___: int, report: Any) -> dict[str, float]:
        thread.start()
        measures.wait()
        time.sleep(0.1)  # the thread waits for the device now
        order.append("epoch 1")
        report(1, {"val_nll": 1.0})
        order.append("epoch 2")
        return {"val_nll": 1.0}

    (record,) = run_function(job(), function, Context(), is_timed=True)
    thread.join()
    assert record.state == "done"
    assert order == ["epoch 1", "measured", "epoch 2"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("a, seed", "too many positional arguments"),
        ("a, seed, epochs, reporter", "missing a required argument: 'reporter'"),
        ("a, seed, report", "multiple values for argument 'report'"),
        ("a, seed, epochs, *, device", "missing a required argument: 'device'"),
    ],
)
def test_a_function_with_other_parameters_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: str, message: str
) -> None:
    name = re.sub(r"\W", "_", f"odd_{parameters}")
    (tmp_path / f"{name}.py").write_text(f"def train({parameters}):\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"train(architecture, seed, epochs): {message}")):
        import_function(f"{name}:train")


def test_optional_parameters_may_be_named_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "def train(net, seed, epochs, checkpoint_dir=None, device='cpu', *, report):\n    pass\n"
    (tmp_path / "any_order.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert callable(import_function("any_order:train"))


def test_torch_has_the_threads_of_the_recipe() -> None:
    before = torch.get_num_threads()
    threads: list[int] = []

    def function(*_: Any) -> dict[str, float]:
        threads.append(torch.get_num_threads())
        return {"val_nll": 1.0}

    for count in (1, 3):
        run_function(job(threads=count), function, Context())
    assert threads == [1, 3]
    assert torch.get_num_threads() == before
