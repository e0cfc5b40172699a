"""Budgets of device-hours: what counts, over sittings, and when nothing new is begun."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import UsageRow
from partialnas.runs.ledger.usage import DeviceShare, compute_usage
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
    found = compute_usage(work, DeviceShare(gpus=0.25, threads=2))
    assert found.hours == {"done": 2.0, "failed": 1.0, "measuring": 1.0}
    assert found.device_hours == pytest.approx(0.25 * 3 + 2 / 8)


@given(st.lists(st.floats(0, 1e6), max_size=20), st.integers(1, 64), st.integers(1, 64))
def test_a_worker_never_has_more_than_its_machine(
    seconds: list[float], threads: int, cores: int
) -> None:
    found = compute_usage(
        [UsageRow("done", False, cores, each) for each in seconds], DeviceShare(threads=threads)
    )
    assert found.device_hours == pytest.approx(sum(seconds) / 3600 * min(1, threads / cores))


def test_a_spent_budget_ends_a_study_over_all_sittings(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    rehearse_study(Study.model_validate(PLAIN), whole)
    with Ledger.open(whole) as ledger:
        every = compute_usage(ledger.usage_rows(), DeviceShare(threads=1)).device_hours
    half = Study.model_validate(PLAIN | {"budget": {"trials": 12, "device_hours": every / 2}})
    part = tmp_path / "part"
    for _ in range(2):
        rehearse_study(half, part)
        with Ledger.open(part) as ledger:
            counts, found = ledger.state_counts(), compute_usage(ledger.usage_rows(), DeviceShare(threads=1))
            rows = ledger.trials()
        dearest = max(row.seconds for row in rows) / 3600
        assert 0 < counts["done"] < 12
        assert every / 2 <= found.device_hours <= every / 2 + dearest
        assert len(rows) == len({row.key for row in rows})
    rehearse_study(Study.model_validate(PLAIN), part)
    with Ledger.open(part) as ledger:
        assert ledger.state_counts()["done"] == 12
        assert [row.digest for row in ledger.trials()] == [row.digest for row in _trials(whole)]


def _trials(folder: Path) -> Any:
    with Ledger.open(folder) as ledger:
        return ledger.trials()


def test_a_price_is_trainings_over_workers_and_measuring_one_by_one() -> None:
    study = Study.model_validate(PLAIN | {"measure": {"max_seconds": 30}, "seeds": 2})
    prepared = resolve_study(study, Path())
    each = TrialTimeEstimate(mean=100, low=50, high=200, lower=80, upper=120)
    found = estimate_compute(each, prepared, Resources("cuda", 4, 1, 0.5))
    assert found is not None
    assert found.wall_clock[1] == pytest.approx((12 * 120 / 4 + 6 * 30) / 3600)
    assert found.device[1] == pytest.approx((12 * 120 + 6 * 30) / 3600)
    assert 12 * 80 / 4 / 3600 < found.wall_clock[0] < found.wall_clock[1]
    told = compute_lines(
        found, resolve_study(_with(study, device_hours=found.device[1] / 2), Path())
    )
    assert any("pays for 50%" in line for line in told)


def _with(study: Study, **budget: float) -> Study:
    return Study.model_validate(study.frozen() | {"budget": {"trials": 12, **budget}})
