"""Main effects and two-factor interactions of factorial designs, with seeds as blocks."""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.runs.config.design import Factor

_APART = 1e-9

COLUMNS = (
    *("term", "also", "squares", "degrees", "f", "p", "partial_eta_squared"),
    *("effect", "low", "high"),
)
"""The columns of `anova`."""


@dataclass(frozen=True)
class _Term:
    """A main effect or an interaction: its columns of the design, and its aliases."""

    name: str
    factors: frozenset[str]
    columns: Floats
    also: list[str] = field(default_factory=list)


def anova(
    values: Mapping[str, Mapping[int, float]],
    levels: Mapping[str, Mapping[str, str]],
    factors: Sequence[Factor],
    level: float = 0.95,
) -> pd.DataFrame:
    """One row per main effect and two-factor interaction, then one for the residual.

    The model is value = seed + main effects + two-factor interactions + residual, fitted by least
    squares; each sum of squares is what an effect explains beyond all effects that do not contain
    it (type II), so that missing arms and seeds are allowed. `also` names the effects that a
    fractional design cannot tell from this one. `effect`, with its interval, is of two-level
    factors: the mean at the second level minus that at the first, for an interaction half the
    difference of such effects. The intervals hold one by one, not together.

    Args:
        values: by arm and seed.
        levels: the level of each factor, by arm.
        factors: of the design.
        level: of the intervals.

    Raises:
        ValueError: an arm has no levels.
    """
    cells = [(arm, seed) for arm, seeds in values.items() for seed in seeds]
    y = np.array([values[arm][seed] for arm, seed in cells])
    rows = [levels[arm] for arm, _ in cells]
    blocks = _blocks([seed for _, seed in cells])
    terms = _estimable(blocks, _terms(rows, factors))
    table = [_row(y, blocks, terms, term, level) for term in terms]
    squares, degrees = _residual(y, blocks, terms)
    rest = {"term": "residual", "also": "", "squares": squares, "degrees": degrees}
    return pd.DataFrame([*table, rest], columns=[*COLUMNS]).astype({"degrees": "int64"})


def _blocks(seeds: Sequence[int]) -> Floats:
    """The intercept, and a column for each seed but the first."""
    later = sorted(set(seeds))[1:]
    columns = [[1.0] * len(seeds), *([float(s == seed) for s in seeds] for seed in later)]
    return np.array(columns).T


def _terms(rows: Sequence[Mapping[str, str]], factors: Sequence[Factor]) -> list[_Term]:
    """All main effects, then all two-factor interactions."""
    chosen = {each: [row.get(each.name, each.baseline) for row in rows] for each in factors}
    mains = {each.name: _coded(levels, each.levels) for each, levels in chosen.items()}
    pairs = itertools.combinations(mains, 2)
    alone = [_Term(name, frozenset([name]), columns) for name, columns in mains.items()]
    both = [
        _Term(" × ".join(pair), frozenset(pair), 2 * _products(mains[pair[0]], mains[pair[1]]))
        for pair in pairs
    ]
    return [*alone, *both]


def _coded(chosen: Sequence[str], levels: Sequence[str]) -> Floats:
    """Columns that sum to zero over the levels: -1/2 and 1/2 where there are two."""
    used = [level for level in levels if level in chosen]
    first = np.array([level == used[0] for level in chosen], dtype=float)
    columns = [np.array([c == level for c in chosen], dtype=float) - first for level in used[1:]]
    return np.array(columns).T.reshape(len(chosen), len(columns)) / 2


def _products(one: Floats, other: Floats) -> Floats:
    columns = one[:, :, None] * other[:, None, :]
    return columns.reshape(len(one), -1)


def _estimable(blocks: Floats, terms: Sequence[_Term]) -> list[_Term]:
    """The terms that add something to those before them; the others become their aliases."""
    kept: list[_Term] = []
    for term in terms:
        basis = np.hstack([blocks, *(each.columns for each in kept)])
        if _rank(np.hstack([basis, term.columns])) > _rank(basis):
            kept.append(term)
        elif term.columns.any():
            _note_alias(blocks, kept, term)
    return kept


def _note_alias(blocks: Floats, kept: Sequence[_Term], term: _Term) -> None:
    """Names a term beside the first one that cannot be told from it."""
    rank = _rank(blocks)
    for other in kept:
        both = _rank(np.hstack([blocks, other.columns, term.columns]))
        if both == _rank(np.hstack([blocks, other.columns])) > rank:
            other.also.append(term.name)
            return


def _rank(matrix: Floats) -> int:
    return int(np.linalg.matrix_rank(matrix, tol=_APART * max(matrix.shape)))


def _row(
    y: Floats, blocks: Floats, terms: Sequence[_Term], term: _Term, level: float
) -> dict[str, Any]:
    """A term's sum of squares, its test, and its effect where it has one column."""
    from scipy.special import fdtrc

    others = [each for each in terms if not term.factors <= each.factors]
    without, with_it = (_fit(y, blocks, part) for part in (others, [*others, term]))
    squares, degrees = without.ssr - with_it.ssr, round(without.df_resid - with_it.df_resid)
    rest, free = _residual(y, blocks, terms)
    f = (squares / degrees) / (rest / free) if free and rest > 0 else np.nan
    facts = {
        "term": term.name,
        "also": ", ".join(term.also),
        "squares": squares,
        "degrees": degrees,
        "f": f,
        "p": float(fdtrc(degrees, free, f)) if free else np.nan,
        "partial_eta_squared": squares / (squares + rest) if squares + rest > 0 else np.nan,
    }
    return facts | _effect(y, blocks, terms, term, level)


def _effect(
    y: Floats, blocks: Floats, terms: Sequence[_Term], term: _Term, level: float
) -> dict[str, float]:
    others = [each for each in terms if each is not term]
    basis = np.hstack([blocks, *(each.columns for each in others)])
    estimable = _rank(np.hstack([basis, term.columns])) > _rank(basis)
    if term.columns.shape[1] != 1 or not estimable:
        return {}
    fitted = _fit(y, blocks, [term, *others])
    at = blocks.shape[1]
    effect = {"effect": float(fitted.params[at])}
    if fitted.df_resid < 1:
        return effect
    low, high = fitted.conf_int(1 - level)[at]
    return effect | {"low": float(low), "high": float(high)}


def _residual(y: Floats, blocks: Floats, terms: Sequence[_Term]) -> tuple[float, int]:
    whole = _fit(y, blocks, terms)
    return float(whole.ssr), round(whole.df_resid)


def _fit(y: Floats, blocks: Floats, terms: Sequence[_Term]) -> Any:
    from statsmodels.regression.linear_model import OLS

    with warnings.catch_warnings():
        # where cells are empty the rank tells the degrees of freedom, and that is meant
        warnings.simplefilter("ignore")
        return OLS(y, np.hstack([blocks, *(term.columns for term in terms)])).fit()
