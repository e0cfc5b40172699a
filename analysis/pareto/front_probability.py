"""How sure the members of a front are: the probability of being on it, given the seeds' spread."""

from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats, Mask, Objectives
from partialnas.analysis.frames.seed_means import architecture_codes, completed_mask
from partialnas.analysis.pareto.front import feasible_points
from partialnas.analysis.stats.dominance import finite_mask, non_dominated
from partialnas.runs.config.quantities import differs_by_seed

DRAWS = 2000
"""How many fronts are drawn: the probability's own standard error is at most 0.011."""

MODEL = (
    "Probability of being on the front: share of {draws:,} simulated fronts; each mean over seeds "
    "is drawn from a normal distribution around its value, with the standard deviation between "
    "seeds pooled over the study's architectures and divided by √n{measured}; not known of an "
    "architecture with one seed; not corrected for having chosen the best of many."
)
"""The model in words."""

_FAR = 5.0
_NORMAL_95 = 1.959964
_BLOCK = 4096


def front_probability_sentence(*, measured: bool) -> str:
    """The model as a caption tells it.

    Args:
        measured: whether an objective is measured on a device.
    """
    told = ", measured values with that of their interval" if measured else ""
    return MODEL.format(draws=DRAWS, measured=told)


def front_probability(
    frame: pd.DataFrame, rows: pd.DataFrame, objectives: Objectives, *, seed: int = 0
) -> "pd.Series[float]":
    """The probability that each row is on the front of its study; NaN where it is not known.

    The true value of a trained objective is normal around the mean over seeds. Its variance is
    that between seeds, pooled over all architectures of the study, over the number of seeds: few
    seeds of one architecture tell little of its own spread. Objectives that are trained vary
    together as they do between seeds. A measured one is normal with the spread that its 95 %
    interval has; counts have none. Baselines, networks that violate a limit, and those whose
    spread no second seed tells (their own, or that of the whole study) have no probability; as
    rivals they count with what is known.

    Args:
        frame: the trials, as `load` gives them.
        rows: what `aggregate` makes of them, with `low` and `high` ends of measured objectives
            (`KEY_low`, `KEY_high`) where they are known.
        objectives: the quantities that decide, and which way each is better.
        seed: of the simulation.
    """
    found = pd.Series(np.nan, index=rows.index)
    for folder, own in rows[~rows["baseline"]].groupby("folder", sort=False):
        points = feasible_points(own, objectives)
        usable = finite_mask(points)
        covariances = _covariances(frame[frame["folder"].eq(folder)], own, objectives)[usable]
        if not usable.any() or np.isnan(covariances).any():
            continue
        chances = simulate_fronts(points[usable], covariances, objectives, seed=seed)
        replicated = _replicated(own, objectives)[usable]
        found[own.index[usable]] = np.where(replicated, chances, np.nan)
    return found


def simulate_fronts(
    points: Floats, covariances: Floats, objectives: Objectives, *, seed: int = 0
) -> Floats:
    """The share of simulated fronts that each point is on.

    Args:
        points: means, one row each, a column per objective, all finite.
        covariances: of each row the matrix that its draws vary with.
        objectives: in the order of the columns.
        seed: of the draws.
    """
    sign = np.array([1.0 if better == "min" else -1.0 for better in objectives.values()])
    means = points * sign
    roots = _roots(covariances) * sign[:, None]
    spreads = np.sqrt((roots**2).sum(axis=2))
    near = np.flatnonzero(_within_reach(means, spreads))
    generator = np.random.default_rng(seed)
    hits = np.zeros(len(near))
    for _ in range(DRAWS):
        noise = generator.standard_normal((len(near), len(sign)))
        drawn = means[near] + np.einsum("nij,nj->ni", roots[near], noise)
        hits += non_dominated(drawn)
    chances = np.zeros(len(points))
    chances[near] = hits / DRAWS
    return chances


def _roots(covariances: Floats) -> Floats:
    """Matrices whose products with their transposes are the covariances, flat ones too."""
    values, vectors = np.linalg.eigh(covariances)
    roots: Floats = vectors * np.sqrt(np.clip(values, 0, None))[:, None, :]
    return roots


def _within_reach(means: Floats, spreads: Floats) -> Mask:
    """Which points might be on a front: at their best no rival at its worst beats them."""
    best, worst = means - _FAR * spreads, means + _FAR * spreads
    edge = worst[non_dominated(worst, keep_duplicates=False)]
    near: Mask = np.ones(len(means), dtype=bool)
    for start in range(0, len(best), _BLOCK):
        part = best[start : start + _BLOCK, None, :]
        near[start : start + _BLOCK] = ~(edge[None] < part).all(axis=2).any(axis=1)
    return near


def _replicated(rows: pd.DataFrame, objectives: Objectives) -> Mask:
    """Which rows have the seeds that tell their spread."""
    if not any(map(differs_by_seed, objectives)):
        return np.ones(len(rows), dtype=bool)
    return np.asarray(rows["n"] > 1, dtype=bool)


def _covariances(frame: pd.DataFrame, rows: pd.DataFrame, objectives: Objectives) -> Floats:
    """Of each row the covariance of its means; NaN throughout where no seeds tell it."""
    keys = list(objectives)
    trained = [key for key in keys if differs_by_seed(key)]
    found = np.zeros((len(rows), len(keys), len(keys)))
    at = [keys.index(key) for key in trained]
    pooled = _pooled(frame, trained) if trained else np.empty((0, 0))
    n = rows["n"].to_numpy(float).clip(min=1)
    found[np.ix_(range(len(rows)), at, at)] = pooled[None] / n[:, None, None]
    for i, key in enumerate(keys):
        if key not in trained:
            found[:, i, i] = _of_interval(rows, key) ** 2
    return found


def _of_interval(rows: pd.DataFrame, key: str) -> Any:
    """The standard deviation of a measured value; 0 where it has no interval."""
    if f"{key}_low" not in rows:
        return 0.0
    width = rows[f"{key}_high"].to_numpy(float) - rows[f"{key}_low"].to_numpy(float)
    return np.nan_to_num(width) / (2 * _NORMAL_95)


def _pooled(frame: pd.DataFrame, trained: list[str]) -> Floats:
    """The covariance between seeds within architectures, over all of them; NaN without repeats."""
    counts = completed_mask(frame, trained)
    values = frame.loc[counts, trained].astype(float)
    code = architecture_codes(frame)[counts]
    residuals = (values - values.groupby(code).transform("mean")).to_numpy(float)
    degrees = len(values) - code.nunique()
    if degrees < 1:
        return np.full((len(trained), len(trained)), np.nan)
    pooled: Floats = residuals.T @ residuals / degrees
    return pooled


def format_probability(chance: float) -> str:
    """A probability as labels and tables write it; nothing where it is not known."""
    if np.isnan(chance):
        return ""
    return "< 1 %" if 0 < chance < 0.005 else f"{chance:.0%}".replace("%", " %")
