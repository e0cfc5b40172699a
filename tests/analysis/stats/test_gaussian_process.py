"""The model of a space, against scikit-learn's Gaussian process and numerical gradients."""

from typing import Any, cast

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel

from partialnas.analysis.stats.gaussian_process import (
    ChoiceEncoder,
    Hyperparameters,
    Posterior,
    fit_hyperparameters,
    is_ordinal,
    log_marginal_likelihood,
)
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.search_space.space import INACTIVE, Space

RNG = np.random.default_rng(0)


def space() -> Space:
    data = {
        "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1]},
        "space": {
            "axes": {
                "width": [8, 12, 16, 20],
                "parts": [1, 2],
                "ratio": ["1/8", "1/4", "1/2"],
                "attention": {"none": "none", "channel": {"channel": "stages 1-3"}},
            }
        },
    }
    return Space.from_data(data, InputSpec.square(8, 1, 10))


def numbers(count: int) -> ChoiceEncoder:
    class Variable:
        labels = (0, 1, 2, 3, 4)

    return ChoiceEncoder([cast(Any, Variable)] * count)


def test_numeric_choices_are_ordinal_and_named_ones_are_not() -> None:
    ordinal = {choice.name: is_ordinal(choice) for choice in space().choices}
    assert ordinal["width"]
    assert ordinal["ratio"]
    assert not ordinal["attention"]


def test_distances_follow_the_order_of_numeric_choices_and_are_one_otherwise() -> None:
    choices = space().choices
    embed = ChoiceEncoder(choices)
    names = [choice.name for choice in choices]

    def distance(name: str, left: float, right: float) -> float:
        codes = np.zeros((2, len(names)))
        codes[:, names.index(name)] = left, right
        return float(cdist(*(row[None] for row in embed(codes)))[0, 0])

    assert distance("width", 0, 3) == pytest.approx(1)
    assert distance("width", 1, 2) == pytest.approx(1 / 3)
    assert distance("attention", 0, 1) == pytest.approx(1)
    assert distance("attention", INACTIVE, 1) == pytest.approx(1)
    assert 0.8 < distance("ratio", INACTIVE, 0) <= 1
    assert 0.8 < distance("ratio", INACTIVE, 2) <= 1


def test_the_gradient_of_the_likelihood_matches_finite_differences() -> None:
    squares = RNG.uniform(0, 1, (3, 12, 12))
    squares += squares.transpose(0, 2, 1)
    points = RNG.uniform(0, 1, (12, 3))
    squares = np.stack([cdist(c[:, None], c[:, None]) ** 2 for c in points.T])
    values = RNG.normal(size=12)

    def likelihood(theta: np.ndarray) -> float:
        return log_marginal_likelihood(theta, squares, values)[0]

    def gradient(theta: np.ndarray) -> np.ndarray:
        return log_marginal_likelihood(theta, squares, values)[1]

    for theta in (np.zeros(4), np.array([-1.0, 0.5, 1.0, -3.0])):
        assert check_grad(likelihood, gradient, theta) < 1e-4


def test_the_posterior_matches_scikit_learn() -> None:
    embed = numbers(3)
    codes, others = RNG.integers(0, 5, (20, 3)), RNG.integers(0, 5, (7, 3))
    values = codes[:, 0] * 2.0 + np.sin(codes[:, 1]) + RNG.normal(0, 0.1, 20)
    scales = Hyperparameters(np.array([0.4, 0.8, 2.0]), 0.05)
    mean, deviation = Posterior(embed(codes), embed.choice_of_feature, values, scales).predict(
        embed(others)
    )
    kernel = Matern(scales.lengths, "fixed", nu=2.5) + WhiteKernel(scales.noise, "fixed")
    theirs = GaussianProcessRegressor(kernel, alpha=0, normalize_y=True).fit(codes / 4, values)
    their_mean, with_noise = theirs.predict(others / 4, return_std=True)
    assert mean == pytest.approx(their_mean, abs=1e-6)
    noise = scales.noise * values.var()
    assert deviation**2 + noise == pytest.approx(with_noise**2, rel=1e-4)


def test_fitted_length_scales_are_short_for_relevant_choices() -> None:
    embed = numbers(4)
    codes = RNG.integers(0, 5, (60, 4))
    values = np.sin(codes[:, 1] * 1.5) + 0.01 * RNG.normal(size=60)
    scales = fit_hyperparameters(embed(codes), embed.choice_of_feature, values)
    others = np.delete(scales.lengths, 1)
    assert scales.lengths[1] < others.min() / 2
    fresh = RNG.integers(0, 5, (50, 4))
    mean, _ = Posterior(embed(codes), embed.choice_of_feature, values, scales).predict(embed(fresh))
    assert np.corrcoef(mean, np.sin(fresh[:, 1] * 1.5))[0, 1] > 0.98


def test_constant_values_are_predicted_everywhere() -> None:
    embed = numbers(2)
    codes = RNG.integers(0, 5, (6, 2))
    values = np.full(6, 3.0)
    scales = fit_hyperparameters(embed(codes), embed.choice_of_feature, values)
    mean, deviation = Posterior(embed(codes), embed.choice_of_feature, values, scales).predict(
        embed(codes)
    )
    assert mean == pytest.approx(values)
    assert np.isfinite(deviation).all()
