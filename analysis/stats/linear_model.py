"""The block model arm + seed: least-squares fit and a test for equal variances."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from partialnas.analysis.frames.arrays import Floats

Values = Mapping[str, Mapping[int, float]]
"""Values of finished trials: arm -> seed -> value."""

Layout = tuple[tuple[int, int], ...]
"""Cells that have a value, as pairs of arm index and seed index."""

_NUM_DRAWS = 4999
_MAX_DRAWN_CELLS = 5_000_000
"""Cells that are drawn at most: large layouts get fewer draws, which take a second."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class BlockFit:
    """The least-squares fit of value = arm + seed + residual; cells may be missing.

    Attributes:
        arms: arms with a value.
        seeds: seeds with a value.
        layout: arm and seed of each cell.
        coefficients: coefficients of the arms; only contrasts are meaningful.
        residuals: residual of each cell.
        degrees: residual degrees of freedom.
        deviation: pooled residual standard deviation; NaN without degrees of freedom.
        largest: largest absolute value, the scale of rounding errors.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    layout: Layout
    coefficients: Floats
    residuals: Floats
    degrees: int
    deviation: float
    largest: float

    def contrast_weights(self, arm: str, against: str) -> Floats | None:
        """Return the contrast as weights of the coefficients, or None if not estimable."""
        if arm not in self.arms or against not in self.arms:
            return None
        one, other = self.arms.index(arm), self.arms.index(against)
        group = _design(self.layout).arm_group
        weights = np.zeros(len(self.arms))
        weights[one] += 1
        weights[other] -= 1
        return weights if group[one] == group[other] else None

    def difference(self, arm: str, against: str) -> float:
        """Return the estimate of arm minus baseline, or NaN if not estimable."""
        weights = self.contrast_weights(arm, against)
        return math.nan if weights is None else self.estimate(weights)

    def estimate(self, weights: Floats) -> float:
        """Return the estimate of a contrast; a value within rounding error becomes zero."""
        estimate = float(weights @ self.coefficients)
        return estimate if abs(estimate) > _ROUNDING * self.largest else 0.0

    def covariance(self, contrasts: Floats) -> Floats:
        """Return the covariance of contrasts (one per row) in units of the residual variance."""
        return _design(self.layout).covariance(contrasts)


def fit(values: Values) -> BlockFit:
    """Fit value = arm + seed + residual by least squares; cells may be missing."""
    arms = tuple(arm for arm in values if values[arm])
    seeds = tuple(sorted({seed for arm in arms for seed in values[arm]}))
    index = {seed: i for i, seed in enumerate(seeds)}
    layout = tuple((i, index[seed]) for i, arm in enumerate(arms) for seed in sorted(values[arm]))
    cells = np.array([values[arms[i]][seeds[j]] for i, j in layout], dtype=np.float64)
    if not layout:
        return BlockFit((), (), (), cells, cells, 0, math.nan, 0.0)
    design = _design(layout)
    coefficients, residuals = design.solve(cells - cells.mean())
    # residuals of noise-free values are rounding errors, not noise
    largest = float(np.abs(cells).max())
    residuals[np.abs(residuals) < _ROUNDING * largest] = 0
    degrees = len(layout) - design.rank
    deviation = math.sqrt(float(residuals @ residuals) / degrees) if degrees else math.nan
    return BlockFit(arms, seeds, layout, coefficients, residuals, degrees, deviation, largest)


@dataclass(frozen=True)
class _Design:
    """Least squares for one layout, with the larger of the two sets of coefficients eliminated.

    Its cost grows with the number of cells, and with the third power of the smaller number of arms
    or seeds.

    Attributes:
        counts: number of cells by arm and seed, of shape (arms, seeds).
        cells: arm and seed of each cell, of shape (2, cells).
        arm_group: group of each arm; arms are comparable if shared seeds connect them.
        by_arm: whether the normal equations are those of the arms, the seeds being eliminated.
        inverse: inverse of these equations, up to a constant for each group.
        rank: rank of the model.
    """

    counts: Floats
    cells: npt.NDArray[np.intp]
    arm_group: npt.NDArray[np.int32]
    by_arm: bool
    inverse: Floats
    rank: int

    def solve(self, values: Floats) -> tuple[Floats, Floats]:
        """Return the coefficients of the arms, and the residuals.

        Args:
            values: value of each cell on the last axis.
        """
        near, far = self.cells if self.by_arm else self.cells[::-1]
        counts = self.counts if self.by_arm else self.counts.T
        totals = counts.sum(axis=0)
        free = values - (_sums(values, far, len(totals)) / totals)[..., far]
        kept = _sums(free, near, len(counts)) @ self.inverse
        rest = values - kept[..., near]
        eliminated = _sums(rest, far, len(totals)) / totals
        return (kept if self.by_arm else eliminated), rest - eliminated[..., far]

    def covariance(self, contrasts: Floats) -> Floats:
        """Return the covariance of contrasts of arms in units of the residual variance."""
        if self.by_arm:
            return np.asarray(contrasts @ self.inverse @ contrasts.T)
        scaled = contrasts / self.counts.sum(axis=1)
        through = scaled @ self.counts
        return np.asarray(scaled @ contrasts.T + through @ self.inverse @ through.T)


def _sums(values: Floats, index: npt.NDArray[np.intp], count: int) -> Floats:
    """Return the sums over the cells of each arm or seed, on the last axis."""
    from scipy.sparse import csr_array

    cells = np.arange(len(index))
    indicator = csr_array((np.ones(len(index)), (index, cells)), shape=(count, len(index)))
    return np.asarray((indicator @ values.T).T)


@lru_cache(maxsize=64)
def _design(layout: Layout) -> _Design:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    arm, seed = cells = np.array(layout).T
    arms, seeds = int(arm.max()) + 1, int(seed.max()) + 1
    edges = coo_array((np.ones(len(arm)), (arm, arms + seed)), shape=(arms + seeds, arms + seeds))
    groups, group = connected_components(edges, directed=False)
    counts = np.zeros((arms, seeds))
    np.add.at(counts, (arm, seed), 1)
    by_arm = arms <= seeds
    near, members = (counts, group[:arms]) if by_arm else (counts.T, group[arms:])
    information = np.diag(near.sum(axis=1)) - (near / near.sum(axis=0)) @ near.T
    same = members[:, None] == members  # adding it makes the equations of each group definite
    inverse = np.linalg.inv(information + same * (np.trace(information) or 1.0))
    return _Design(counts, cells, group[:arms], by_arm, inverse, arms + seeds - groups)


def equal_variances_p(blocks: BlockFit) -> float:
    """Return the p-value of the Brown-Forsythe test on the residuals, or NaN if not applicable.

    Residuals are centered on the median of each seed: centered on the mean, one arm with a large
    variance among few arms would inflate the residuals of all others. The residuals of few seeds
    are correlated, so that the F distribution is a poor approximation; the null distribution is
    simulated from normal residuals of the same layout, with a fixed random seed. The test needs at
    least three arms (the residuals of two mirror each other), two of them with three seeds.
    """
    if len(blocks.arms) < 3 or not blocks.residuals.any():
        return math.nan
    if len(_cells_by(blocks.layout, 0, min_cells=3)) < 2:
        return math.nan
    statistic = _brown_forsythe(blocks.residuals[None], blocks.layout)[0]
    # with tolerance: draws of a symmetric design can tie with the observed statistic, and of two
    # arms whose residuals mirror each other all statistics are rounding errors
    threshold = statistic * (1 - 1e-9) - _ROUNDING
    draws = _null_distribution(blocks.layout)
    return (1 + int((draws >= threshold).sum())) / (1 + len(draws))


@lru_cache(maxsize=64)
def _null_distribution(layout: Layout) -> Floats:
    """Return draws of the statistic for normal residuals with equal variances."""
    # the stream of RandomState is the same in every version of numpy
    number = min(_NUM_DRAWS, _MAX_DRAWN_CELLS // len(layout) + 1)
    noise = np.random.RandomState(0).standard_normal((number, len(layout)))
    return _brown_forsythe(_design(layout).solve(noise)[1], layout)


def _cells_by(layout: Layout, column: int, min_cells: int = 1) -> list[npt.NDArray[np.intp]]:
    """Return the cells of each arm (column 0) or seed (column 1) with at least `min_cells`."""
    index = np.array(layout)[:, column]
    groups = [np.flatnonzero(index == i) for i in range(index.max() + 1)]
    return [cells for cells in groups if len(cells) >= min_cells]


def _brown_forsythe(residuals: Floats, layout: Layout) -> Floats:
    """Return Levene's statistic around medians for each row of residuals."""
    centered = residuals.copy()
    for cells in _cells_by(layout, 1):
        centered[:, cells] -= np.median(centered[:, cells], axis=1, keepdims=True)
    groups = [centered[:, cells] for cells in _cells_by(layout, 0, min_cells=3)]
    spreads = [np.abs(group - np.median(group, axis=1, keepdims=True)) for group in groups]
    counts = np.array([spread.shape[1] for spread in spreads])
    means = np.stack([spread.mean(axis=1) for spread in spreads], axis=1)
    grand = means @ counts / counts.sum()
    between = ((means - grand[:, None]) ** 2) @ counts
    within = sum(((s - s.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) for s in spreads)
    factor = (counts.sum() - len(counts)) / (len(counts) - 1)
    return np.asarray(factor * between / np.maximum(within, np.finfo(float).tiny))
