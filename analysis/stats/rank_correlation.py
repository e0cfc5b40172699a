"""How far one ranking of networks agrees with another: Kendall's tau-b, its interval, the regret.

Scores are such that the greater is the better, NaN where one is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Pair = tuple[Floats, Floats]
"""Two scores of the same networks."""

NUM_RESAMPLES = 2000
"""How often networks are drawn again for an interval."""

MIN_NETWORKS = 3
"""Networks that a ranking has at least."""

LEVEL = 0.95
_LEAST_FOR_INTERVAL = 5
_BEST_SHARE = 3


@dataclass(frozen=True)
class KendallTau:
    """Kendall's tau-b of two rankings, or its mean over several pairs of rankings.

    Attributes:
        n: networks that both rank.
        value: the estimate; NaN of fewer than three networks, or where one ranking is all ties.
        draws: the same of networks drawn again.
    """

    n: int
    value: float
    draws: Floats

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % percentile interval of the bootstrap; NaN of fewer than five networks."""
        known = self.draws[np.isfinite(self.draws)]
        if self.n < _LEAST_FOR_INTERVAL or not len(known):
            return np.nan, np.nan
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    def difference(self, other: "KendallTau") -> "KendallTau":
        """By how much it is greater than another one of the same networks, drawn alike."""
        n = min(self.n, other.n)
        return KendallTau(n, self.value - other.value, self.draws - other.draws)


def kendall_tau(pairs: Sequence[Pair]) -> KendallTau:
    """The mean of tau-b over pairs of rankings of the same networks.

    The bootstrap draws networks, the same ones for all pairs and in every call with as many
    networks, so that differences of two taus are drawn in pairs (`KendallTau.minus`).
    """
    if not pairs or not len(pairs[0][0]):
        return KendallTau(0, np.nan, np.empty(0))
    n = len(pairs[0][0])
    weights = np.concatenate([np.ones((1, n)), _drawn_again(n)])
    each = np.stack([_weighted(weights, *pair) for pair in pairs])
    found = _mean(each.T)
    ranked = np.any([_both(*pair) for pair in pairs], axis=0)
    return KendallTau(int(ranked.sum()), float(found[0]), found[1:])


def cross_pairs(scores: Floats, others: Floats) -> list[Pair]:
    """Every column of one matrix (networks x trainings) with every column of another."""
    return [*product(scores.T, others.T)]


def seed_pairs(scores: Floats) -> list[Pair]:
    """Every two columns of a matrix: one seed against another."""
    return [*combinations(scores.T, 2)]


def row_means(scores: Floats) -> Floats:
    """The mean of each row over what is known of it."""
    return _mean(scores)


def top_third(scores: Floats) -> Mask:
    """The third of the networks that are best, three at least; none of fewer than six."""
    known = np.flatnonzero(np.isfinite(scores))
    found = np.zeros(len(scores), dtype=bool)
    if len(known) >= 2 * MIN_NETWORKS:
        count = max(MIN_NETWORKS, -(-len(known) // _BEST_SHARE))
        found[known[np.argsort(-scores[known], kind="stable")][:count]] = True
    return found


def regret(scores: Floats, reached: Floats) -> float:
    """What is lost by the network with the best score: the best that is reached, less its own.

    Of several with the best score the mean. NaN where no network has both.
    """
    both = _both(scores, reached)
    if not both.any():
        return np.nan
    picked = reached[both & (scores == scores[both].max())]
    return float(reached[both].max() - picked.mean())


def _drawn_again(n: int) -> Floats:
    """How often each network is drawn, a row for each draw."""
    # the stream of RandomState never changes between versions of numpy
    counts = np.random.RandomState(0).multinomial(n, np.full(n, 1 / n), size=NUM_RESAMPLES)
    return np.asarray(counts, dtype=np.float64)


def _both(one: Floats, other: Floats) -> Mask:
    return np.asarray(np.isfinite(one) & np.isfinite(other), dtype=bool)


def _weighted(weights: Floats, one: Floats, other: Floats) -> Floats:
    """Tau-b of two rankings for each row of weights; a network of weight two stands there twice.

    Copies of a network are ties in both rankings, which tau-b leaves out.
    """
    both = _both(one, other)
    if both.sum() < MIN_NETWORKS:
        return np.full(len(weights), np.nan)
    first, second = (_signs(scores[both]) for scores in (one, other))
    weights = weights[:, both]

    def total(of: Floats) -> Floats:
        return np.asarray(np.einsum("bi,bi->b", weights @ of, weights))

    pairs = total(np.abs(first)) * total(np.abs(second))
    agreed = total(first * second)
    found = np.full(len(weights), np.nan)
    np.divide(agreed, np.sqrt(pairs), out=found, where=pairs > 0)
    return found


def _signs(scores: Floats) -> Floats:
    return np.asarray(np.sign(scores[:, None] - scores[None, :]))


def _mean(values: Floats) -> Floats:
    """Over the finite values of each row; NaN without any."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    found = np.full(len(values), np.nan)
    np.divide(total, count, out=found, where=count > 0)
    return found
