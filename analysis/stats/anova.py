"""Analysis of variance of factorial designs: main effects and two-factor interactions."""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.runs.config.design import Factor

_RANK_TOLERANCE = 1e-9

COLUMNS = (
    *("term", "also", "squares", "degrees", "f", "p", "partial_eta_squared"),
    *("effect", "low", "high"),
)
"""Columns of the table that `anova` returns."""


@dataclass(frozen=True)
class _Term:
    """A main effect or an interaction, with its columns of the design matrix and its aliases."""

    name: str
    factors: frozenset[str]
    columns: Floats
    aliases: list[str] = field(default_factory=list)


def anova(
    values: Mapping[str, Mapping[int, float]],
    levels: Mapping[str, Mapping[str, str]],
    factors: Sequence[Factor],
    level: float = 0.95,
) -> pd.DataFrame:
    """Return one row per main effect and two-factor interaction, and one for the residual.

    The model is value = seed + main effects + two-factor interactions + residual, fitted by least
    squares. Sums of squares are of type II: what an effect explains beyond all effects that do not
    contain it. Missing arms and seeds are allowed. `also` lists the aliases: effects that a
    fractional design cannot separate from this one. `effect` and its interval exist for two-level
    factors only: the mean at the second level minus the mean at the first. For an interaction it is
    the difference of differences: the effect of one factor at the second level of the other minus
    its effect at the first. The intervals are not simultaneous.

    Args:
        values: values by arm and seed.
        levels: level of each factor, by arm.
        factors: factors of the design.
        level: confidence level of the intervals.

    Raises:
        KeyError: `levels` lacks an arm.
    """
    cells = [(arm, seed) for arm, seeds in values.items() for seed in seeds]
    y = np.array([values[arm][seed] for arm, seed in cells])
    rows = [levels[arm] for arm, _ in cells]
    blocks = _block_columns([seed for _, seed in cells])
    terms = _estimable_terms(blocks, _terms(rows, factors))
    table = [_row(y, blocks, terms, term, level) for term in terms]
    squares, degrees = _residual(y, blocks, terms)
    residual = {"term": "residual", "also": "", "squares": squares, "degrees": degrees}
    return pd.DataFrame([*table, residual], columns=[*COLUMNS]).astype({"degrees": "int64"})


def _block_columns(seeds: Sequence[int]) -> Floats:
    """Return the intercept and one indicator column for each seed but the first."""
    later = sorted(set(seeds))[1:]
    columns = [[1.0] * len(seeds), *([float(s == seed) for s in seeds] for seed in later)]
    return np.array(columns).T


def _terms(rows: Sequence[Mapping[str, str]], factors: Sequence[Factor]) -> list[_Term]:
    """Return all main effects, followed by all two-factor interactions."""
    main = {
        factor.name: _sum_coding(
            [row.get(factor.name, factor.baseline) for row in rows], factor.levels
        )
        for factor in factors
    }
    return [
        *(_Term(name, frozenset([name]), columns) for name, columns in main.items()),
        *(
            # products of -1/2 and 1/2: the coefficient is the difference of differences
            _Term(" × ".join(pair), frozenset(pair), _products(main[pair[0]], main[pair[1]]))
            for pair in itertools.combinations(main, 2)
        ),
    ]


def _sum_coding(labels: Sequence[str], levels: Sequence[str]) -> Floats:
    """Return columns that sum to zero over the levels: -1/2 and 1/2 for two levels."""
    used = [level for level in levels if level in labels]
    first = np.array([label == used[0] for label in labels], dtype=float)
    columns = [np.array([c == level for c in labels], dtype=float) - first for level in used[1:]]
    return np.array(columns).T.reshape(len(labels), len(columns)) / 2


def _products(left: Floats, right: Floats) -> Floats:
    columns = left[:, :, None] * right[:, None, :]
    return columns.reshape(len(left), -1)


def _estimable_terms(blocks: Floats, terms: Sequence[_Term]) -> list[_Term]:
    """Return the terms that raise the rank of the design; record the others as their aliases."""
    kept: list[_Term] = []
    for term in terms:
        basis = _design(blocks, kept)
        if _rank(basis, term.columns) > _rank(basis):
            kept.append(term)
        elif term.columns.any():
            _record_alias(blocks, kept, term)
    return kept


def _record_alias(blocks: Floats, kept: Sequence[_Term], term: _Term) -> None:
    """Add a term to the aliases of the first kept term with the same column space."""
    rank = _rank(blocks)
    for other in kept:
        if _rank(blocks, other.columns, term.columns) == _rank(blocks, other.columns) > rank:
            other.aliases.append(term.name)
            return


def _design(blocks: Floats, terms: Sequence[_Term]) -> Floats:
    return np.hstack([blocks, *(term.columns for term in terms)])


def _rank(*columns: Floats) -> int:
    matrix = np.hstack(columns)
    return int(np.linalg.matrix_rank(matrix, tol=_RANK_TOLERANCE * max(matrix.shape)))


def _row(
    y: Floats, blocks: Floats, terms: Sequence[_Term], term: _Term, level: float
) -> dict[str, Any]:
    """Return the sum of squares and the F test of a term, and its effect if it has one column."""
    from scipy.special import fdtrc

    others = [other for other in terms if not term.factors <= other.factors]
    reduced, full = (_fit(y, blocks, part) for part in (others, [*others, term]))
    squares, degrees = reduced.ssr - full.ssr, round(reduced.df_resid - full.df_resid)
    residual, free = _residual(y, blocks, terms)
    f = (squares / degrees) / (residual / free) if free and residual > 0 else np.nan
    total = squares + residual
    row = {
        "term": term.name,
        "also": ", ".join(term.aliases),
        "squares": squares,
        "degrees": degrees,
        "f": f,
        "p": float(fdtrc(degrees, free, f)) if free else np.nan,
        "partial_eta_squared": squares / total if total > 0 else np.nan,
    }
    return row | _effect(y, blocks, terms, term, level)


def _effect(
    y: Floats, blocks: Floats, terms: Sequence[_Term], term: _Term, level: float
) -> dict[str, float]:
    others = [other for other in terms if other is not term]
    basis = _design(blocks, others)
    if term.columns.shape[1] != 1 or _rank(basis, term.columns) == _rank(basis):
        return {}
    fitted = _fit(y, blocks, [term, *others])
    index = blocks.shape[1]
    effect = {"effect": float(fitted.params[index])}
    if fitted.df_resid < 1:
        return effect
    low, high = fitted.conf_int(1 - level)[index]
    return effect | {"low": float(low), "high": float(high)}


def _residual(y: Floats, blocks: Floats, terms: Sequence[_Term]) -> tuple[float, int]:
    """Return the sum of squares and the degrees of freedom of the residual."""
    fitted = _fit(y, blocks, terms)
    return float(fitted.ssr), round(fitted.df_resid)


def _fit(y: Floats, blocks: Floats, terms: Sequence[_Term]) -> Any:
    from statsmodels.regression.linear_model import OLS

    with warnings.catch_warnings():
        # empty cells make the design singular; the degrees of freedom follow from its rank
        warnings.simplefilter("ignore")
        return OLS(y, _design(blocks, terms)).fit()
