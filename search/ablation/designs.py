"""Layouts: which combinations of levels each kind of ablation design has, and their names."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from partialnas.runs.config.design import Factor
from partialnas.search.ablation.fractional_factorial import fractional_factorial
from partialnas.search.study.ablation_spec import INGREDIENT_DESIGNS, DesignKind
from partialnas.space.errors import UserError

Levels = Mapping[str, str]
"""The label of each factor's level."""


@dataclass(frozen=True)
class DesignRow:
    """One combination of a design: what it is called, and the level of each factor."""

    name: str
    levels: dict[str, str]


@dataclass(frozen=True)
class DesignMatrix:
    """The combinations of a design, the one that others are compared with first.

    Attributes:
        rows: its combinations.
        aliases: of a fraction, which it is, and which effects it cannot tell apart, a line each.
    """

    rows: tuple[DesignRow, ...]
    aliases: tuple[str, ...] = ()


def design_matrix(kind: DesignKind, factors: Sequence[Factor], resolution: int) -> DesignMatrix:
    """The combinations that a design has of its factors.

    Raises:
        UserError: a factor has not the two levels that the design needs, or there is no fraction of
            this resolution.
    """
    if kind in INGREDIENT_DESIGNS or kind == "fractional":
        for factor in factors:
            if len(factor.levels) != 2:
                told = ", ".join(factor.levels)
                raise UserError(f"factors.{factor.name}: {kind} needs two levels, got {told}")
    if kind == "fractional":
        return _fractional(factors, resolution)
    return DesignMatrix(tuple(_ROWS[kind](factors)))


def _base(factors: Sequence[Factor]) -> dict[str, str]:
    return {factor.name: factor.baseline for factor in factors}


def _one_factor(factors: Sequence[Factor]) -> Iterator[DesignRow]:
    base = _base(factors)
    yield DesignRow("baseline", base)
    for factor in factors:
        for level in factor.levels:
            if level != factor.baseline:
                yield DesignRow(f"{factor.name}={level}", base | {factor.name: level})


def _leave_one_out(factors: Sequence[Factor]) -> Iterator[DesignRow]:
    full = {factor.name: factor.levels[1] for factor in factors}
    yield DesignRow("full", full)
    for factor in factors:
        yield DesignRow(f"without {factor.name}", full | {factor.name: factor.levels[0]})


def _add_one_in(factors: Sequence[Factor]) -> Iterator[DesignRow]:
    bare = {factor.name: factor.levels[0] for factor in factors}
    yield DesignRow("bare", bare)
    for factor in factors:
        yield DesignRow(f"with {factor.name}", bare | {factor.name: factor.levels[1]})


def _ladder(factors: Sequence[Factor]) -> Iterator[DesignRow]:
    levels = {factor.name: factor.levels[0] for factor in factors}
    yield DesignRow("bare", levels)
    for factor in factors:
        levels = levels | {factor.name: factor.levels[1]}
        yield DesignRow(f"+ {factor.name}", levels)


def _factorial(factors: Sequence[Factor]) -> Iterator[DesignRow]:
    """All combinations, that of the baselines first."""
    for levels in itertools.product(*map(_baseline_first, factors)):
        yield _combined(dict(zip(_base(factors), levels, strict=True)))


def _baseline_first(factor: Factor) -> list[str]:
    return [factor.baseline, *(level for level in factor.levels if level != factor.baseline)]


def _combined(levels: dict[str, str]) -> DesignRow:
    return DesignRow(", ".join(f"{name}={level}" for name, level in levels.items()), levels)


def _fractional(factors: Sequence[Factor], resolution: int) -> DesignMatrix:
    """Of the principal fraction +1 is a factor's baseline, which puts the baseline into it."""
    fraction = fractional_factorial([factor.name for factor in factors], resolution)
    rows = []
    for run in sorted(fraction.runs, reverse=True):
        chosen = {
            factor.name: factor.baseline if sign > 0 else _other(factor)
            for factor, sign in zip(factors, run, strict=True)
        }
        rows.append(_combined(chosen))
    return DesignMatrix(tuple(rows), (str(fraction), *fraction.aliases))


def _other(factor: Factor) -> str:
    return next(level for level in factor.levels if level != factor.baseline)


_ROWS = {
    "one-factor": _one_factor,
    "leave-one-out": _leave_one_out,
    "add-one-in": _add_one_in,
    "ladder": _ladder,
    "factorial": _factorial,
}
