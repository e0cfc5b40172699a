"""A Gaussian process over the choices of a search space, predicting untrained networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from partialnas.analysis.frames.arrays import Floats
from partialnas.space.axes.choices import Choice
from partialnas.space.search_space.space import INACTIVE

Indices = NDArray[np.intp]

_LENGTH_PRIOR_SD, _NOISE_PRIOR_SD = 1.7, 2.0
_NOISE_PRIOR_MEAN = math.log(1e-2)
_MIN_NOISE = 1e-4
_MAX_ITERATIONS = 30


def is_ordinal(choice: Choice) -> bool:
    """Return whether the levels of a choice are numbers, and so have an order and a distance."""
    try:
        return len({Fraction(str(label)) for label in choice.labels}) > 1
    except ValueError:
        return False


class ChoiceEncoder:
    """Encode points of a space (see `Space.encode`) as features of about unit range per choice.

    A numeric choice is one feature from 0 to 1, with its levels in order, and a second feature for
    inactivity. A categorical choice is one-hot, scaled so that two levels have distance 1. An
    inactive choice has a distance of about 1 from every active level.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._spans = [len(c.labels) - 1 if is_ordinal(c) else 0 for c in choices]
        pairs = zip(self._spans, choices, strict=True)
        widths = [2 if span else len(choice.labels) + 1 for span, choice in pairs]
        self.choice_of_feature: Indices = np.repeat(np.arange(len(widths)), widths)
        """Index of the choice that each feature belongs to."""
        self._starts = np.cumsum([0, *widths])

    def __call__(self, codes: Sequence[Sequence[float]]) -> Floats:
        """Return one row of features per code."""
        table = np.array(codes, dtype=float)
        features = np.zeros((len(table), len(self.choice_of_feature)))
        rows = np.arange(len(table))
        for column, (start, span) in enumerate(zip(self._starts, self._spans, strict=False)):
            level = table[:, column]
            if span:
                inactive = level == INACTIVE
                features[:, start] = np.where(inactive, 0.5, level / span)
                features[:, start + 1] = np.where(inactive, math.sqrt(0.75), 0.0)
            else:
                features[rows, start + 1 + level.astype(int)] = math.sqrt(0.5)
        return features


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of a Gaussian process.

    Attributes:
        lengths: length scale of each choice, in the unit of its features.
        noise: noise variance as a share of the signal variance.
    """

    lengths: Floats
    noise: float


def fit_hyperparameters(features: Floats, owners: Indices, values: Floats) -> Hyperparameters:
    """Return the maximum a posteriori hyperparameters for the values of trained networks.

    The prior of the length scales grows with the square root of the number of choices, as in
    Hvarfner et al. (2024), so that a single choice among many has little influence a priori.

    Args:
        features: features of the networks, one row each.
        owners: index of the choice that each feature belongs to.
        values: one value per network.
    """
    choices = int(owners[-1]) + 1
    prior_length = math.log(0.5 * math.sqrt(choices))
    start = np.append(np.full(choices, prior_length), _NOISE_PRIOR_MEAN)
    deviations = np.append(np.full(choices, _LENGTH_PRIOR_SD), _NOISE_PRIOR_SD)
    squares = np.stack([_squared_distances(features[:, owners == c]) for c in range(choices)])
    standard = _standardize(values)[0]

    def loss(theta: Floats) -> tuple[float, Floats]:
        likelihood, gradient = log_marginal_likelihood(theta, squares, standard)
        offset = (theta - start) / deviations
        return float(-likelihood + 0.5 * offset @ offset), -gradient + offset / deviations

    bounds = [(prior_length - 5, prior_length + 5)] * choices + [(-12.0, 1.0)]
    options = {"maxiter": _MAX_ITERATIONS}
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return Hyperparameters(np.exp(theta[:-1]), float(np.exp(theta[-1])) + _MIN_NOISE)


def log_marginal_likelihood(theta: Floats, squares: Floats, values: Floats) -> tuple[float, Floats]:
    """Return the log marginal likelihood, up to a constant, and its gradient.

    Args:
        theta: logarithms of the length scales, followed by that of the noise.
        squares: squared distances, of shape (choices, networks, networks).
        values: values of the networks, with mean 0 and variance 1.
    """
    weights = np.exp(-2 * theta[:-1])
    kernel, slope = _matern(np.tensordot(weights, squares, axes=1))
    noise = math.exp(theta[-1])
    kernel[np.diag_indices_from(kernel)] += noise + _MIN_NOISE
    lower = cholesky(kernel, lower=True, check_finite=False)
    inverse = cho_solve((lower, True), np.eye(len(values)), check_finite=False)
    solved = inverse @ values
    likelihood = -0.5 * values @ solved - np.log(np.diag(lower)).sum()
    by_kernel = 0.5 * (np.outer(solved, solved) - inverse)
    by_length = -2 * weights * np.tensordot(squares, by_kernel * slope, axes=2)
    return float(likelihood), np.append(by_length, noise * np.trace(by_kernel))


def nonzero_std(values: Floats) -> Floats:
    """Return the standard deviation of each column, or 1 if all its values are equal."""
    deviations = values.std(axis=0)
    return np.asarray(np.where(deviations > 0, deviations, 1.0))


def _standardize(values: Floats) -> tuple[Floats, float, float]:
    """Return the values with mean 0 and variance 1, their mean and their standard deviation."""
    mean, deviation = float(values.mean()), float(nonzero_std(values))
    return (values - mean) / deviation, mean, deviation


def _matern(squared: Floats) -> tuple[Floats, Floats]:
    """Return the Matérn 5/2 kernel and its derivative with respect to the squared distance."""
    distance = np.sqrt(5 * squared)
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, -5 / 6 * (1 + distance) * decay


def _squared_distances(left: Floats, right: Floats | None = None) -> Floats:
    right = left if right is None else right
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    return np.asarray(np.maximum(squares, 0.0))


class Posterior:
    """The posterior of a Gaussian process, given the values of some networks.

    Args:
        features: features of the networks with known values.
        owners: index of the choice that each feature belongs to.
        values: values of these networks.
        scales: hyperparameters of the process.
    """

    def __init__(
        self, features: Floats, owners: Indices, values: Floats, scales: Hyperparameters
    ) -> None:
        self._lengths = scales.lengths[owners]
        self._observed = features / self._lengths
        standard, self._mean, self._deviation = _standardize(values)
        kernel, _ = _matern(_squared_distances(self._observed))
        kernel[np.diag_indices_from(kernel)] += scales.noise
        self._lower = cholesky(kernel, lower=True, check_finite=False)
        self._solved = cho_solve((self._lower, True), standard, check_finite=False)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Return the mean and the noise-free standard deviation at the given features."""
        kernel, _ = _matern(_squared_distances(self._observed, features / self._lengths))
        half = solve_triangular(self._lower, kernel, lower=True, check_finite=False)
        deviation = np.sqrt(np.maximum(1 - (half**2).sum(axis=0), 1e-12))
        return self._mean + self._deviation * (self._solved @ kernel), self._deviation * deviation
