"""Analysis of variance of factorial designs: main effects and two-factor interactions."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

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
    rows = [levels[arm] for arm, _ in cells]
    blocks = _Blocks([seed for _, seed in cells])
    y = blocks.center(np.array([[values[arm][seed]] for arm, seed in cells]))[:, 0]
    centered = [replace(t, columns=blocks.center(t.columns)) for t in _terms(rows, factors)]
    terms = _estimable_terms(len(cells), centered)
    table = [_row(y, blocks, terms, term, level) for term in terms]
    squares, degrees = _residual(y, blocks, terms)
    residual = {"term": "residual", "also": "", "squares": squares, "degrees": degrees}
    return pd.DataFrame([*table, residual], columns=[*COLUMNS]).astype({"degrees": "int64"})


class _Blocks:
    """The seeds as blocks: fits to values centered in each seed are those of a model with seeds.

    Args:
        seeds: seed of each value.

    Attributes:
        number: number of distinct seeds.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        distinct, self._index = np.unique(seeds, return_inverse=True)
        self.number = len(distinct)
        self._counts = np.bincount(self._index)[:, None]

    def center(self, columns: Floats) -> Floats:
        """Return columns minus their mean in each seed; shape (values, columns)."""
        sums = np.zeros((self.number, columns.shape[1]))
        np.add.at(sums, self._index, columns)
        centered: Floats = columns - (sums / self._counts)[self._index]
        return centered


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


def _estimable_terms(size: int, terms: Sequence[_Term]) -> list[_Term]:
    """Return the terms that raise the rank of the design; record the others as their aliases."""
    kept: list[_Term] = []
    for term in terms:
        basis = _design(size, kept)
        if _rank(basis, term.columns) > _rank(basis):
            kept.append(term)
        elif term.columns.any():
            _record_alias(kept, term)
    return kept


def _record_alias(kept: Sequence[_Term], term: _Term) -> None:
    """Add a term to the aliases of the first kept term with the same column space."""
    for other in kept:
        if _rank(other.columns, term.columns) == _rank(other.columns) > 0:
            other.aliases.append(term.name)
            return


def _design(size: int, terms: Sequence[_Term]) -> Floats:
    return np.hstack([np.empty((size, 0)), *(term.columns for term in terms)])


def _rank(*columns: Floats) -> int:
    matrix = np.hstack(columns)
    if not matrix.shape[1]:
        return 0
    return int(np.linalg.matrix_rank(matrix, tol=_RANK_TOLERANCE * max(matrix.shape)))


def _row(
    y: Floats, blocks: _Blocks, terms: Sequence[_Term], term: _Term, level: float
) -> dict[str, Any]:
    """Return the sum of squares and the F test of a term, and its effect if it has one column."""
    from scipy.special import fdtrc

    others = [other for other in terms if not term.factors <= other.factors]
    reduced, full = (_fit(y, blocks, part) for part in (others, [*others, term]))
    squares, degrees = reduced.squares - full.squares, reduced.degrees - full.degrees
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
    y: Floats, blocks: _Blocks, terms: Sequence[_Term], term: _Term, level: float
) -> dict[str, float]:
    from scipy.special import stdtrit

    others = [other for other in terms if other is not term]
    basis = _design(len(y), others)
    if term.columns.shape[1] != 1 or _rank(basis, term.columns) == _rank(basis):
        return {}
    fitted = _fit(y, blocks, [term, *others])
    effect = {"effect": float(fitted.coefficients[0])}
    if fitted.degrees < 1:
        return effect
    error = np.sqrt(fitted.squares / fitted.degrees * fitted.first_variance)
    half_width = float(stdtrit(fitted.degrees, 0.5 + level / 2) * error)
    low, high = effect["effect"] - half_width, effect["effect"] + half_width
    return effect | {"low": low, "high": high}


def _residual(y: Floats, blocks: _Blocks, terms: Sequence[_Term]) -> tuple[float, int]:
    """Return the sum of squares and the degrees of freedom of the residual."""
    fitted = _fit(y, blocks, terms)
    return fitted.squares, fitted.degrees


class _Fit(NamedTuple):
    """A least-squares fit.

    `squares` and `degrees` are those of the residual; `first_variance` is the variance of the
    first coefficient in units of the residual variance.
    """

    squares: float
    degrees: int
    coefficients: Floats
    first_variance: float


def _fit(y: Floats, blocks: _Blocks, terms: Sequence[_Term]) -> _Fit:
    # empty cells make the design singular; the degrees of freedom follow from its rank
    design = _design(len(y), terms)
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ y
    residuals = y - design @ coefficients
    degrees = len(y) - blocks.number - _rank(design)
    first = float(inverse[0] @ inverse[0]) if len(inverse) else 0.0
    return _Fit(float(residuals @ residuals), degrees, coefficients, first)
