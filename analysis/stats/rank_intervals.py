"""Which ranks a network could have, given the noise between seeds of the trainings that rank it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.stats.multivariate_t import dunnett_critical_value

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LEVEL = 0.95


class SeedNoise(NamedTuple):
    """The standard deviation between seeds, pooled over networks.

    What the seeds have in common (a seed is harder for all networks) is taken out: it moves no
    rank. Without degrees of freedom it is NaN.
    """

    deviation: float
    degrees: int


def pooled_seed_noise(values: Floats) -> SeedNoise:
    """The noise of a matrix of networks x seeds; cells may be missing (NaN).

    By least squares: value = network + seed + residual.
    """
    known = np.isfinite(values)
    known = known[known.any(axis=1)][:, known.any(axis=0)]
    cells = values[np.isfinite(values).any(axis=1)][:, np.isfinite(values).any(axis=0)]
    if not cells.size:
        return SeedNoise(np.nan, 0)
    there = known.astype(float)
    cells = np.where(known, cells, 0.0)
    count = there.sum(axis=1)
    # networks eliminated, what remains are as many equations as there are seeds
    centred = cells - there * (cells.sum(axis=1) / count)[:, None]
    normal = np.diag(there.sum(axis=0)) - there.T @ (there / count[:, None])
    effects = np.linalg.pinv(normal, hermitian=True) @ centred.sum(axis=0)
    shared = there * effects
    residuals = centred - shared + there * (shared.sum(axis=1) / count)[:, None]
    rank = int(np.linalg.matrix_rank(normal, hermitian=True))
    degrees = int(there.sum()) - len(cells) - rank
    if degrees < 1:
        return SeedNoise(np.nan, 0)
    return SeedNoise(float(np.sqrt((residuals**2).sum() / degrees)), degrees)


def rank_intervals(scores: Floats, seeds: Floats, between_seeds: SeedNoise) -> pd.DataFrame:
    """The rank of each network, and the lowest and the highest that it could have.

    Two networks are told apart where their means differ by more than the noise explains; a network
    could have any rank that those which are surely better and those which are surely worse leave
    it. The true rank of a network is in its range with 95 % probability: the comparisons of one
    network with all others hold together (Dunnett's critical value); ranges of several networks do
    not.

    Args:
        scores: mean over seeds of each network, the greater the better; NaN has no rank.
        seeds: how many each is a mean of.
        between_seeds: the standard deviation between seeds.

    Returns:
        `rank` (1 is the best; equal scores share the better rank), `rank_low` and `rank_high`;
        missing where there is no score, or where nothing tells the noise.
    """
    none = pd.Series(pd.NA, index=range(len(scores)), dtype="Int64")
    table = pd.DataFrame({"rank": none, "rank_low": none, "rank_high": none})
    known = np.flatnonzero(np.isfinite(scores))
    if not len(known):
        return table
    of, n = scores[known], seeds[known]
    ordered = np.sort(of)
    table.loc[known, "rank"] = 1 + len(of) - np.searchsorted(ordered, of, side="right")
    if between_seeds.degrees:
        better, worse = _surely(of, n, between_seeds)
        table.loc[known, "rank_low"] = 1 + better
        table.loc[known, "rank_high"] = len(of) - worse
    return table


def _surely(scores: Floats, seeds: Floats, between_seeds: SeedNoise) -> tuple[Counts, Counts]:
    """For each network how many others are surely better, and how many surely worse."""
    critical = dunnett_critical_value(LEVEL, between_seeds.degrees, max(len(scores) - 1, 1))
    better, worse = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
    for number in np.unique(seeds):
        rivals = np.sort(scores[seeds == number])
        reach = critical * between_seeds.deviation * np.sqrt(1 / seeds + 1 / number)
        better += len(rivals) - np.searchsorted(rivals, scores + reach, side="right")
        worse += np.searchsorted(rivals, scores - reach, side="left")
    return better, worse
