"""Simultaneous critical values and p-values of several correlated t statistics."""

import itertools
import math
from functools import lru_cache

import numpy as np

from partialnas.analysis.frames.arrays import Floats

Correlation = tuple[tuple[float, ...], ...]
"""A correlation matrix as a hashable tuple of rows."""

_NUM_DIRECTIONS = 2**18
_CHUNK = 2**15
_NUM_BINS = 2048


def as_correlation(covariance: Floats) -> Correlation:
    """Return the correlation matrix of a covariance matrix."""
    scale = np.sqrt(np.diag(covariance))
    # rounded, so that equal designs have equal cache keys despite rounding errors of their fits
    return tuple(tuple(row) for row in np.round(covariance / np.outer(scale, scale), 10).tolist())


@lru_cache(maxsize=256)
def critical_value(level: float, degrees: int, correlation: Correlation) -> float:
    """Return the value that all |T_i| stay below simultaneously with probability `level`.

    T has a multivariate t distribution: correlated normals over one independent standard deviation
    with `degrees` degrees of freedom. The correlation matrix may be singular.
    """
    from scipy.optimize import brentq

    single, bonferroni = _bounds(level, degrees, len(correlation))

    def excess(value: float) -> float:
        sizes = np.array([value])
        return float(exceedance_probability(sizes, degrees, correlation)[0]) - (1 - level)

    if len(correlation) == 1 or excess(single) <= 0:
        return single
    # beyond the Bonferroni bound, because the average over directions is approximate
    return float(brentq(excess, single, 1.2 * bonferroni, xtol=1e-9))


@lru_cache(maxsize=64)
def dunnett_critical_value(level: float, degrees: int, count: int) -> float:
    """Return Dunnett's critical value of `count` contrasts with one equally replicated baseline.

    Equal to `critical_value` with all correlations one half, for any number of contrasts.
    """
    from scipy.optimize import brentq

    single, bonferroni = _bounds(level, degrees, count)

    def excess(value: float) -> float:
        sizes = np.array([value])
        return float(_exceedance_equicorrelated(sizes, degrees, count, 0.5)[0]) - (1 - level)

    if count == 1:
        return single
    return float(brentq(excess, 0.99 * single, 1.2 * bonferroni, xtol=1e-9))


def _bounds(level: float, degrees: int, count: int) -> tuple[float, float]:
    """Return the critical value of one contrast and Bonferroni's for `count` contrasts."""
    from scipy.special import stdtrit

    single = float(stdtrit(degrees, (1 + level) / 2))
    return single, float(stdtrit(degrees, 1 - (1 - level) / (2 * count)))


def exceedance_probability(values: Floats, degrees: int, correlation: Correlation) -> Floats:
    """Return, for each value, the probability that the largest |T_i| is greater.

    Equal correlations, as of contrasts with one baseline in a balanced design (Dunnett), use exact
    quadrature. Others use a radial integral over a fixed set of directions, which is accurate to
    about 0.001 in a critical value.
    """
    from scipy.special import stdtr

    sizes = np.abs(values)
    if len(correlation) == 1:
        return np.asarray(2 * stdtr(degrees, -sizes))
    common = _common_correlation(correlation)
    if common is not None:
        return _exceedance_equicorrelated(sizes, degrees, len(correlation), common)
    return _exceedance_over_directions(sizes, degrees, correlation)


def two_sided_power(shift: float, critical: float, degrees: int) -> float:
    """Return P(|T| > critical) for the noncentral t statistic T with noncentrality `shift`."""
    from scipy.special import ndtr

    scale, weight = _deviation_quadrature(degrees)
    # scipy.stats.nct returns NaN for large shifts and few degrees of freedom
    return float((ndtr(shift - critical * scale) + ndtr(-shift - critical * scale)) @ weight)


def _common_correlation(correlation: Correlation) -> float | None:
    """Return the correlation shared by all pairs, or None if the quadrature does not apply."""
    off = [r for i, row in enumerate(correlation) for r in row[:i]]
    usable = max(off) - min(off) < 1e-8 and 0 <= off[0] < 0.9
    return off[0] if usable else None


def _exceedance_equicorrelated(sizes: Floats, degrees: int, count: int, common: float) -> Floats:
    """Integrate over U and S in T_i = (sqrt(r) U + sqrt(1 - r) Z_i) / S.

    Given U and S, the T_i are independent.
    """
    from scipy.special import ndtr

    scale, weight = _deviation_quadrature(degrees)
    shared = np.linspace(0, 8.5, 51)  # symmetric: half of the range suffices
    density = math.sqrt(2 / math.pi) * np.exp(-(shared**2) / 2) * (shared[1] - shared[0])
    density[0] /= 2
    residual = math.sqrt(1 - common)
    center = math.sqrt(common) * shared[:, None] / residual

    def inside(size: float) -> float:
        bound = size * scale / residual
        probability = ndtr(center + bound) - ndtr(center - bound)
        return float(density @ (probability**count) @ weight)

    return np.clip([1 - inside(size) if math.isfinite(size) else 0.0 for size in sizes], 0, 1)


def _deviation_quadrature(degrees: int) -> tuple[Floats, Floats]:
    """Return nodes, equidistant in log S, and weights of S = sqrt(chi-squared / degrees)."""
    from scipy.special import gammainccinv, gammaincinv, gammaln

    half = degrees / 2
    ends = gammaincinv(half, 1e-14), gammainccinv(half, 1e-16)
    width = math.log(ends[1] / ends[0])
    log = math.log(ends[0]) + np.linspace(0, width, 2 + int(width / min(0.27, 0.5 / half**0.5)))
    chi = np.exp(log)
    weight = np.exp(half * log - chi - gammaln(half)) * (log[1] - log[0])
    return np.sqrt(chi / half), weight


def _exceedance_over_directions(sizes: Floats, degrees: int, correlation: Correlation) -> Floats:
    """Average over directions of the normals, where length² / S² has an F distribution."""
    from scipy.special import fdtrc

    extent, rank = _directional_maxima(correlation)
    ratio = sizes[:, None] ** 2 / (rank * extent**2)
    return np.asarray(fdtrc(rank, degrees, ratio).mean(axis=1))


@lru_cache(maxsize=64)
def _directional_maxima(correlation: Correlation) -> tuple[Floats, int]:
    """Return the largest |T_i| for unit vectors spread evenly over all directions, and the rank."""
    factor = _cholesky_factor(np.array(correlation))
    rank = factor.shape[1]
    parts = [
        np.abs(_directions(first, rank) @ factor.T).max(axis=1)
        for first in range(1, _NUM_DIRECTIONS + 1, _CHUNK)
    ]
    maxima = np.sort(np.concatenate(parts))
    return maxima.reshape(_NUM_BINS, -1).mean(axis=1), rank


def _directions(first: int, rank: int) -> Floats:
    """Return points of a Richtmyer lattice, mapped to normals and scaled to length one."""
    from scipy.special import ndtri

    lattice = (np.arange(first, first + _CHUNK)[:, None] * np.sqrt(_primes(rank))) % 1
    # the tent map makes the integrand periodic, which suits a lattice
    normal = ndtri(np.clip(np.abs(2 * lattice - 1), 1e-12, 1 - 1e-12))
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def _cholesky_factor(correlation: Floats) -> Floats:
    """Return the Cholesky factor of a possibly singular matrix, without zero columns."""
    columns: list[Floats] = []
    rest = correlation.copy()
    for i in range(len(rest)):
        if rest[i, i] > 1e-8:
            columns.append(rest[:, i] / math.sqrt(rest[i, i]))
            rest = rest - np.outer(columns[-1], columns[-1])
    return np.stack(columns, axis=1)


def _primes(count: int) -> list[int]:
    primes = (n for n in itertools.count(2) if all(n % divisor for divisor in range(2, n)))
    return [*itertools.islice(primes, count)]
