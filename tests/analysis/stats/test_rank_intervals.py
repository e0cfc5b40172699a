"""Noise between seeds against statsmodels, ranges of ranks against brute force and simulation."""

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
    found = pooled_seed_noise(values)
    assert found.deviation == pytest.approx(math.sqrt(fitted.scale))
    assert found.degrees == fitted.df_resid


def test_a_seed_that_is_harder_for_all_is_no_noise() -> None:
    values = np.arange(5.0)[:, None] + np.array([0.0, 10.0])
    assert pooled_seed_noise(values) == SeedNoise(pytest.approx(0, abs=1e-12), 4)


@pytest.mark.parametrize("values", [np.empty((0, 0)), np.ones((4, 1)), np.full((3, 2), math.nan)])
def test_without_a_second_seed_the_noise_is_not_known(values: np.ndarray) -> None:
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


def test_ranges_are_what_is_surely_better_and_surely_worse() -> None:
    rng = np.random.default_rng(1)
    scores, seeds = rng.standard_normal(30).round(1), rng.integers(1, 4, 30).astype(float)
    between = SeedNoise(0.3, 25)
    table = rank_intervals(scores, seeds, between)
    critical = dunnett_critical_value(0.95, 25, 29)
    for i, row in enumerate(table.itertuples()):
        reach = [critical * 0.3 * math.sqrt(1 / seeds[i] + 1 / n) for n in seeds]
        better = sum(s - scores[i] > r for s, r in zip(scores, reach, strict=True))
        worse = sum(scores[i] - s > r for s, r in zip(scores, reach, strict=True))
        assert row.rank == 1 + sum(s > scores[i] for s in scores)
        assert (row.rank_low, row.rank_high) == (1 + better, 30 - worse)
        assert row.rank_low <= row.rank <= row.rank_high


def test_nineteen_of_twenty_ranges_hold_the_true_rank() -> None:
    rng = np.random.default_rng(2)
    truth = np.linspace(0, 8, 10)
    held, resolved, rounds = np.zeros(10), 0, 100
    for _ in range(rounds):
        values = truth[:, None] + rng.standard_normal((10, 2))
        table = rank_intervals(values.mean(axis=1), np.full(10, 2.0), pooled_seed_noise(values))
        true_rank = np.arange(10, 0, -1)
        held += table["rank_low"].le(true_rank) & table["rank_high"].ge(true_rank)
        resolved += (table["rank_high"] - table["rank_low"] < 9).sum()
    assert (held / rounds).min() >= 0.92
    assert resolved > rounds  # and they say something


def test_what_has_no_score_has_no_rank() -> None:
    table = rank_intervals(np.array([2.0, math.nan, 2.0, 1.0]), np.full(4, 3.0), SeedNoise(1e-9, 4))
    assert table["rank"].tolist() == [1, pd.NA, 1, 3]
    assert table["rank_low"].tolist() == [1, pd.NA, 1, 3]
    assert table["rank_high"].tolist() == [2, pd.NA, 2, 3]
    assert rank_intervals(np.array([1.0]), np.ones(1), SeedNoise(1.0, 3))["rank_high"].tolist() == [
        1
    ]
    assert rank_intervals(np.empty(0), np.empty(0), SeedNoise(1.0, 3)).empty


def test_without_noise_ranks_are_told_and_their_ranges_are_not() -> None:
    table = rank_intervals(np.array([2.0, 1.0]), np.ones(2), SeedNoise(math.nan, 0))
    assert table["rank"].tolist() == [1, 2]
    assert table[["rank_low", "rank_high"]].isna().all(axis=None)
