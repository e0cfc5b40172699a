"""Retries of marked measurements, and when networks are timed."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.devices.device_lock import exclusive_access, shared_access
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.measure import measure
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.runs.records.subject import Subject, subject_digest, subject_name
from partialnas.runs.trials import trial
from partialnas.search.resolve.resources import resolve_resources
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.errors import MachineError, UserError

QUIET, NOISY, TAINTED = {}, {"noisy": True}, {"tainted": True}
Fake = Callable[..., Measurement]


class Clock:
    """A fake of `measure` that gives each network's measurements these marks, one after another."""

    def __init__(self, *marks: dict[str, bool]) -> None:
        self.marks = marks
        self.taken: list[str] = []

    def __call__(self, subject: Subject, task: Task, protocol: Protocol, *_: object) -> Measurement:
        digest = subject_digest(subject)
        before = self.taken.count(digest)
        self.taken.append(digest)
        marks = self.marks[min(before, len(self.marks) - 1)]
        return measurement(digest, subject_name(subject), task, protocol, 1.0 + before, **marks)


def measurement(
    digest: str, name: str, task: Task, protocol: Protocol, relative: float, **marks: bool
) -> Measurement:
    return Measurement(
        digest=digest, name=name, device="cpu", device_kind="cpu", threads=protocol.threads,
        batch_size=protocol.batch_size, resolution=task.resolution, in_chans=task.channels,
        precision=protocol.precision, form=protocol.form, throughput_img_s=100 * relative,
        latency_ms=10 / relative, relative_throughput=relative, relative_low=relative,
        relative_high=relative, reference_digest="r" * 16, reference_name="r",
        reference_form="deploy", reference_throughput_img_s=100.0, rounds=30, wall_cpu_gap=0.0,
        load=0.0, environment={"processor": "Chip 9"}, taken="2030-01-01T00:00:00+00:00",
        **{"noisy": False, **marks},
    )  # fmt: skip


def study(**changes: Any) -> Study:
    plain: dict[str, Any] = {
        "study": "again",
        "task": {"data": "digits"},
        "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
        "space": {"axes": {"width": [4, 8]}},
        "recipe": {"use": "short", "epochs": 1},
        "arms": {"one": {"width": 4}},
        "objectives": {"val_nll": "min"},
        "measure": {"batch_size": 2},
        "executor": {"kind": "in-process"},
    }
    return Study.model_validate(plain | changes)


def trained(job: Job, *_: object) -> list[Record]:
    """A fake of training."""
    facts = {"digest": subject_digest(job.subject), "fidelity": job.fidelity, "state": "done"}
    return [
        Record(key=key, seed=seed, name="", metrics={"val_nll": 1.0}, **facts)
        for seed, key in job.trial_keys.items()
    ]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Measurement]]:
    monkeypatch.setattr(trial, "run_job", trained)

    def run(clock: Clock, **changes: Any) -> list[Measurement]:
        monkeypatch.setattr(measure, "measure", clock)
        run_study(study(**changes), tmp_path / "out", console=Console(quiet=True))
        with Ledger.open(tmp_path / "out") as ledger:
            return ledger.measurements()

    return run


@pytest.mark.parametrize(
    ("marks", "retries", "count"),
    [
        ([QUIET], 1, 1),
        ([NOISY, QUIET], 1, 2),
        ([TAINTED, QUIET], 1, 2),
        ([NOISY], 1, 2),
        ([NOISY], 0, 1),
        ([NOISY, TAINTED, QUIET], 3, 3),
    ],
)
def test_marked_measurements_are_repeated_up_to_the_retry_limit(
    marks: list[dict[str, bool]], retries: int, count: int, timed: Callable[..., Any]
) -> None:
    protocol = {"batch_size": 2, "retries": retries}
    taken = timed(Clock(*marks), measure=protocol)
    assert len(taken) == count
    assert len(timed(Clock(NOISY), measure=protocol)) == count  # the next start times nothing


def test_all_networks_are_timed_once_before_any_retry(timed: Callable[..., Any]) -> None:
    arms = {"one": {"width": 4}, "two": {"width": 8}}
    clock = Clock(NOISY, QUIET)
    timed(clock, arms=arms)
    assert len(clock.taken) == 4
    assert set(clock.taken[:2]) == set(clock.taken[2:])
    assert len(set(clock.taken)) == 2


def test_the_best_measurement_appears_in_tables(timed: Callable[..., Any], tmp_path: Path) -> None:
    from partialnas.analysis import load

    timed(Clock(TAINTED, NOISY | TAINTED))
    (row,) = load(tmp_path / "out").to_dict("records")
    assert row["relative_throughput"] == 1.0  # the second one has two marks
    assert (row["noisy"], row["tainted"]) == (True, True)


SEARCH: dict[str, Any] = {
    "search": {"sampler": "random"},
    "arms": {},
    "budget": {"trials": 2},
}


@pytest.mark.parametrize(
    ("when", "objectives", "early"),
    [
        ("auto", {"val_nll": "min"}, False),
        ("auto", {"val_nll": "min", "throughput_img_s": "max"}, True),
        ("during", {"val_nll": "min"}, True),
        ("after", {"val_nll": "min"}, False),
        ("after", {"val_nll": "min", "latency_ms": "min"}, False),
    ],
)
def test_networks_are_timed_during_or_after_training(
    when: str,
    objectives: dict[str, str],
    early: bool,
    timed: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    clock = Clock(QUIET)
    monkeypatch.setattr(trial, "run_job", lambda *a: (order.append("train"), trained(*a))[1])

    def noting(*arguments: Any) -> Measurement:
        order.append("time")
        return clock(*arguments)

    timed(noting, **SEARCH, objectives=objectives, measure={"batch_size": 2, "when": when})
    assert order == (["train", "time"] * 2 if early else ["train"] * 2 + ["time"] * 2)


def test_a_measured_objective_cannot_be_timed_after_the_search() -> None:
    objectives = {"val_nll": "min", "throughput_img_s": "max"}
    with pytest.raises(ValueError, match=r"measure\.when: the search uses throughput_img_s"):
        study(
            **{**SEARCH, "search": {"sampler": "nsga2"}},
            objectives=objectives,
            measure={"when": "after"},
        )
    study(**SEARCH, objectives=objectives, measure={"when": "after"})


def test_measure_when_cannot_differ_between_conditions() -> None:
    conditions = {"a": {"measure.when": "after"}, "b": {"recipe.epochs": 2}}
    with pytest.raises(ValueError, match=r"a: measure\.when must be the same for the whole study"):
        study(conditions=conditions)


@pytest.mark.parametrize(
    ("trains", "measures", "kind", "allowed"),
    [
        ("cuda", "cuda:1", "in-process", True),
        ("cuda", "cuda:1", "ray", False),
        ("cuda", "cuda", "ray", True),
        ("cuda", "cpu", "ray", True),
        ("cpu", "cuda", "ray", False),
        ("cpu", "cuda", "in-process", True),
    ],
)
def test_a_separate_gpu_for_timing(
    trains: str, measures: str, kind: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    plan = study(executor={"kind": kind, "device": trains}, measure={"device": measures})
    if allowed:
        assert resolve_resources(plan).device == trains
        return
    with pytest.raises(UserError, match=f"Ray workers train on {trains} and cannot see {measures}"):
        resolve_resources(plan)


def test_gpus_for_timing_and_training_have_separate_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with shared_access("cuda"), exclusive_access("cuda:1", timeout_s=0):
        busy = exclusive_access("cuda:0", timeout_s=0)
        with pytest.raises(MachineError, match="stayed busy"):
            busy.__enter__()
