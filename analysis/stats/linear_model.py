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
_ROUNDING = 1e-12


@dataclass(frozen=True)
class BlockFit:
    """The least-squares fit of value = arm + seed + residual; cells may be missing.

    Attributes:
        arms: arms with a value.
        seeds: seeds with a value.
        layout: arm and seed of each cell.
        coefficients: coefficients of the arms, then of the seeds; only contrasts are meaningful.
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
        weights = np.zeros(len(self.coefficients))
        weights[self.arms.index(arm)] += 1
        weights[self.arms.index(against)] -= 1
        design, inverse, _ = _least_squares(self.layout)
        estimable = np.allclose(weights @ inverse @ design, weights, atol=1e-8)
        return weights if estimable else None

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
        spread = contrasts @ _least_squares(self.layout)[1]
        return np.asarray(spread @ spread.T)


def fit(values: Values) -> BlockFit:
    """Fit value = arm + seed + residual by least squares; cells may be missing."""
    arms = tuple(arm for arm in values if values[arm])
    seeds = tuple(sorted({seed for arm in arms for seed in values[arm]}))
    index = {seed: i for i, seed in enumerate(seeds)}
    layout = tuple((i, index[seed]) for i, arm in enumerate(arms) for seed in sorted(values[arm]))
    cells = np.array([values[arms[i]][seeds[j]] for i, j in layout], dtype=np.float64)
    if not layout:
        return BlockFit((), (), (), cells, cells, 0, math.nan, 0.0)
    design, inverse, rank = _least_squares(layout)
    centered = cells - cells.mean()
    coefficients = inverse @ centered
    residuals = centered - design @ coefficients
    # residuals of noise-free values are rounding errors, not noise
    largest = float(np.abs(cells).max())
    residuals[np.abs(residuals) < _ROUNDING * largest] = 0
    degrees = len(layout) - rank
    deviation = math.sqrt(float(residuals @ residuals) / degrees) if degrees else math.nan
    return BlockFit(arms, seeds, layout, coefficients, residuals, degrees, deviation, largest)


@lru_cache(maxsize=64)
def _least_squares(layout: Layout) -> tuple[Floats, Floats, int]:
    """Return the design matrix (arms, then seeds), its pseudo-inverse and its rank."""
    arm, seed = np.array(layout).T
    design = np.concatenate([np.eye(arm.max() + 1)[arm], np.eye(seed.max() + 1)[seed]], axis=1)
    return design, np.linalg.pinv(design), int(np.linalg.matrix_rank(design))


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
    # with tolerance: draws of a symmetric design can tie with the observed statistic
    exceeding = int((_null_distribution(blocks.layout) >= statistic * (1 - 1e-9)).sum())
    return (1 + exceeding) / (1 + _NUM_DRAWS)


@lru_cache(maxsize=64)
def _null_distribution(layout: Layout) -> Floats:
    """Return draws of the statistic for normal residuals with equal variances."""
    design, inverse, _ = _least_squares(layout)
    # the stream of RandomState is the same in every version of numpy
    noise = np.random.RandomState(0).standard_normal((_NUM_DRAWS, len(layout)))
    return _brown_forsythe(noise - noise @ inverse.T @ design.T, layout)


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
