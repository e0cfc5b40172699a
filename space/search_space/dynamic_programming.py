"""Folding a space: counting or searching it by recursion over granularities, not by enumeration.

The blocks of a stage are independent given what is chosen for their stage, and stages given what
is chosen for the network. What runs against that grain is a coarse choice that is active only
where some block has a use for it (heads per network: where any block attends). So a fold settles
such a choice at its own level, as active or not, and keeps per alternative which of these choices
its blocks use: one settled as active must be used somewhere within its scope, one settled as
inactive nowhere.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from partialnas.space.arch.plan import NUM_STAGES
from partialnas.space.axes.axis import Axis, Level
from partialnas.space.axes.decoder import Assignment, Decoder, Scope

T = TypeVar("T")
_Table = dict[int, T]
"""Per set of coarse axes that blocks use (as bits) what is known of the alternatives."""


class StepLimitError(Exception):
    """A fold would take more steps than it is allowed."""


class EvaluationAlgebra(ABC, Generic[T]):
    """What a fold finds out."""

    @abstractmethod
    def levels(self, axis: Axis, scope: Scope, chosen: Assignment) -> Sequence[Level]:
        """The levels worth trying, given what is chosen so far."""

    @abstractmethod
    def evaluate(self, scope: Scope, chosen: Assignment) -> T | None:
        """What is known of the choices made at a scope; None to leave the alternative out."""

    @abstractmethod
    def combine_alternatives(self, one: T, other: T) -> T:
        """What is known of two alternatives."""

    @abstractmethod
    def combine_independent(self, one: T, other: T) -> T:
        """What is known of two independent pieces together."""

    @abstractmethod
    def memo_key(self, scope: Scope) -> object:
        """What tells blocks apart beyond what is chosen for them."""


class WitnessAlgebra(EvaluationAlgebra[Assignment]):
    """Keeps one way of choosing per alternative, among those that `admits` lets pass."""

    @abstractmethod
    def admits(self, scope: Scope, chosen: Assignment) -> bool:
        """Whether what is chosen for a scope can be part of a witness."""

    def memo_key(self, scope: Scope) -> object:
        """Each scope has choices of its own."""
        return scope

    def evaluate(self, scope: Scope, chosen: Assignment) -> Assignment | None:
        """The choices made at this very scope."""
        if not self.admits(scope, chosen):
            return None
        return {key: level for key, level in chosen.items() if key[1] == scope}

    def combine_alternatives(self, one: Assignment, other: Assignment) -> Assignment:  # noqa: ARG002
        """The first of them."""
        return one

    def combine_independent(self, one: Assignment, other: Assignment) -> Assignment:
        """The choices of both."""
        return {**one, **other}


class DynamicProgram(Generic[T]):
    """A fold of a scheme by an algebra, in at most `steps` steps where that is given."""

    def __init__(
        self, scheme: Decoder, algebra: EvaluationAlgebra[T], steps: int | None = None
    ) -> None:
        self._scheme = scheme
        self._algebra = algebra
        self._steps = steps
        axes = [axis for axis in scheme.axes.values() if scheme.static_usage(axis) is not False]
        self._at_rank = [[axis for axis in axes if axis.rank == rank] for rank in range(3)]
        open_ones = [axis for axis in axes if self._decided_further_down(axis)]
        self._bits = {axis.name: 1 << index for index, axis in enumerate(open_ones)}
        self._named_in_conditions = {name for axis in axes for name in axis.when}
        self._outside = [self._outside_of(rank) for rank in range(3)]
        self._memo: dict[object, _Table[T]] = {}

    def _decided_further_down(self, axis: Axis) -> bool:
        """Whether choices of a finer granularity decide if blocks have a use for an axis."""
        names = axis.dependencies() - axis.when.keys() - {"depth", "depths"}
        deciding = (self._scheme.axes[name] for name in names & self._scheme.axes.keys())
        undecided = self._scheme.static_usage(axis) is None
        return undecided and any(other.rank > axis.rank for other in deciding)

    def _outside_of(self, rank: int) -> list[Axis]:
        """The coarser axes that what is inside a scope of this rank depends on."""
        axes = [axis for axes in self._at_rank[:rank] for axis in axes]
        dead = {"depth", "depths"} - self._named_in_conditions if rank == 2 else set()
        return [axis for axis in axes if axis.name not in dead]

    def solve(self) -> T | None:
        """What is known of the whole space; None if nothing is in it.

        Raises:
            TooLargeError: it takes more than the allowed steps.
        """
        return self._table((), {}).get(0)

    def _table(self, scope: Scope, chosen: Assignment) -> _Table[T]:
        """What is within a scope, given what is chosen outside of it."""
        key = (len(scope), self._algebra.memo_key(scope), self._reads(scope, chosen))
        if key not in self._memo:
            self._memo[key] = self._fill(scope, chosen)
        return self._memo[key]

    def _reads(self, scope: Scope, chosen: Assignment) -> tuple[Any, ...]:
        """All that is chosen outside of a scope and matters within it."""
        levels = [
            (axis, chosen.get((axis.name, scope[: axis.rank])))
            for axis in self._outside[len(scope)]
        ]
        return tuple(
            level
            and (
                level.value[scope[0]]
                if axis.has_stage_values and axis.name not in self._named_in_conditions
                else level.label
            )
            for axis, level in levels
        )

    def _fill(self, scope: Scope, chosen: Assignment) -> _Table[T]:
        axes = self._at_rank[len(scope)]
        own = sum(self._bits.get(axis.name, 0) for axis in axes)
        table: _Table[T] = {}
        for settled, active in self._settle(axes, scope, chosen):
            for used, item in self._inside(scope, settled).items():
                if used & own == active:
                    self._add(table, used & ~own, item)
        return table

    def _settle(
        self, axes: Sequence[Axis], scope: Scope, chosen: Assignment
    ) -> Iterator[tuple[Assignment, int]]:
        """Every way to settle axes at a scope: what is chosen, and the bits of those it has active.

        An axis whose use is decided further down is settled as active, and as inactive too.
        """
        self._step()
        if not axes:
            yield chosen, 0
            return
        axis, rest = axes[0], axes[1:]
        bit = self._bits.get(axis.name, 0)
        may_be_active = self._may_be_active(axis, scope, chosen)
        if may_be_active:
            for level in self._algebra.levels(axis, scope, chosen):
                extended = {**chosen, (axis.name, scope): level}
                for settled, active in self._settle(rest, scope, extended):
                    yield settled, active | bit
        if bit or not may_be_active:
            yield from self._settle(rest, scope, chosen)

    def _may_be_active(self, axis: Axis, scope: Scope, chosen: Assignment) -> bool:
        if not self._scheme.condition_holds(axis, scope, chosen):
            return False
        if axis.name in self._bits or self._scheme.static_usage(axis):
            return True
        blocks = [(*scope, 0)[:2]] if scope else [(stage, 0) for stage in range(NUM_STAGES)]
        return any(self._scheme.uses(axis, block, chosen) for block in blocks)

    def _inside(self, scope: Scope, chosen: Assignment) -> _Table[T]:
        """What is inside a scope whose own choices are all made."""
        item = self._algebra.evaluate(scope, chosen)
        if item is None:
            return {}
        if len(scope) == 2:
            used = self._used(scope, chosen)
            return {} if used is None else {used: item}
        table = {0: item}
        for index in range(self._scheme.depth(scope[0], chosen) if scope else NUM_STAGES):
            table = self._product(table, self._table((*scope, index), chosen))
        return table

    def _used(self, scope: Scope, chosen: Assignment) -> int | None:
        """The bits of the coarse axes that a block uses; None if one is settled as inactive."""
        used = 0
        for name, bit in self._bits.items():
            axis = self._scheme.axes[name]
            if self._scheme.uses(axis, scope, chosen):
                if self._scheme.level(name, scope, chosen) is not None:
                    used |= bit
                elif self._scheme.condition_holds(axis, scope, chosen):
                    return None
        return used

    def _product(self, one: _Table[T], other: _Table[T]) -> _Table[T]:
        table: _Table[T] = {}
        for a, left in one.items():
            for b, right in other.items():
                self._step()
                self._add(table, a | b, self._algebra.combine_independent(left, right))
        return table

    def _add(self, table: _Table[T], used: int, item: T) -> None:
        table[used] = self._algebra.combine_alternatives(table[used], item) if used in table else item

    def _step(self) -> None:
        if self._steps is not None:
            self._steps -= 1
            if self._steps < 0:
                raise StepLimitError


_STEPS = 40_000


class _Count(EvaluationAlgebra[tuple[int, int]]):
    """Counts ways of choosing: those that can be built, and all."""

    def __init__(self, scheme: Decoder) -> None:
        self._scheme = scheme
        self._alike = _alike(scheme)

    def memo_key(self, scope: Scope) -> object:
        return scope[:1]

    def levels(self, axis: Axis, scope: Scope, chosen: Assignment) -> Sequence[Level]:  # noqa: ARG002
        return axis.levels[:1] if axis.name in self._alike else axis.levels

    def evaluate(self, scope: Scope, chosen: Assignment) -> tuple[int, int]:
        ways = math.prod(n for name, n in self._alike.items() if (name, scope) in chosen)
        try:
            if len(scope) == 2:
                self._scheme.block(scope, chosen)
        except ValueError:
            return 0, ways
        return ways, ways

    def combine_alternatives(self, one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return one[0] + other[0], one[1] + other[1]

    def combine_independent(self, one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return one[0] * other[0], one[1] * other[1]


def _alike(scheme: Decoder) -> dict[str, int]:
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


def _values(scheme: Decoder, name: str, base: Sequence[Any]) -> Iterator[Any]:
    """The base's values of a setting and those of its axis."""
    yield from base
    for level in scheme.axes[name].levels if name in scheme.axes else ():
        yield from level.value if scheme.axes[name].has_stage_values else [level.value]


def count_points(scheme: Decoder, steps: int = _STEPS) -> tuple[int, int] | None:
    """Ways of choosing that can be built, and all; None if counting takes too many steps."""
    try:
        return DynamicProgram(scheme, _Count(scheme), steps).solve() or (0, 0)
    except StepLimitError:
        return None
