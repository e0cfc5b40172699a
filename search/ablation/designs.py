"""The table of ablation designs: which combinations of levels each design has.

To add a design, add its name to `DesignKind` in `runs.config.design` and its layout to `DESIGNS`.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from partialnas.runs.config.design import DesignKind, Factor
from partialnas.search.ablation.fractional_factorial import fractional_factorial
from partialnas.space.errors import UserError


@dataclass(frozen=True)
class DesignRow:
    """A named combination of one level of each factor."""

    name: str
    levels: dict[str, str]


@dataclass(frozen=True)
class DesignMatrix:
    """The combinations of a design.

    Attributes:
        rows: the combinations; the first is the baseline of the others.
        aliases: for a fractional design, its notation and then each set of effects that cannot be
            distinguished.
    """

    rows: tuple[DesignRow, ...]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class DesignLayout:
    """How a design combines the levels of its factors.

    Attributes:
        combine: returns the combinations of factors at a minimum resolution.
        two_level: whether each factor must have exactly two levels.
        has_ingredients: whether the first of two levels means without the ingredient and the
            second means with it, whatever the baseline has.
    """

    combine: Callable[[Sequence[Factor], int], DesignMatrix]
    two_level: bool = False
    has_ingredients: bool = False


def design_matrix(kind: DesignKind, factors: Sequence[Factor], resolution: int) -> DesignMatrix:
    """Return the combinations of a design.

    Args:
        kind: name of the design.
        factors: the factors to combine.
        resolution: minimum resolution of a fractional design.

    Raises:
        UserError: a factor does not have two levels as the design requires, or no fraction has
            this resolution.
    """
    layout = DESIGNS[kind]
    for factor in factors if layout.two_level else ():
        if len(factor.levels) != 2:
            levels = ", ".join(factor.levels)
            raise UserError(
                f"factors.{factor.name}: a {kind} design needs exactly two levels, got {levels}"
            )
    return layout.combine(factors, resolution)


def _baseline_levels(factors: Sequence[Factor]) -> dict[str, str]:
    return {factor.name: factor.baseline for factor in factors}


def _one_factor(factors: Sequence[Factor]) -> Iterator[DesignRow]:
    base = _baseline_levels(factors)
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
    """Yield all combinations, the one of all baseline levels first."""
    for levels in itertools.product(*map(_baseline_first, factors)):
        yield _combination(dict(zip(_baseline_levels(factors), levels, strict=True)))


def _baseline_first(factor: Factor) -> list[str]:
    return [factor.baseline, *(level for level in factor.levels if level != factor.baseline)]


def _combination(levels: dict[str, str]) -> DesignRow:
    return DesignRow(", ".join(f"{name}={level}" for name, level in levels.items()), levels)


def _fractional(factors: Sequence[Factor], resolution: int) -> DesignMatrix:
    """Return the principal fraction; +1 is the baseline level, so that it contains the baseline."""
    fraction = fractional_factorial([factor.name for factor in factors], resolution)
    rows = []
    for run in sorted(fraction.runs, reverse=True):
        levels = {
            factor.name: _baseline_first(factor)[0 if sign > 0 else 1]
            for factor, sign in zip(factors, run, strict=True)
        }
        rows.append(_combination(levels))
    return DesignMatrix(tuple(rows), (str(fraction), *fraction.aliases))


def _matrix_of(
    rows: Callable[[Sequence[Factor]], Iterator[DesignRow]],
) -> Callable[[Sequence[Factor], int], DesignMatrix]:
    return lambda factors, _resolution: DesignMatrix(tuple(rows(factors)))


DESIGNS: dict[DesignKind, DesignLayout] = {
    "one-factor": DesignLayout(_matrix_of(_one_factor)),
    "leave-one-out": DesignLayout(_matrix_of(_leave_one_out), two_level=True, has_ingredients=True),
    "add-one-in": DesignLayout(_matrix_of(_add_one_in), two_level=True, has_ingredients=True),
    "factorial": DesignLayout(_matrix_of(_factorial)),
    "fractional": DesignLayout(_fractional, two_level=True),
    "ladder": DesignLayout(_matrix_of(_ladder), two_level=True, has_ingredients=True),
}
"""Every design by name."""
