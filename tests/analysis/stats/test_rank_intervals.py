"""Seed noise against statsmodels; confidence sets of ranks against brute force and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from partialnas.analysis.stats.multivariate_t import dunnett_critical_value
from partialnas.analysis.stats.rank_intervals import SeedNoise, pooled_seed_noise, rank_intervals


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.5])
def test_noise_is_the_residual_deviation_of_networks_and_seeds(missing: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((12, 4)) + 3 * rng.standard_normal((12, 1)) + np.arange(4)
    values[rng.random(values.shape) < missing] = math.nan
    cells = pd.DataFrame(values).stack().dropna().rename("value").reset_index()
    fitted = smf.ols("value ~ C(level_0) + C(level_1)", cells).fit()
    noise = pooled_seed_noise(values)
    assert noise.deviation == pytest.approx(math.sqrt(fitted.scale))
    assert noise.degrees == fitted.df_resid


def test_a_seed_effect_shared_by_all_networks_is_not_noise() -> None:
    values = np.arange(5.0)[:, None] + np.array([0.0, 10.0])
    assert pooled_seed_noise(values) == SeedNoise(pytest.approx(0, abs=1e-12), 4)


@pytest.mark.parametrize("values", [np.empty((0, 0)), np.ones((4, 1)), np.full((3, 2), math.nan)])
def test_noise_is_unknown_without_a_second_seed(values: np.ndarray) -> None:
    assert pooled_seed_noise(values).degrees == 0
    assert math.isnan(pooled_seed_noise(values).deviation)


@pytest.mark.parametrize(
    ("degrees", "count", "published"),
    [(10, 1, 2.23), (10, 2, 2.57), (10, 4, 2.89), (20, 2, 2.38), (20, 4, 2.65)],
)
def test_critical_values_are_those_of_dunnetts_table(
    degrees: int, count: int, published: float
) -> None:
    assert dunnett_critical_value(0.95, degrees, count) == pytest.approx(published, abs=0.006)


def test_confidence_sets_exclude_significantly_better_and_worse_networks() -> None:
    rng = np.random.default_rng(1)
    scores, seeds = rng.standard_normal(30).round(1), rng.integers(1, 4, 30).astype(float)
    between = SeedNoise(0.3, 25)
    critical = dunnett_critical_value(0.95, 25, 29)
    intervals = zip(*rank_intervals(scores, seeds, between), strict=True)
    for i, (rank, low, high) in enumerate(intervals):
        threshold = [critical * 0.3 * math.sqrt(1 / seeds[i] + 1 / n) for n in seeds]
        better = sum(s - scores[i] > t for s, t in zip(scores, threshold, strict=True))
        worse = sum(scores[i] - s > t for s, t in zip(scores, threshold, strict=True))
        assert rank == 1 + sum(s > scores[i] for s in scores)
        assert (low, high) == (1 + better, 30 - worse)
        assert low <= rank <= high


def test_95_percent_of_confidence_sets_contain_the_true_rank() -> None:
    rng = np.random.default_rng(2)
    truth = np.linspace(0, 8, 10)
    held, resolved, rounds = np.zeros(10), 0, 100
    for _ in range(rounds):
        values = truth[:, None] + rng.standard_normal((10, 2))
        _, low, high = rank_intervals(
            values.mean(axis=1), np.full(10, 2.0), pooled_seed_noise(values)
        )
        true_rank = np.arange(10, 0, -1)
        held += (low <= true_rank) & (high >= true_rank)
        resolved += (high - low < 9).sum()
    assert (held / rounds).min() >= 0.92
    assert resolved > rounds  # the sets are informative


def test_a_network_without_a_score_has_no_rank() -> None:
    scores = np.array([2.0, math.nan, 2.0, 1.0])
    rank, low, high = rank_intervals(scores, np.full(4, 3.0), SeedNoise(1e-9, 4))
    assert rank == pytest.approx([1, math.nan, 1, 3], nan_ok=True)
    assert low == pytest.approx([1, math.nan, 1, 3], nan_ok=True)
    assert high == pytest.approx([2, math.nan, 2, 3], nan_ok=True)
    assert rank_intervals(np.array([1.0]), np.ones(1), SeedNoise(1.0, 3)).high.tolist() == [1]
    assert not len(rank_intervals(np.empty(0), np.empty(0), SeedNoise(1.0, 3)).rank)


def test_unknown_noise_gives_ranks_without_confidence_sets() -> None:
    rank, low, high = rank_intervals(np.array([2.0, 1.0]), np.ones(2), SeedNoise(math.nan, 0))
    assert rank.tolist() == [1, 2]
    assert np.isnan([low, high]).all()
