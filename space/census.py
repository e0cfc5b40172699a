"""A census of a space: how many ways of choosing there are, counted by recursion."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from partialnas.space.axes import Axis, Level
from partialnas.space.fold import Algebra, Fold, TooLargeError
from partialnas.space.scheme import Chosen, Scheme, Scope

_STEPS = 40_000


class _Count(Algebra[tuple[int, int]]):
    """Counts ways of choosing: those that can be built, and all."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._alike = _alike(scheme)

    def place(self, scope: Scope) -> object:
        return scope[:1]

    def levels(self, axis: Axis, scope: Scope, chosen: Chosen) -> Sequence[Level]:  # noqa: ARG002
        return axis.levels[:1] if axis.name in self._alike else axis.levels

    def item(self, scope: Scope, chosen: Chosen) -> tuple[int, int]:
        ways = math.prod(n for name, n in self._alike.items() if (name, scope) in chosen)
        try:
            if len(scope) == 2:
                self._scheme.block(scope, chosen)
        except ValueError:
            return 0, ways
        return ways, ways

    def either(self, one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return one[0] + other[0], one[1] + other[1]

    def both(self, one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return one[0] * other[0], one[1] * other[1]


def _alike(scheme: Scheme) -> dict[str, int]:
    """The axes whose levels are all alike to a count, one standing for all, and how many they are.

    They decide neither what can be built nor what is active.
    """
    names = {"stem_stride", "activation", "head_width"}
    narrowest = min(_values(scheme, "width", scheme.base.widths))
    if narrowest >= 2:
        names.add("pat_sp")
    if narrowest * min(_values(scheme, "mlp_ratio", [scheme.base.mlp_ratio])) >= 1:
        names.add("mlp_ratio")
    named = {name for axis in scheme.axes.values() for name in axis.when}
    return {n: len(scheme.axes[n].levels) for n in scheme.axes.keys() & names - named}


def _values(scheme: Scheme, name: str, base: Sequence[Any]) -> Iterator[Any]:
    """The base's values of a setting and those of its axis."""
    yield from base
    for level in scheme.axes[name].levels if name in scheme.axes else ():
        yield from level.value if scheme.axes[name].placed else [level.value]


def count(scheme: Scheme, steps: int = _STEPS) -> tuple[int, int] | None:
    """Ways of choosing that can be built, and all; None if counting takes too many steps."""
    try:
        return Fold(scheme, _Count(scheme), steps).total() or (0, 0)
    except TooLargeError:
        return None
