"""Compute estimates and budgets of device-hours."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import UsageRow
from partialnas.runs.ledger.usage import DeviceShare, compute_usage
from partialnas.runs.measure.interleaved_timing import MIN_ROUNDS
from partialnas.search.check.compute_estimate import compute_lines, estimate_compute
from partialnas.search.check.time_estimate import TrialTimeEstimate
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resources import Resources
from partialnas.search.session.run_study import rehearse_study
from partialnas.search.study.study import Study

PLAIN: dict[str, Any] = {
    "study": "plain",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16, 20, 24], "mlp_ratio": [1, 2], "pat_sp": [False, True]}},
    "search": {"sampler": "random"},
    "budget": {"trials": 12},
    "executor": {"kind": "in-process"},
}


def test_a_device_hour_is_a_whole_device_for_an_hour() -> None:
    work = [
        UsageRow("done", True, 16, 7200.0),
        UsageRow("failed", True, 16, 3600.0),
        UsageRow("measuring", False, 8, 3600.0),
        UsageRow("measuring", False, 8, None),
    ]
    estimate = compute_usage(work, DeviceShare(gpus=0.25, threads=2))
    assert estimate.hours == {"done": 2.0, "failed": 1.0, "measuring": 1.0}
    assert estimate.device_hours == pytest.approx(0.25 * 3 + 2 / 8)


@given(st.lists(st.floats(0, 1e6), max_size=20), st.integers(1, 64), st.integers(1, 64))
def test_a_worker_uses_at_most_the_whole_machine(
    seconds: list[float], threads: int, cores: int
) -> None:
    estimate = compute_usage(
        [UsageRow("done", False, cores, value) for value in seconds], DeviceShare(threads=threads)
    )
    assert estimate.device_hours == pytest.approx(sum(seconds) / 3600 * min(1, threads / cores))


def test_a_budget_of_device_hours_counts_all_sessions(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    rehearse_study(Study.model_validate(PLAIN), whole)
    with Ledger.open(whole) as ledger:
        total = compute_usage(ledger.usage_rows(), DeviceShare(threads=1)).device_hours
    half = Study.model_validate(PLAIN | {"budget": {"trials": 12, "device_hours": total / 2}})
    part = tmp_path / "part"
    for _ in range(2):
        rehearse_study(half, part)
        with Ledger.open(part) as ledger:
            counts, estimate = (
                ledger.state_counts(),
                compute_usage(ledger.usage_rows(), DeviceShare(threads=1)),
            )
            rows = ledger.trials()
        longest = max(row.seconds for row in rows) / 3600
        assert 0 < counts["done"] < 12
        assert total / 2 <= estimate.device_hours <= total / 2 + longest
        assert len(rows) == len({row.key for row in rows})
    rehearse_study(Study.model_validate(PLAIN), part)
    with Ledger.open(part) as ledger:
        assert ledger.state_counts()["done"] == 12
        assert [row.digest for row in ledger.trials()] == [row.digest for row in _trials(whole)]


def _trials(folder: Path) -> Any:
    with Ledger.open(folder) as ledger:
        return ledger.trials()


def test_an_estimate_has_parallel_trainings_and_sequential_measurements() -> None:
    study = Study.model_validate(PLAIN | {"measure": {"max_seconds": 30}, "seeds": 2})
    resolved = resolve_study(study, Path())
    trial_time = TrialTimeEstimate(mean=100, low=50, high=200, lower=80, upper=120)
    estimate = estimate_compute(trial_time, resolved, Resources("cuda", 4, 1, 0.5))
    assert estimate is not None
    assert estimate.wall_clock[1] == pytest.approx((12 * 120 / 4 + 6 * 30) / 3600)
    assert estimate.device[1] == pytest.approx((12 * 120 + 6 * 30) / 3600)
    assert 12 * 80 / 4 / 3600 < estimate.wall_clock[0] < estimate.wall_clock[1]
    lines = compute_lines(
        estimate, resolve_study(_with(study, device_hours=estimate.device[1] / 2), Path())
    )
    assert any("enough for 50%" in line for line in lines)


def _with(study: Study, **budget: float) -> Study:
    return Study.model_validate(study.frozen() | {"budget": {"trials": 12, **budget}})


@pytest.mark.parametrize(
    ("device", "round_s"),
    [("cpu", 4 * 0.001), ("cuda", 4 * 0.010)],
)
def test_a_measurement_takes_at_least_the_timings_of_its_device(
    device: str, round_s: float
) -> None:
    study = Study.model_validate(PLAIN | {"measure": {"device": device, "max_seconds": 30}})
    trial_time = TrialTimeEstimate(mean=1, low=1, high=1, lower=1, upper=1)
    resources = Resources("cuda", 1, 1, 1.0)
    estimate = estimate_compute(trial_time, resolve_study(study, Path()), resources)
    assert estimate is not None
    shortest, longest = (3600 * hours for hours in estimate.measuring)
    assert shortest / longest == pytest.approx(MIN_ROUNDS * round_s / 30)
