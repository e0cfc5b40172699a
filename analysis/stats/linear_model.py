"""Values of arms with seeds as blocks: the least-squares fit, and the check of equal variances."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Values = Mapping[str, Mapping[int, float]]
"""Arm -> seed -> value of a finished trial."""

Layout = tuple[tuple[int, int], ...]
"""The cells that have a value, as numbers of arm and seed."""

_DRAWS = 4999


@dataclass(frozen=True)
class BlockFit:
    """The fit of value = arm + seed + residual to whatever cells there are.

    Attributes:
        arms: those with a value.
        seeds: those with a value.
        layout: arm and seed of each cell.
        coefficients: of the arms, then of the seeds; only differences between arms mean something.
        residuals: of each cell.
        degrees: of freedom of the residuals.
        deviation: pooled, between seeds; NaN without degrees of freedom.
        largest: value without its sign, which rounding errors are a share of.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    layout: Layout
    coefficients: Reals
    residuals: Reals
    degrees: int
    deviation: float
    largest: float

    def contrast_weights(self, arm: str, against: str) -> Reals | None:
        """The contrast as weights of the coefficients; None where the cells do not tell it."""
        if arm not in self.arms or against not in self.arms:
            return None
        weights = np.zeros(len(self.coefficients))
        weights[self.arms.index(arm)] += 1
        weights[self.arms.index(against)] -= 1
        design, inverse, _ = _algebra(self.layout)
        told = np.allclose(weights @ inverse @ design, weights, atol=1e-8)
        return weights if told else None

    def difference(self, arm: str, against: str) -> float:
        """The estimate of one arm minus another; NaN where the cells do not tell it."""
        weights = self.contrast_weights(arm, against)
        return math.nan if weights is None else self.estimate(weights)

    def estimate(self, weights: Reals) -> float:
        """Of a contrast; what only rounding makes of equal values is zero."""
        found = float(weights @ self.coefficients)
        return found if abs(found) > 1e-12 * self.largest else 0.0

    def covariance(self, contrasts: Reals) -> Reals:
        """Of contrasts (one a row), in units of the residual variance."""
        spread = contrasts @ _algebra(self.layout)[1]
        return np.asarray(spread @ spread.T)


def fit(values: Values) -> BlockFit:
    """Fits value = arm + seed + residual by least squares; cells may be missing."""
    arms = tuple(arm for arm in values if values[arm])
    seeds = tuple(sorted({seed for arm in arms for seed in values[arm]}))
    number = {seed: i for i, seed in enumerate(seeds)}
    layout = tuple((i, number[seed]) for i, arm in enumerate(arms) for seed in sorted(values[arm]))
    told = np.array([values[arms[i]][seeds[j]] for i, j in layout], dtype=np.float64)
    if not layout:
        return BlockFit((), (), (), told, told, 0, math.nan, 0.0)
    design, inverse, rank = _algebra(layout)
    centred = told - told.mean()
    coefficients = inverse @ centred
    residuals = centred - design @ coefficients
    # What rounding leaves of values without any noise is none.
    largest = float(np.abs(told).max())
    residuals[np.abs(residuals) < 1e-12 * largest] = 0
    degrees = len(layout) - rank
    deviation = math.sqrt(float(residuals @ residuals) / degrees) if degrees else math.nan
    return BlockFit(arms, seeds, layout, coefficients, residuals, degrees, deviation, largest)


@lru_cache(maxsize=64)
def _algebra(layout: Layout) -> tuple[Reals, Reals, int]:
    """The design matrix (arms, then seeds), its pseudo-inverse and its rank."""
    arm, seed = np.array(layout).T
    design = np.concatenate([np.eye(arm.max() + 1)[arm], np.eye(seed.max() + 1)[seed]], axis=1)
    return design, np.linalg.pinv(design), int(np.linalg.matrix_rank(design))


def equal_variances_p(blocks: BlockFit) -> float:
    """The p-value of Brown and Forsythe's test on the residuals; NaN where they cannot tell.

    The residuals are taken around the median of each seed: around its mean, one wide arm among few
    makes the residuals of all others wide. As those of few seeds are correlated and Fisher's F is
    far off, the statistic is held against what it is for normal residuals of the same cells, drawn
    with a fixed seed. It takes three arms (two mirror each other), two of them with three seeds.
    """
    if len(blocks.arms) < 3 or not blocks.residuals.any():
        return math.nan
    if len(_groups(blocks.layout, 0, least=3)) < 2:
        return math.nan
    found = _brown_forsythe(blocks.residuals[None], blocks.layout)[0]
    # Beyond by more than rounding: draws of a symmetric design can tie with what was found.
    beyond = int((_null(blocks.layout) >= found * (1 - 1e-9)).sum())
    return (1 + beyond) / (1 + _DRAWS)


@lru_cache(maxsize=64)
def _null(layout: Layout) -> Reals:
    """The statistic of normal residuals with equal variances."""
    design, inverse, _ = _algebra(layout)
    # The stream of RandomState never changes between versions of numpy.
    noise = np.random.RandomState(0).standard_normal((_DRAWS, len(layout)))
    return _brown_forsythe(noise - noise @ inverse.T @ design.T, layout)


def _groups(layout: Layout, side: int, least: int = 1) -> list[npt.NDArray[np.intp]]:
    """The cells of each arm (side 0) or seed (side 1) that has so many."""
    number = np.array(layout)[:, side]
    cells = [np.flatnonzero(number == i) for i in range(number.max() + 1)]
    return [each for each in cells if len(each) >= least]


def _brown_forsythe(residuals: Reals, layout: Layout) -> Reals:
    """Levene's statistic around medians, of each row of residuals."""
    centred = residuals.copy()
    for cells in _groups(layout, 1):
        centred[:, cells] -= np.median(centred[:, cells], axis=1, keepdims=True)
    parts = [centred[:, cells] for cells in _groups(layout, 0, least=3)]
    sizes = [np.abs(each - np.median(each, axis=1, keepdims=True)) for each in parts]
    counts = np.array([each.shape[1] for each in sizes])
    means = np.stack([each.mean(axis=1) for each in sizes], axis=1)
    grand = means @ counts / counts.sum()
    between = ((means - grand[:, None]) ** 2) @ counts
    within = sum(((each - each.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) for each in sizes)
    factor = (counts.sum() - len(counts)) / (len(counts) - 1)
    return np.asarray(factor * between / np.maximum(within, np.finfo(float).tiny))
