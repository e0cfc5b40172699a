"""The largest of several correlated t statistics: simultaneous critical values and p-values."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Correlation = tuple[tuple[float, ...], ...]
"""A correlation matrix by rows, hashable."""

_POINTS = 2**18
_AT_ONCE = 2**15
_BINS = 2048


def as_correlation(covariance: Reals) -> Correlation:
    """The correlation matrix that belongs to a covariance matrix."""
    scale = np.sqrt(np.diag(covariance))
    # Rounded, so that the same design has the same key whatever the last bit of its fit.
    return tuple(tuple(row) for row in np.round(covariance / np.outer(scale, scale), 10).tolist())


@lru_cache(maxsize=256)
def critical_value(level: float, degrees: int, correlation: Correlation) -> float:
    """The value that all |T_i| together stay below with probability `level`.

    T is multivariate t: normals of that correlation (it may be singular) over one independent
    standard deviation with `degrees` of freedom.
    """
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    alone = float(stdtrit(degrees, (1 + level) / 2))
    bonferroni = float(stdtrit(degrees, 1 - (1 - level) / (2 * len(correlation))))

    def excess(value: float) -> float:
        return float(exceedance_probability(np.array([value]), degrees, correlation)[0]) - (
            1 - level
        )

    if len(correlation) == 1 or excess(alone) <= 0:
        return alone
    # Wider than the bound itself, for directions are not quite exact.
    return float(brentq(excess, alone, 1.2 * bonferroni, xtol=1e-9))


@lru_cache(maxsize=64)
def dunnett_critical_value(level: float, degrees: int, count: int) -> float:
    """The critical value of `count` contrasts with one and the same, as often replicated (Dunnett).

    That of `critical_value` where all correlations are a half, for any number of contrasts.
    """
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    alone = float(stdtrit(degrees, (1 + level) / 2))
    if count == 1:
        return alone
    bonferroni = float(stdtrit(degrees, 1 - (1 - level) / (2 * count)))

    def excess(value: float) -> float:
        sizes = np.array([value])
        return float(_exceeded_by_equals(sizes, degrees, count, 0.5)[0]) - (1 - level)

    return float(brentq(excess, 0.99 * alone, 1.2 * bonferroni, xtol=1e-9))


def exceedance_probability(values: Reals, degrees: int, correlation: Correlation) -> Reals:
    """For each value, the probability that the largest |T_i| is greater.

    Exact quadrature where all correlations are equal, as those of contrasts with one baseline in a
    balanced design (Dunnett); else the radial integral over a fixed set of directions, right to
    about 0.001 in a critical value.
    """
    from scipy.special import stdtr

    sizes = np.abs(values)
    if len(correlation) == 1:
        return np.asarray(2 * stdtr(degrees, -sizes))
    common = _common(correlation)
    if common is not None:
        return _exceeded_by_equals(sizes, degrees, len(correlation), common)
    return _exceeded_by_directions(sizes, degrees, correlation)


def two_sided_power(shift: float, critical: float, degrees: int) -> float:
    """The probability that one |T| is greater than `critical` where T's normal has mean `shift`."""
    from scipy.special import ndtr

    scale, weight = _deviations(degrees)
    # scipy's own noncentral t gives NaN for large shifts and few degrees of freedom.
    return float((ndtr(shift - critical * scale) + ndtr(-shift - critical * scale)) @ weight)


def _common(correlation: Correlation) -> float | None:
    """The one correlation of all pairs, if the quadrature can take it."""
    off = [r for i, row in enumerate(correlation) for r in row[:i]]
    usable = max(off) - min(off) < 1e-8 and 0 <= off[0] < 0.9
    return off[0] if usable else None


def _exceeded_by_equals(sizes: Reals, degrees: int, count: int, common: float) -> Reals:
    """T_i = (sqrt(r) U + sqrt(1 - r) Z_i) / S: given U and S, the T_i are independent."""
    from scipy.special import ndtr

    scale, weight = _deviations(degrees)
    shared = np.linspace(0, 8.5, 51)  # the other half is the same: sizes know no sign
    density = math.sqrt(2 / math.pi) * np.exp(-(shared**2) / 2) * (shared[1] - shared[0])
    density[0] /= 2
    rest = math.sqrt(1 - common)
    centre = math.sqrt(common) * shared[:, None] / rest

    def inside(size: float) -> float:
        reach = size * scale / rest
        each = ndtr(centre + reach) - ndtr(centre - reach)
        return float(density @ (each**count) @ weight)

    return np.clip([1 - inside(size) if math.isfinite(size) else 0.0 for size in sizes], 0, 1)


def _deviations(degrees: int) -> tuple[Reals, Reals]:
    """Nodes and weights of S = sqrt(chi-squared / degrees), spaced evenly in its logarithm."""
    from scipy.special import gammainccinv, gammaincinv, gammaln

    half = degrees / 2
    ends = gammaincinv(half, 1e-14), gammainccinv(half, 1e-16)
    width = math.log(ends[1] / ends[0])
    log = math.log(ends[0]) + np.linspace(0, width, 2 + int(width / min(0.27, 0.5 / half**0.5)))
    chi = np.exp(log)
    weight = np.exp(half * log - chi - gammaln(half)) * (log[1] - log[0])
    return np.sqrt(chi / half), weight


def _exceeded_by_directions(sizes: Reals, degrees: int, correlation: Correlation) -> Reals:
    """The normals are a direction times a length, and length² / S² follows Fisher's F."""
    from scipy.special import fdtrc

    reach, rank = _reaches(correlation)
    ratio = sizes[:, None] ** 2 / (rank * reach**2)
    return np.asarray(fdtrc(rank, degrees, ratio).mean(axis=1))


@lru_cache(maxsize=64)
def _reaches(correlation: Correlation) -> tuple[Reals, int]:
    """How far the largest |T_i| lies out in directions spread evenly, and the rank."""
    factor = _factor(np.array(correlation))
    rank = factor.shape[1]
    parts = [
        np.abs(_directions(first, rank) @ factor.T).max(axis=1)
        for first in range(1, _POINTS + 1, _AT_ONCE)
    ]
    reach = np.sort(np.concatenate(parts))
    return reach.reshape(_BINS, -1).mean(axis=1), rank


def _directions(first: int, rank: int) -> Reals:
    """Points of Richtmyer's lattice, made normal and then of length one."""
    from scipy.special import ndtri

    lattice = (np.arange(first, first + _AT_ONCE)[:, None] * np.sqrt(_primes(rank))) % 1
    # The tent makes the integrand periodic, for which a lattice is at its best.
    normal = ndtri(np.clip(np.abs(2 * lattice - 1), 1e-12, 1 - 1e-12))
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def _factor(correlation: Reals) -> Reals:
    """The Cholesky factor without its empty columns, of a matrix that may be singular."""
    columns: list[Reals] = []
    rest = correlation.copy()
    for i in range(len(rest)):
        if rest[i, i] > 1e-8:
            columns.append(rest[:, i] / math.sqrt(rest[i, i]))
            rest = rest - np.outer(columns[-1], columns[-1])
    return np.stack(columns, axis=1)


def _primes(count: int) -> list[int]:
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found
