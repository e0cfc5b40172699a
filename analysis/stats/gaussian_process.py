"""A Gaussian process over the choices of a space: what networks that were not trained may reach."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from partialnas.space.axes.choices import Choice
from partialnas.space.search_space.space import INACTIVE

Array = NDArray[np.float64]
Places = NDArray[np.intp]

_LENGTH_DEVIATION, _NOISE_DEVIATION = 1.7, 2.0
_NOISE = math.log(1e-2)
_LEAST_NOISE = 1e-4
_ITERATIONS = 30


def is_ordinal(choice: Choice) -> bool:
    """Whether the levels of a choice are numbers, so that some are nearer than others."""
    try:
        return len({Fraction(str(label)) for label in choice.labels}) > 1
    except ValueError:
        return False


class ChoiceEncoder:
    """Codes (see `Space.encode`) as features in which each choice spans about one unit.

    A choice of numbers is one feature, from 0 to 1; its levels stay in order. The levels of any
    other choice are all one unit apart. So is, about, a choice that is not active from one that is.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._spans = [len(each.labels) - 1 if is_ordinal(each) else 0 for each in choices]
        widths = [
            2 if span else len(each.labels) + 1
            for span, each in zip(self._spans, choices, strict=True)
        ]
        self.choice_of_feature: Places = np.repeat(np.arange(len(widths)), widths)
        """Which choice each feature tells of."""
        self._starts = np.cumsum([0, *widths])

    def __call__(self, codes: Sequence[Sequence[float]]) -> Array:
        """One row of features for each code."""
        table = np.array(codes, dtype=float)
        features = np.zeros((len(table), len(self.choice_of_feature)))
        rows = np.arange(len(table))
        for column, (start, span) in enumerate(zip(self._starts, self._spans, strict=False)):
            at = table[:, column]
            if span:
                inactive = at == INACTIVE
                features[:, start] = np.where(inactive, 0.5, at / span)
                features[:, start + 1] = np.where(inactive, math.sqrt(0.75), 0.0)
            else:
                features[rows, start + 1 + at.astype(int)] = math.sqrt(0.5)
        return features


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the process.

    Attributes:
        lengths: of each choice, in its units: how far one must go for something else to happen.
        noise: variance of one network's values, as a share of that between networks.
    """

    lengths: Array
    noise: float


def fit_hyperparameters(features: Array, owners: Places, values: Array) -> Hyperparameters:
    """The most probable scales of what networks have reached.

    A priori lengths grow with the root of the number of choices, as in Hvarfner et al. (2024), so
    that one choice among thirty says little unless the values say otherwise.

    Args:
        features: of the networks, one row each.
        owners: the choice that each feature tells of.
        values: one for each network.
    """
    choices = int(owners[-1]) + 1
    usual = math.log(0.5 * math.sqrt(choices))
    start = np.append(np.full(choices, usual), _NOISE)
    squares = np.stack([_squares(features[:, owners == c]) for c in range(choices)])
    standard = standardised(values)[0]

    deviations = np.append(np.full(choices, _LENGTH_DEVIATION), _NOISE_DEVIATION)

    def loss(theta: Array) -> tuple[float, Array]:
        told, slope = log_marginal_likelihood(theta, squares, standard)
        off = (theta - start) / deviations
        return float(-told + 0.5 * off @ off), -slope + off / deviations

    bounds = [(usual - 5, usual + 5)] * choices + [(-12.0, 1.0)]
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _ITERATIONS}
    )
    return Hyperparameters(np.exp(found.x[:-1]), float(np.exp(found.x[-1])) + _LEAST_NOISE)


def log_marginal_likelihood(theta: Array, squares: Array, values: Array) -> tuple[float, Array]:
    """Log-likelihood of values under the process, but for a constant, and its gradient.

    Args:
        theta: logarithms of the lengths, then of the noise.
        squares: squared distances, by choice, network and network.
        values: of the networks, with mean 0 and variance 1.
    """
    weights = np.exp(-2 * theta[:-1])
    kernel, slope = _matern(np.tensordot(weights, squares, axes=1))
    noise = math.exp(theta[-1])
    kernel[np.diag_indices_from(kernel)] += noise + _LEAST_NOISE
    lower = cholesky(kernel, lower=True, check_finite=False)
    inverse = cho_solve((lower, True), np.eye(len(values)), check_finite=False)
    solved = inverse @ values
    told = -0.5 * values @ solved - np.log(np.diag(lower)).sum()
    pull = 0.5 * (np.outer(solved, solved) - inverse)
    by_length = -2 * weights * np.tensordot(squares, pull * slope, axes=2)
    return float(told), np.append(by_length, noise * np.trace(pull))


def nonzero_std(values: Array) -> Array:
    """The deviation of each column, 1 where all its values are the same."""
    deviations = values.std(axis=0)
    found: Array = np.where(deviations > 0, deviations, 1.0)
    return found


def standardised(values: Array) -> tuple[Array, float, float]:
    """Values with mean 0 and variance 1, and the mean and deviation that they had."""
    mean, deviation = float(values.mean()), float(nonzero_std(values))
    return (values - mean) / deviation, mean, deviation


def _matern(squared: Array) -> tuple[Array, Array]:
    """The Matérn 5/2 kernel, and its derivative by the squared distance."""
    distance = np.sqrt(5 * squared)
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, -5 / 6 * (1 + distance) * decay


def _squares(left: Array, right: Array | None = None) -> Array:
    right = left if right is None else right
    apart = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    clipped: Array = np.maximum(apart, 0.0)
    return clipped


class Posterior:
    """What the values of some networks say of others.

    Args:
        features: of the networks whose values are known.
        owners: the choice that each feature tells of.
        values: of these networks.
        scales: of the process.
    """

    def __init__(
        self, features: Array, owners: Places, values: Array, scales: Hyperparameters
    ) -> None:
        self._reach = scales.lengths[owners]
        self._known = features / self._reach
        standard, self._mean, self._deviation = standardised(values)
        kernel, _ = _matern(_squares(self._known))
        kernel[np.diag_indices_from(kernel)] += scales.noise
        self._lower = cholesky(kernel, lower=True, check_finite=False)
        self._solved = cho_solve((self._lower, True), standard, check_finite=False)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, without noise, of networks with these features."""
        kernel, _ = _matern(_squares(self._known, features / self._reach))
        half = solve_triangular(self._lower, kernel, lower=True, check_finite=False)
        deviation = np.sqrt(np.maximum(1 - (half**2).sum(axis=0), 1e-12))
        return self._mean + self._deviation * (self._solved @ kernel), self._deviation * deviation
