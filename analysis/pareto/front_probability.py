"""Probability of each architecture of being on the front, given the spread between seeds."""

from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats, Mask, Objectives
from partialnas.analysis.frames.seed_means import architecture_codes, completed_mask
from partialnas.analysis.pareto.front import competing_points
from partialnas.analysis.stats.dominance import finite_mask, non_dominated
from partialnas.runs.config.quantities import differs_by_seed

DRAWS = 2000
"""Number of simulated fronts; the standard error of a probability is at most 0.011."""

MODEL = (
    "Probability of being on the front: share of {draws:,} simulated fronts. Each mean over seeds "
    "is drawn from a normal distribution around its value, with the standard deviation between "
    "seeds, pooled over the study's architectures, divided by √n{measured}. Unknown for an "
    "architecture with one seed. Not corrected for the selection of the best of many."
)
"""Description of the model for captions."""

_MAX_DEVIATIONS = 5.0
_NORMAL_95 = 1.959964
_BLOCK = 4096


def front_probability_sentence(*, measured: bool) -> str:
    """Return the description of the model for a caption.

    Args:
        measured: whether an objective is measured on a device.
    """
    spread = "; measured values are drawn with the spread of their interval" if measured else ""
    return MODEL.format(draws=DRAWS, measured=spread)


def front_probability(
    frame: pd.DataFrame, rows: pd.DataFrame, objectives: Objectives, *, seed: int = 0
) -> "pd.Series[float]":
    """Return the probability that each row is on the front of its study; NaN if unknown.

    The true value of a trained objective is modeled as normal around the mean over seeds. Its
    variance is that between seeds, pooled over all architectures of the study (the few seeds of
    one architecture determine its own spread poorly), divided by the number of seeds. Trained
    objectives covary as they do between seeds. A measured objective is normal with the spread of
    its 95 % interval; counts are exact. Baselines, infeasible networks, and networks without a
    second seed have no probability; feasible searched networks still compete in the simulation.

    Args:
        frame: trials, with the columns of `load`.
        rows: rows of `aggregate`, with the ends of intervals of measured objectives (`KEY_low`,
            `KEY_high`) if known.
        objectives: quantities that decide, and the direction of each.
        seed: seed of the simulation.
    """
    result = pd.Series(np.nan, index=rows.index)
    for folder, study in rows[~rows["baseline"]].groupby("folder", sort=False):
        points = competing_points(study, objectives)
        usable = finite_mask(points)
        covariances = _covariances(frame[frame["folder"].eq(folder)], study, objectives)[usable]
        if not usable.any() or np.isnan(covariances).any():
            continue
        shares = simulate_fronts(points[usable], covariances, objectives, seed=seed)
        replicated = _have_several_seeds(study, objectives)[usable]
        result[study.index[usable]] = np.where(replicated, shares, np.nan)
    return result


def simulate_fronts(
    points: Floats, covariances: Floats, objectives: Objectives, *, seed: int = 0
) -> Floats:
    """Return the share of simulated fronts that each point is on.

    Args:
        points: means, one row per point and one column per objective, all finite.
        covariances: covariance matrix of each point, shape (points, objectives, objectives).
        objectives: directions, in the order of the columns.
        seed: seed of the draws.
    """
    sign = np.array([1.0 if better == "min" else -1.0 for better in objectives.values()])
    means = points * sign
    roots = _roots(covariances) * sign[:, None]
    spreads = np.sqrt((roots**2).sum(axis=2))
    near = np.flatnonzero(_may_be_on_front(means, spreads))
    generator = np.random.default_rng(seed)
    hits = np.zeros(len(near))
    for _ in range(DRAWS):
        noise = generator.standard_normal((len(near), len(sign)))
        drawn = means[near] + np.einsum("nij,nj->ni", roots[near], noise)
        hits += non_dominated(drawn)
    shares = np.zeros(len(points))
    shares[near] = hits / DRAWS
    return shares


def _roots(covariances: Floats) -> Floats:
    """Return matrix square roots of the covariances, which may be singular."""
    values, vectors = np.linalg.eigh(covariances)
    roots: Floats = vectors * np.sqrt(np.clip(values, 0, None))[:, None, :]
    return roots


def _may_be_on_front(means: Floats, spreads: Floats) -> Mask:
    """Return which points may be on a front: no point at its worst dominates them at their best."""
    best, worst = means - _MAX_DEVIATIONS * spreads, means + _MAX_DEVIATIONS * spreads
    edge = worst[non_dominated(worst, keep_duplicates=False)]
    near = np.ones(len(means), dtype=bool)
    for start in range(0, len(best), _BLOCK):
        part = best[start : start + _BLOCK, None, :]
        beaten: Mask = np.all(edge[None] < part, axis=2)
        near[start : start + _BLOCK] = ~beaten.any(axis=1)
    return near


def _have_several_seeds(rows: pd.DataFrame, objectives: Objectives) -> Mask:
    """Return which rows have several seeds, if any objective is trained."""
    if not any(map(differs_by_seed, objectives)):
        return np.ones(len(rows), dtype=bool)
    return np.asarray(rows["n"] > 1, dtype=bool)


def _covariances(frame: pd.DataFrame, rows: pd.DataFrame, objectives: Objectives) -> Floats:
    """Return the covariance matrix of each row's means; NaN if no architecture has two seeds."""
    keys = list(objectives)
    trained = [key for key in keys if differs_by_seed(key)]
    covariances = np.zeros((len(rows), len(keys), len(keys)))
    at = [keys.index(key) for key in trained]
    pooled = _pooled(frame, trained) if trained else np.empty((0, 0))
    n = rows["n"].to_numpy(float).clip(min=1)
    covariances[np.ix_(range(len(rows)), at, at)] = pooled[None] / n[:, None, None]
    for i, key in enumerate(keys):
        if key not in trained:
            covariances[:, i, i] = _interval_deviation(rows, key) ** 2
    return covariances


def _interval_deviation(rows: pd.DataFrame, key: str) -> Any:
    """Return the standard deviation of a measured value; 0 without an interval."""
    if f"{key}_low" not in rows:
        return 0.0
    width = rows[f"{key}_high"].to_numpy(float) - rows[f"{key}_low"].to_numpy(float)
    return np.nan_to_num(width) / (2 * _NORMAL_95)


def _pooled(frame: pd.DataFrame, trained: list[str]) -> Floats:
    """Return the covariance between seeds pooled over architectures; NaN without repeats."""
    counts = completed_mask(frame, trained)
    values = frame.loc[counts, trained].astype(float)
    code = architecture_codes(frame)[counts]
    residuals = (values - values.groupby(code).transform("mean")).to_numpy(float)
    degrees = len(values) - code.nunique()
    if degrees < 1:
        return np.full((len(trained), len(trained)), np.nan)
    pooled: Floats = residuals.T @ residuals / degrees
    return pooled


def format_probability(probability: float) -> str:
    """Return a probability in percent; empty if unknown."""
    if np.isnan(probability):
        return ""
    return "< 1 %" if 0 < probability < 0.005 else f"{probability:.0%}".replace("%", " %")
