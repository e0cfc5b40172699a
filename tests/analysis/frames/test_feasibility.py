"""Limits of a study: only networks that satisfy them are on its front."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.analysis import Trials, front, load, load_trials, pareto_figure, pareto_table
from partialnas.analysis.audit.confirmation import select_networks
from partialnas.analysis.frames.feasibility import feasibility_sentence, infeasible_message
from partialnas.analysis.frames.seed_means import aggregate
from partialnas.commands.status import front_table
from partialnas.runs.config.metric_limits import Limit, limit_excess, total_violation
from partialnas.space.errors import UserError

TWO: dict[str, Any] = {"val_nll": "min", "params": "min"}
SIMPLE = {"objectives": TWO, "arms": {}}


def records(points: list[tuple[float, int]]) -> list[dict[str, Any]]:
    return [
        {"state": "done", "digest": f"{i:016x}", "seed": seed,
         "metrics": {"val_nll": nll + seed / 10, "val_accuracy": 100 - 10 * nll},
         "cost": {"params": p, "macs": p, "macs_core": p, "activations": p}}
        for i, (nll, p) in enumerate(points)
        for seed in (0, 1)
    ]  # fmt: skip


bounds = st.floats(-1e6, 1e6)


@given(low=bounds, high=bounds, value=st.floats())
def test_limit_accepts_values_between_its_bounds(low: float, high: float, value: float) -> None:
    low, high = sorted((low, high))
    limits = {"both": Limit(min=low, max=high), "min": Limit(min=low), "max": Limit(max=high)}
    excess = limit_excess(limits, dict.fromkeys(limits, value))
    assert (excess["both"] <= 0) == (low <= value <= high)
    assert (excess["min"] <= 0) == (math.isfinite(value) and value >= low)
    assert (excess["max"] <= 0) == (math.isfinite(value) and value <= high)
    assert (total_violation(excess) == 0) == (low <= value <= high)
    assert limit_excess(limits, {}) == dict.fromkeys(limits, math.inf)


def test_excess_is_relative_to_the_bound() -> None:
    assert Limit(max=4.0).excess(5.0) == 0.25
    assert Limit(min=80.0).excess(60.0) == 0.25
    assert Limit(max=0.0).excess(3.0) == 3.0
    assert Limit(min=1.0, max=2.0).excess(1.5) == -0.25


@pytest.mark.parametrize("stated", [{}, {"min": 3.0, "max": 1.0}, {"max": float("inf")}])
def test_invalid_limit_is_rejected(stated: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected|finite"):
        Limit.model_validate(stated)


def test_infeasible_networks_are_marked_and_not_on_the_front(
    tmp_path: Path, ledgers: Callable[..., Path]
) -> None:
    # means over the seeds: 0.15, 0.35, 0.55, 0.95
    points = [(0.1, 40), (0.3, 30), (0.5, 20), (0.9, 10)]
    limits = {"val_nll": {"max": 0.5}}
    frame = load(ledgers(tmp_path / "s", records(points), study={**SIMPLE, "limits": limits}))
    rows = front(frame, TWO)
    assert rows["feasible"].tolist() == rows["on_front"].tolist() == [True, True, False, False]
    assert rows["rank"].isna().tolist() == [False, False, True, True]
    table = pareto_table(frame, "params", "val_nll")
    assert table.loc[table["on_front"], "params"].tolist() == [30, 40]
    assert len(table) == 4
    drawn = pareto_figure(frame, tmp_path / "f.pdf", x="params", y="val_nll")
    assert drawn.files[0].exists()
    assert "limits of the study (val_nll at most 0.5): 2 of 4 architectures;" in drawn.caption


def test_a_front_without_feasible_networks_is_empty(
    tmp_path: Path, ledgers: Callable[..., Path]
) -> None:
    limits = {"val_accuracy": {"min": 99.9}}
    frame = load(ledgers(tmp_path / "s", records([(0.5, 1)]), study={**SIMPLE, "limits": limits}))
    assert not front(frame, TWO)["on_front"].any()
    drawn = pareto_figure(frame, tmp_path / "f.pdf", x="params", y="val_nll")
    message = "No network is within the limits (val_accuracy at least 99.9); the closest is #1 with"
    assert message in drawn.caption


def test_closest_infeasible_network_is_named(tmp_path: Path, ledgers: Callable[..., Path]) -> None:
    limits = {"val_nll": {"max": 0.25}, "params": {"min": 20, "max": 30}}
    study = {**SIMPLE, "limits": limits}
    # means over the seeds: 0.55, 0.35, 1.05: beyond by 1.2 + 1/3, 0.4, 3.2 + 1/2
    folder = ledgers(tmp_path / "s", records([(0.5, 40), (0.3, 30), (1, 10)]), study=study)
    trials = load_trials(folder)
    bounds = "val_nll at most 0.25, params at least 20, at most 30"
    closest = f"#{trials.frame['trial'].tolist()[2]} with val_nll 0.35, params 30"
    assert infeasible_message(front(trials, TWO), trials.limits) == (
        f"no network is within the limits ({bounds}); the closest is {closest}"
    )
    with pytest.raises(UserError, match="no network is within the limits"):
        select_networks(folder, "front")
    assert "the closest is" in str(front_table(trials).caption)
    met = load_trials(ledgers(tmp_path / "m", records([(0.1, 30), (1, 10)]), study=study))
    assert infeasible_message(front(met, TWO), met.limits) == ""
    assert front_table(met).caption is None


def test_limits_apply_only_to_networks_of_their_study(
    tmp_path: Path, ledgers: Callable[..., Path]
) -> None:
    limits = {"val_nll": {"max": 0.4}}
    limited = ledgers(tmp_path / "a", records([(0.5, 1)]), study={**SIMPLE, "limits": limits})
    free = ledgers(tmp_path / "b", records([(0.5, 1)]), study=SIMPLE)
    assert aggregate(load([limited, free]), TWO)["feasible"].tolist() == [False, True]
    assert "feasible" not in aggregate(load(free), TWO)


def test_limits_apply_to_speeds_as_timed(frames: Callable[..., pd.DataFrame]) -> None:
    frame = frames(10, failed=0)
    folder = frame["folder"].iloc[0]
    raw = frame.groupby("digest", sort=False)["throughput_raw_img_s"].first()
    fast = raw.ge(raw.median()).tolist()
    limits = {"throughput_img_s": {"min": raw.median()}, "latency_ms": {"max": 32e3 / raw.median()}}
    assert set(fast) == {True, False}
    for key, limit in limits.items():
        limited = Trials(frame=frame, limits={folder: {key: limit}})
        rows = aggregate(limited, TWO)
        assert rows["feasible"].tolist() == fast
        message = "Limits apply to speeds as they were timed, not to those on the common scale."
        assert feasibility_sentence(rows, limited.limits).endswith(message)
        rows["throughput_raw_img_s"] = rows["throughput_img_s"]
        assert "timed" not in feasibility_sentence(rows, limited.limits)
    small = Trials(frame=frame, limits={folder: {"params": {"max": 10**9}}})
    assert "timed" not in feasibility_sentence(aggregate(small, TWO), small.limits)
