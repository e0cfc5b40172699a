"""Kendall's tau-b, its interval and the regret, against scipy, brute force and simulation."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.stats import rank_correlation as ranking

SCORE = st.one_of(st.integers(0, 4).map(float), st.just(math.nan))


def tau_of(one: Any, other: Any) -> float:
    """Return scipy's tau-b over the networks in both rankings."""
    first, second = np.asarray(one, float), np.asarray(other, float)
    both = np.isfinite(first) & np.isfinite(second)
    return float(kendalltau(first[both], second[both]).statistic) if both.sum() > 2 else math.nan


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=8))
def test_tau_matches_scipy_with_ties_and_missing_values(
    rows: list[tuple[float, float]],
) -> None:
    one, other = (np.array(column) for column in zip(*rows, strict=True))
    tau = ranking.kendall_tau([(one, other)])
    assert tau.value == pytest.approx(tau_of(one, other), nan_ok=True)
    assert tau.n == int((np.isfinite(one) & np.isfinite(other)).sum())


def two_rankings(n: int, tau: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return normal scores with tau = 2/pi times the arcsine of their correlation."""
    r = math.sin(math.pi * tau / 2)
    one = rng.standard_normal(n)
    return one, r * one + math.sqrt(1 - r * r) * rng.standard_normal(n)


def test_the_bootstrap_resamples_networks() -> None:
    one, other = two_rankings(9, 0.5, np.random.default_rng(1))
    one[3] = one[5]
    tau = ranking.kendall_tau([(one, other)])
    assert len(tau.draws) == ranking.NUM_RESAMPLES
    counts = np.random.RandomState(0).multinomial(9, np.full(9, 1 / 9), size=ranking.NUM_RESAMPLES)
    for count, drawn in zip(counts[:40], tau.draws, strict=False):
        which = np.repeat(np.arange(9), count)
        assert drawn == pytest.approx(tau_of(one[which], other[which]))
    assert tau.interval == pytest.approx(tuple(np.quantile(tau.draws, [0.025, 0.975])))


@pytest.mark.parametrize(("n", "tau"), [(20, 0.6), (12, 0.2)])
def test_95_percent_of_intervals_contain_the_true_tau(n: int, tau: float) -> None:
    rng, held, rounds = np.random.default_rng(0), 0, 150
    for _ in range(rounds):
        low, high = ranking.kendall_tau([two_rankings(n, tau, rng)]).interval
        held += low <= tau <= high
        assert low < high
    assert 0.90 <= held / rounds < 1


def test_several_rankings_give_the_mean_of_their_taus() -> None:
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((8, 3))
    scores[2, 1] = math.nan
    tau = ranking.kendall_tau(ranking.seed_pairs(scores))
    taus = [tau_of(scores[:, a], scores[:, b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert tau.value == pytest.approx(np.mean(taus))
    assert tau.n == 8
    others = rng.standard_normal((8, 2))
    both = [tau_of(a, b) for a in scores.T for b in others.T]
    assert ranking.kendall_tau(ranking.cross_pairs(scores, others)).value == pytest.approx(
        np.mean(both)
    )
    assert ranking.row_means(scores) == pytest.approx(np.nanmean(scores, axis=1))


def test_the_bootstrap_of_a_difference_is_paired() -> None:
    rng = np.random.default_rng(3)
    truth, good = two_rankings(15, 0.8, rng)
    better, worse = (
        ranking.kendall_tau([(good, truth)]),
        ranking.kendall_tau([(rng.standard_normal(15), truth)]),
    )
    apart = better.difference(worse)
    assert apart.value == pytest.approx(better.value - worse.value)
    assert apart.draws == pytest.approx(better.draws - worse.draws)
    assert better.difference(better).interval == (0, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([], []),
        ([1.0], [2.0]),
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]),
        ([math.nan] * 4, [1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_degenerate_rankings_have_no_tau(one: list[float], other: list[float]) -> None:
    tau = ranking.kendall_tau([(np.array(one), np.array(other))])
    assert math.isnan(tau.value)
    assert all(map(math.isnan, tau.interval))


def test_four_networks_have_a_tau_but_no_interval() -> None:
    tau = ranking.kendall_tau([(np.arange(4.0), np.arange(4.0))])
    assert tau.value == 1
    assert all(map(math.isnan, tau.interval))


@given(scores=st.lists(SCORE, max_size=12))
def test_the_top_third_is_a_third_of_the_finite_scores(scores: list[float]) -> None:
    top = ranking.top_third(np.array(scores, dtype=float))
    finite = [score for score in scores if math.isfinite(score)]
    count = max(3, math.ceil(len(finite) / 3)) if len(finite) >= 6 else 0
    assert top.sum() == count
    chosen = [score for score, taken in zip(scores, top, strict=True) if taken]
    assert sorted(chosen) == sorted(finite)[len(finite) - count :]


@given(rows=st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=8))
def test_regret_is_the_gap_between_the_best_and_the_selected_network(
    rows: list[tuple[float, float]],
) -> None:
    regret = ranking.regret(*(np.array(column) for column in zip(*rows, strict=True)))
    both = [row for row in rows if all(map(math.isfinite, row))]
    if not both:
        assert math.isnan(regret)
        return
    chosen = [reached for score, reached in both if score == max(s for s, _ in both)]
    lost = max(reached for _, reached in both) - sum(chosen) / len(chosen)
    assert regret == pytest.approx(lost)
