"""The table of ablation designs: which combinations of levels each design has.

To add a design, add its name to `DesignKind` in `runs.config.design` and its layout to `DESIGNS`.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from partialnas.runs.config.design import MAX_ARMS, DesignKind, Factor
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


def _one_factor(factors: Sequence[Factor]) -> Iterator[DesignRow]:
    base = {factor.name: factor.baseline for factor in factors}
    yield DesignRow("baseline", base)
    for factor in factors:
        for level in _baseline_first(factor)[1:]:
            yield DesignRow(f"{factor.name}={level}", base | {factor.name: level})


def _change_each(factors: Sequence[Factor], name: str, change: str) -> Iterator[DesignRow]:
    """Yield all ingredients present or all absent, then each one changed alone."""
    start, changed = (1, 0) if change == "without" else (0, 1)
    levels = {factor.name: factor.levels[start] for factor in factors}
    yield DesignRow(name, levels)
    for factor in factors:
        yield DesignRow(f"{change} {factor.name}", levels | {factor.name: factor.levels[changed]})


def _ladder(factors: Sequence[Factor]) -> Iterator[DesignRow]:
    levels = {factor.name: factor.levels[0] for factor in factors}
    yield DesignRow("bare", levels)
    for factor in factors:
        levels = levels | {factor.name: factor.levels[1]}
        yield DesignRow(f"+ {factor.name}", levels)


def _factorial(factors: Sequence[Factor]) -> Iterator[DesignRow]:
    """Yield all combinations, the one of all baseline levels first.

    Raises:
        UserError: there are too many combinations.
    """
    count = math.prod(len(factor.levels) for factor in factors)
    if count > MAX_ARMS:
        raise UserError(
            f"factors: their factorial design has {count:,} arms, more than {MAX_ARMS:,}: remove "
            "factors or levels, or use design: fractional or one-factor"
        )
    for levels in itertools.product(*map(_baseline_first, factors)):
        yield _combination(dict(zip((f.name for f in factors), levels, strict=True)))


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


def _layout(
    rows: Callable[[Sequence[Factor]], Iterator[DesignRow]], **options: bool
) -> DesignLayout:
    return DesignLayout(lambda factors, _: DesignMatrix(tuple(rows(factors))), **options)


_ingredients = partial(_layout, two_level=True, has_ingredients=True)


DESIGNS: dict[DesignKind, DesignLayout] = {
    "one-factor": _layout(_one_factor),
    "leave-one-out": _ingredients(partial(_change_each, name="full", change="without")),
    "add-one-in": _ingredients(partial(_change_each, name="bare", change="with")),
    "factorial": _layout(_factorial),
    "fractional": DesignLayout(_fractional, two_level=True),
    "ladder": _ingredients(_ladder),
}
"""Every design by name."""
