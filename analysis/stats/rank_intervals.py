"""Confidence sets of ranks, given the noise between the training seeds that determine them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.stats.multivariate_t import dunnett_critical_value

Counts = npt.NDArray[np.int64]

LEVEL = 0.95


class SeedNoise(NamedTuple):
    """The standard deviation between seeds, pooled over networks; NaN without degrees of freedom.

    Effects that a seed has on all networks alike are removed, since they change no rank.
    """

    deviation: float
    degrees: int


class RankIntervals(NamedTuple):
    """The rank of each network and the ranks that it could have; NaN if unavailable.

    Attributes:
        rank: observed rank; 1 is the best, and equal scores share the better rank.
        low: best possible rank.
        high: worst possible rank.
    """

    rank: Floats
    low: Floats
    high: Floats


def pooled_seed_noise(values: Floats) -> SeedNoise:
    """Return the noise of a matrix (networks x seeds) in which cells may be missing (NaN).

    The model is value = network + seed + residual, fitted by least squares.
    """
    observed = np.isfinite(values)
    rows, columns = observed.any(axis=1), observed.any(axis=0)
    observed, cells = observed[rows][:, columns], values[rows][:, columns]
    if not cells.size:
        return SeedNoise(np.nan, 0)
    present = observed.astype(float)
    cells = np.where(observed, cells, 0.0)
    count = present.sum(axis=1)
    # with the networks eliminated, one normal equation per seed remains
    centered = cells - present * (cells.sum(axis=1) / count)[:, None]
    normal = np.diag(present.sum(axis=0)) - present.T @ (present / count[:, None])
    effects = np.linalg.pinv(normal, hermitian=True) @ centered.sum(axis=0)
    shared = present * effects
    residuals = centered - shared + present * (shared.sum(axis=1) / count)[:, None]
    rank = int(np.linalg.matrix_rank(normal, hermitian=True))
    degrees = int(present.sum()) - len(cells) - rank
    if degrees < 1:
        return SeedNoise(np.nan, 0)
    return SeedNoise(float(np.sqrt((residuals**2).sum() / degrees)), degrees)


def rank_intervals(scores: Floats, seeds: Floats, between_seeds: SeedNoise) -> RankIntervals:
    """Return the rank of each network and its 95 % confidence set.

    Two networks are separated if their means differ by more than the noise explains. A network
    could have any rank that is left by the networks that are significantly better or worse. Each
    confidence set holds the true rank with 95 % probability: the comparisons of one network with
    all others are simultaneous (Dunnett's critical value), but the sets of several networks are
    not. `low` and `high` are NaN if the noise is unknown.

    Args:
        scores: mean over seeds of each network; greater is better, NaN has no rank.
        seeds: number of seeds of each mean.
        between_seeds: standard deviation between seeds.
    """
    ranks, low, high = (np.full(len(scores), np.nan) for _ in range(3))
    ranked = np.flatnonzero(np.isfinite(scores))
    if len(ranked):
        present = scores[ranked]
        ordered = np.sort(present)
        ranks[ranked] = 1 + len(present) - np.searchsorted(ordered, present, side="right")
        if between_seeds.degrees:
            better, worse = _num_separated(present, seeds[ranked], between_seeds)
            low[ranked], high[ranked] = 1 + better, len(present) - worse
    return RankIntervals(ranks, low, high)


def _num_separated(scores: Floats, seeds: Floats, noise: SeedNoise) -> tuple[Counts, Counts]:
    """Return for each network how many others are significantly better, and how many worse."""
    critical = dunnett_critical_value(LEVEL, noise.degrees, max(len(scores) - 1, 1))
    better, worse = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
    for number in np.unique(seeds):
        rivals = np.sort(scores[seeds == number])
        threshold = critical * noise.deviation * np.sqrt(1 / seeds + 1 / number)
        better += len(rivals) - np.searchsorted(rivals, scores + threshold, side="right")
        worse += np.searchsorted(rivals, scores - threshold, side="left")
    return better, worse
