from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from partialnas.analysis.frames.seed_means import aggregate
from partialnas.analysis.pareto.front_probability import (
    format_probability,
    front_probability,
    simulate_fronts,
)
from partialnas.analysis.pareto.table import pareto_table

Frames = Callable[..., pd.DataFrame]
BOTH = {"cost": "min", "loss": "min"}
TOLERANCE = 0.035  # three standard errors of a share of 2,000 draws


def spread(points: np.ndarray, sd: float) -> np.ndarray:
    """Only the second objective varies between seeds."""
    return np.tile(np.diag([0.0, sd**2]), (len(points), 1, 1))


def test_two_rivals_have_the_probability_of_the_normal_distribution() -> None:
    points = np.array([[1.0, 0.50], [2.0, 0.48]])
    chances = simulate_fronts(points, spread(points, 0.02), BOTH)
    # the more expensive one needs the lower loss; the cheaper one is always on the front
    expected = norm.cdf(0.02 / (0.02 * np.sqrt(2)))
    assert chances == pytest.approx([1.0, expected], abs=TOLERANCE)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_probabilities_equal_those_of_a_plain_simulation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(12, 2))
    roots = rng.normal(scale=0.3, size=(12, 2, 2))
    covariances = roots @ roots.transpose(0, 2, 1)
    draws = points + np.einsum("nij,rnj->rni", roots, rng.normal(size=(2000, 12, 2)))
    beaten = (draws[:, None] <= draws[:, :, None]).all(3) & (
        draws[:, None] < draws[:, :, None]
    ).any(3)
    expected = 1 - beaten.any(axis=2).mean(axis=0)
    assert simulate_fronts(points, covariances, BOTH) == pytest.approx(expected, abs=0.07)


def test_certain_and_impossible_points_have_probability_one_and_zero() -> None:
    points = np.array([[1.0, 1.0], [2.0, 2.0], [0.5, 3.0]])
    assert simulate_fronts(points, spread(points, 0.01), BOTH).tolist() == [1.0, 0.0, 1.0]
    assert simulate_fronts(points, spread(points, 0.0), BOTH).tolist() == [1.0, 0.0, 1.0]


def test_direction_of_objectives_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(8, 2))
    down = simulate_fronts(points, spread(points, 0.5), BOTH)
    up = simulate_fronts(points * [1, -1], spread(points, 0.5), {"cost": "min", "gain": "max"})
    assert up == pytest.approx(down, abs=2 * TOLERANCE)


def test_variance_is_pooled_over_architectures_and_divided_by_the_seeds(frames: Frames) -> None:
    frame = frames(2, 4, failed=0)
    apart = np.tile([0.50, 0.49], 4) + np.repeat([-0.03, -0.01, 0.01, 0.03], 2)
    frame = frame.assign(val_nll=apart, macs=np.tile([100, 200], 4))
    objectives = {"macs": "min", "val_nll": "min"}
    chances = front_probability(frame, aggregate(frame, objectives), objectives)
    variance = np.var([-0.03, -0.01, 0.01, 0.03], ddof=1) / 4
    assert chances.tolist() == pytest.approx(
        [1.0, norm.cdf(0.01 / np.sqrt(2 * variance))], abs=TOLERANCE
    )


def test_probability_is_unknown_with_one_seed(frames: Frames) -> None:
    alone = pareto_table(frames(20, 1, failed=0), "macs", "val_nll")
    assert alone["front_probability"].isna().all()
    frame = frames(20, 2, failed=0, baselines=("resnet10",))
    single = frame["digest"].eq("d" + "0" * 14 + "4") & frame["seed"].eq(1)
    table = pareto_table(frame[~single], "macs", "val_nll").set_index("trial")
    assert np.isnan(table.loc[5, "front_probability"])
    assert table.loc[table["baseline"], "front_probability"].isna().all()
    assert table.loc[table["on_front"], "front_probability"].dropna().gt(0.02).all()


def test_counted_objectives_are_certain(frames: Frames) -> None:
    table = pareto_table(frames(20, 1, failed=0), "macs", "params")
    assert table["front_probability"].tolist() == table["on_front"].astype(float).tolist()


@pytest.mark.parametrize(
    ("chance", "text"),
    [(np.nan, ""), (0.0, "0 %"), (0.001, "< 1 %"), (0.876, "88 %"), (1, "100 %")],
)
def test_texts(chance: float, text: str) -> None:
    assert format_probability(chance) == text
