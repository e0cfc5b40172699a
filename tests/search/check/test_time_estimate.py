"""Estimates of time against closed forms, with trials that advance a simulated clock."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import TimmModel
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.search.check import pilot, time_estimate
from partialnas.search.check.compute_estimate import estimate_compute
from partialnas.search.check.time_estimate import TrialTimeEstimate, estimate_trial_time
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.resolve.resources import Resources
from partialnas.search.session.run_study import rehearse_study
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.study import Study
from partialnas.space.arch.presets import preset

TASK = Task(data="digits", resolution=8, channels=1, classes=2)
NETWORK = preset("partialnet_t0")


def blank_splits(train: int, val: int, test: int) -> Splits:
    x = {n: np.zeros((n, 1, 8, 8), np.uint8) for n in (train, val, test)}
    y = {n: np.arange(n) % 2 for n in (train, val, test)}
    one = np.ones(1, np.float32)
    return Splits(x[train], y[train], x[val], y[val], x[test], y[test], mean=one, std=one)


@dataclass
class SimulatedMachine:
    """A machine on which every part of a trial takes a known time."""

    step: float
    image: float
    startup: float
    warm_up: float
    saving: float
    now: float = 0.0
    steps_run: int = 0

    def run_job(self, job: Job, context: Context) -> list[Any]:
        assert context.splits is not None
        assert context.folder is not None
        assert context.on_epoch is not None
        started, splits = self.now, context.splits
        self.now += self.startup
        train, size = len(splits.train_y), job.recipe.batch_size
        for epoch in range(job.fidelity):
            begun, steps = self.now, max(1, train // size)
            self.steps_run += steps
            self.now += steps * (self.step + 3 * self.image * min(size, train))
            self.now += self.image * len(splits.val_y) + (self.warm_up if epoch == 0 else 0)
            seconds = self.now - begun
            self.now += self.saving
            context.on_epoch("key", {"seconds": seconds})
        self.now += self.image * len(splits.test_y)
        return [SimpleNamespace(state="done", seconds=self.now - started)]


@settings(max_examples=50)
@given(
    train=st.integers(10, 4000),
    batch_size=st.integers(1, 1024),
    epochs=st.integers(1, 200),
    share=st.sampled_from([Fraction(1), Fraction(1, 3)]),
    step=st.sampled_from([1e-4, 1e-2, 3.0]),
    startup=st.sampled_from([0.0, 5.0]),
    warm_up=st.sampled_from([0.0, 2.0]),
    saving=st.sampled_from([0.0, 0.5]),
)
def test_the_estimate_of_a_trial_matches_its_closed_form(
    train: int,
    batch_size: int,
    epochs: int,
    share: Fraction,
    step: float,
    startup: float,
    warm_up: float,
    saving: float,
) -> None:
    image = step / 100
    splits = blank_splits(train, train // 5 + 1, train // 3 + 1)
    machine = SimulatedMachine(step, image, startup, warm_up, saving)
    condition = Condition(
        "", TASK, Recipe(epochs=epochs, batch_size=batch_size, data_share=share), Protocol()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pilot, "run_job", machine.run_job)
        patch.setattr(pilot, "time", SimpleNamespace(perf_counter=lambda: machine.now))
        estimate = pilot.time_trial(NETWORK, condition, "cpu", splits)
    used = 2 * max(1, round(share * (train // 2))) + (train % 2) * (share == 1)
    steps = max(1, used // batch_size)
    epoch = steps * (step + 3 * image * min(batch_size, used)) + image * len(splits.val_y)
    exact = startup + warm_up + epochs * (epoch + saving) + image * len(splits.test_y)
    # Testing is estimated by its images: steps cost nothing but their images.
    testing = epoch * len(splits.test_y) / (3 * used + len(splits.val_y))
    assert abs(estimate - exact) < 0.03 * exact + testing
    assert machine.steps_run <= 3 * (4 + 8 + 16 + 32 + 64)


def test_a_trial_that_resumes_from_a_shorter_one_costs_less() -> None:
    machine = SimulatedMachine(1.0, 0.0, 0.0, 0.0, 0.0)
    condition = Condition("", TASK, Recipe(epochs=10, batch_size=10), Protocol())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pilot, "run_job", machine.run_job)
        patch.setattr(pilot, "time", SimpleNamespace(perf_counter=lambda: machine.now))
        splits = blank_splits(100, 10, 10)
        assert pilot.time_trial(NETWORK, condition, "cpu", splits) == pytest.approx(100, rel=0.01)
        resumed = pilot.time_trial(NETWORK, condition, "cpu", splits, trunk_epochs=4)
    assert resumed == pytest.approx(60, rel=0.01)


PLAIN: dict[str, Any] = {
    "study": "plain",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "executor": {"kind": "in-process"},
}
SEARCH: dict[str, Any] = PLAIN | {
    "space": {"axes": {"width": [8, 12, 16, 20, 24], "mlp_ratio": [1, 2], "pat_sp": [False, True]}},
    "search": {"sampler": "random"},
    "budget": {"trials": 12},
}


def resolve(plain: dict[str, Any]) -> ResolvedStudy:
    return resolve_study(Study.model_validate(plain), Path())


def trial_seconds(
    resolved: ResolvedStudy, seconds: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> TrialTimeEstimate:
    def time_trial(subject: Any, condition: Condition, *_: Any, trunk_epochs: int) -> float:
        return seconds(subject, condition, condition.recipe.epochs - trunk_epochs)

    monkeypatch.setattr(time_estimate, "time_trial", time_trial)
    return estimate_trial_time(resolved, "cpu", load_splits)


def test_each_timm_model_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"resnet10t": 5.0, "resnet18": 50.0, "mobilenetv3_small_050": 1.0}
    arms = {"plain": {}, **{name: f"timm:{name}" for name in seconds}}

    def time(subject: Any, *_: Any) -> float:
        return seconds[subject.timm] if isinstance(subject, TimmModel) else 2.0

    estimate = trial_seconds(resolve(PLAIN | {"arms": arms}), time, monkeypatch)
    assert estimate.mean == pytest.approx((2 + 5 + 50 + 1) / 4)
    assert (estimate.low, estimate.high) == (1.0, 50.0)


def test_arms_with_other_recipes_cost_what_their_epochs_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ablation = {
        "design": "one-factor",
        "factors": {
            "training": {"long": {"recipe.epochs": 12}, "half": {"recipe.data_share": 0.5}}
        },
    }

    def time(_: Any, condition: Condition, epochs: int) -> float:
        return float(epochs * condition.recipe.data_share)

    estimate = trial_seconds(resolve(PLAIN | {"ablation": ablation}), time, monkeypatch)
    assert estimate.mean == pytest.approx((4 + 12 + 2) / 3)


def test_rungs_are_weighted_and_continue_from_shorter_trainings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = {"rungs": [{"recipe.epochs": 4}], "promote": "1/3", "sampler": "random"}
    for schedule, last in (("cosine", 16), ("trapezoid", 16 - 3)):  # 3 of 4 epochs are the trunk
        plain = SEARCH | {"search": search, "recipe": {"epochs": 16, "schedule": schedule}}
        estimate = trial_seconds(resolve(plain), lambda _s, _c, epochs: epochs, monkeypatch)
        assert estimate.mean == pytest.approx((3 * 4 + 1 * last) / 4)


def test_the_arms_of_a_search_count(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SEARCH | {"arms": {"big": "timm:resnet18"}, "seeds": 2, "budget": {"trials": 12}}
    estimate = trial_seconds(
        resolve(plain), lambda s, *_: 61.0 if isinstance(s, TimmModel) else 1.0, monkeypatch
    )
    assert estimate.mean == pytest.approx((2 * 61 + 10 * 1) / 12)


@pytest.mark.parametrize(("device", "mean"), [("cpu", 9.0), ("cuda", 1.0)])
def test_on_a_gpu_the_first_run_of_the_process_does_not_count(
    device: str, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = chain([9.0], repeat(1.0))
    monkeypatch.setattr(time_estimate, "time_trial", lambda *_, **__: next(seconds))
    resolved = resolve(PLAIN | {"arms": {"one": {"width": 8}}})
    assert estimate_trial_time(resolved, device, load_splits).mean == mean


def makespan(seconds: Sequence[float], workers: int) -> float:
    free = [0.0] * workers
    for trial in seconds:
        first = int(np.argmin(free))
        free[first] += trial
    return max(free)


@pytest.fixture(scope="module")
def many_arms() -> ResolvedStudy:
    arms = {f"a{number}": {"width": 8 + 2 * number} for number in range(40)}
    return resolve(PLAIN | {"arms": arms, "measure": {"max_seconds": 1e-9}})


@given(trials=st.integers(1, 40), seeds=st.integers(1, 3), workers=st.integers(1, 16))
def test_wall_clock_time_is_that_of_equal_trials_on_all_workers(
    many_arms: ResolvedStudy, trials: int, seeds: int, workers: int
) -> None:
    study = many_arms.study.model_copy(update={"seeds": seeds})
    resolved = replace(many_arms, study=study, arms=dict([*many_arms.arms.items()][:trials]))
    trial_time = TrialTimeEstimate(mean=3600, low=3600, high=3600, lower=3600, upper=3600)
    estimate = estimate_compute(trial_time, resolved, Resources("cuda", workers, 1, 1.0))
    assert estimate is not None
    hours = makespan([1.0] * trials * seeds, workers)
    low, high = estimate.wall_clock
    assert low <= hours + 1e-6
    assert high == pytest.approx(hours, abs=1e-6)
    assert estimate.device == pytest.approx((trials * seeds,) * 2, abs=1e-6)


def test_more_workers_than_cores_do_not_save_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    resolved = resolve(PLAIN | {"arms": {f"a{n}": {"width": 8 + 2 * n} for n in range(8)}})
    trial_time = TrialTimeEstimate(mean=3600, low=3600, high=3600, lower=3600, upper=3600)

    def hours(workers: int, threads: int = 1) -> float:
        estimate = estimate_compute(trial_time, resolved, Resources("cpu", workers, threads, 0))
        assert estimate is not None
        return round(estimate.wall_clock[1])

    assert [hours(1), hours(2), hours(4), hours(16), hours(16, threads=2)] == [8, 4, 2, 2, 4]


@pytest.mark.parametrize(
    ("objectives", "seeds"),
    [({"val_nll": "min"}, 2), ({"val_nll": "min", "latency_ms": "min"}, 1)],
)
def test_the_number_of_timed_networks_matches_a_dry_run(
    objectives: dict[str, str], seeds: int, tmp_path: Path
) -> None:
    axes = {"width": [*range(8, 48, 2)], "mlp_ratio": [1, 2], "pat_sp": [False, True]}
    plain = SEARCH | {
        "space": {"axes": axes},
        "search": {"sampler": "random", "rungs": [{"recipe.epochs": 1}], "promote": "1/3"},
        "objectives": objectives,
        "seeds": seeds,
        "budget": {"trials": 60},
        "measure": {"max_seconds": 3600},
    }
    resolved = resolve(plain)
    rehearse_study(resolved.study, tmp_path / "out")
    with Ledger.open(tmp_path / "out") as ledger:
        timed = len({row.digest for row in ledger.measurements()})
    trial_time = TrialTimeEstimate(1, 1, 1, 1, 1)
    estimate = estimate_compute(trial_time, resolved, Resources("cpu", 1, 1, 0))
    assert estimate is not None
    assert estimate.measuring[1] == pytest.approx(timed, rel=0.25)


@pytest.mark.slow
def test_the_estimate_is_near_what_a_real_trial_takes(tmp_path: Path) -> None:
    """Data of two batches: such a study was once estimated at a ninth of its time."""
    recipe = {"use": "short", "epochs": 20, "batch_size": 512}
    resolved = resolve(PLAIN | {"arms": {"a": {}}, "recipe": recipe})
    (condition,), subject = resolved.conditions, resolved.arms["a"]
    splits = load_splits(condition.task)
    settings = {"task": condition.task, "recipe": condition.recipe, "fidelity": 20, "seeds": (0,)}
    job = Job(subject=subject, **settings)

    def ratios() -> Iterator[float]:
        for attempt in range(3):  # the machine may be busy during one of the two
            estimate = pilot.time_trial(subject, condition, "cpu", splits)
            context = Context(splits=splits, folder=tmp_path / str(attempt))
            yield estimate / run_job(job, context)[0].seconds

    assert any(0.5 < ratio < 2 for ratio in ratios())
