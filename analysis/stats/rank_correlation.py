"""Agreement of two rankings of networks: Kendall's tau-b with a bootstrap interval, and regret.

Greater scores are better; missing scores are NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from partialnas.analysis.frames.arrays import Floats, Mask

Pair = tuple[Floats, Floats]
"""Two scores of the same networks."""

NUM_RESAMPLES = 2000
"""Number of bootstrap resamples of an interval."""

MIN_NETWORKS = 3
"""Smallest number of networks that makes a ranking."""

LEVEL = 0.95
_MIN_FOR_INTERVAL = 5
_TOP_FRACTION = 3


@dataclass(frozen=True)
class KendallTau:
    """Kendall's tau-b of two rankings, or its mean over several pairs of rankings.

    Attributes:
        n: number of networks in both rankings.
        value: estimate; NaN for fewer than three networks or if one ranking consists of ties.
        draws: estimates from bootstrap resamples of the networks.
    """

    n: int
    value: float
    draws: Floats

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap percentile interval; NaN for fewer than five networks."""
        finite = self.draws[np.isfinite(self.draws)]
        if self.n < _MIN_FOR_INTERVAL or not len(finite):
            return np.nan, np.nan
        low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    def difference(self, other: "KendallTau") -> "KendallTau":
        """Return this tau minus another of the same networks, paired by bootstrap resample."""
        n = min(self.n, other.n)
        return KendallTau(n, self.value - other.value, self.draws - other.draws)


def kendall_tau(pairs: Sequence[Pair]) -> KendallTau:
    """Return the mean of tau-b over pairs of rankings of the same networks.

    The bootstrap resamples networks, the same ones for all pairs and for every call with the same
    number of networks, so that the draws of two taus are paired (see `KendallTau.difference`).
    """
    if not pairs or not len(pairs[0][0]):
        return KendallTau(0, np.nan, np.empty(0))
    n = len(pairs[0][0])
    weights = np.concatenate([np.ones((1, n)), _resample_counts(n)])
    taus = row_means(np.stack([_weighted_tau(weights, *pair) for pair in pairs]).T)
    ranked = np.any([_both_finite(*pair) for pair in pairs], axis=0)
    return KendallTau(int(ranked.sum()), float(taus[0]), taus[1:])


def cross_pairs(scores: Floats, others: Floats) -> list[Pair]:
    """Return every column of one matrix (networks x trainings) with every column of another."""
    return [*product(scores.T, others.T)]


def seed_pairs(scores: Floats) -> list[Pair]:
    """Return every pair of columns of a matrix (networks x seeds)."""
    return [*combinations(scores.T, 2)]


def row_means(values: Floats) -> Floats:
    """Return the mean of the finite values of each row, or NaN for rows without any."""
    finite = np.isfinite(values)
    count = finite.sum(axis=1)
    total = np.where(finite, values, 0.0).sum(axis=1)
    means = np.full(len(values), np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means


def top_third(scores: Floats) -> Mask:
    """Return which networks are in the best third: at least three, or none of fewer than six."""
    finite = np.flatnonzero(np.isfinite(scores))
    top = np.zeros(len(scores), dtype=bool)
    if len(finite) >= 2 * MIN_NETWORKS:
        count = max(MIN_NETWORKS, -(-len(finite) // _TOP_FRACTION))
        top[finite[np.argsort(-scores[finite], kind="stable")][:count]] = True
    return top


def regret(scores: Floats, reached: Floats) -> float:
    """Return the best result minus the result of the network with the best score.

    Networks tied for the best score count with their mean result. NaN if no network has both a
    score and a result.
    """
    both = _both_finite(scores, reached)
    if not both.any():
        return np.nan
    selected = reached[both & (scores == scores[both].max())]
    return float(reached[both].max() - selected.mean())


def _resample_counts(n: int) -> Floats:
    """Return how often each network is drawn, one row per bootstrap resample."""
    # the stream of RandomState is the same in every version of numpy
    counts = np.random.RandomState(0).multinomial(n, np.full(n, 1 / n), size=NUM_RESAMPLES)
    return np.asarray(counts, dtype=np.float64)


def _both_finite(left: Floats, right: Floats) -> Mask:
    return np.asarray(np.isfinite(left) & np.isfinite(right), dtype=bool)


def _weighted_tau(weights: Floats, left: Floats, right: Floats) -> Floats:
    """Return tau-b of two rankings for each row of weights, which count copies of a network.

    Copies of a network are ties in both rankings, which tau-b leaves out.
    """
    both = _both_finite(left, right)
    if both.sum() < MIN_NETWORKS:
        return np.full(len(weights), np.nan)
    first, second = (np.sign(s[both][:, None] - s[both][None, :]) for s in (left, right))
    weights = weights[:, both]

    def total(signs: Floats) -> Floats:
        return np.asarray(np.einsum("bi,bi->b", weights @ signs, weights))

    pairs = total(np.abs(first)) * total(np.abs(second))
    taus = np.full(len(weights), np.nan)
    np.divide(total(first * second), np.sqrt(pairs), out=taus, where=pairs > 0)
    return taus
