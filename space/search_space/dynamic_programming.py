"""Dynamic programming over a space: count or search it by recursion instead of enumeration.

The blocks of a stage are independent given the choices of the stage, and stages are independent
given the choices of the network. The exception is a coarse choice that is active only if some block
uses it, such as heads per network, which require a block with self-attention. Such a choice is
assigned at its own scope, as active or inactive, and every alternative records which of these
choices its blocks use: an active one must be used within its scope, an inactive one must not.
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
"""Values of the alternatives, by the set of coarse axes that blocks use, as bits."""


class StepLimitError(Exception):
    """The computation takes more steps than allowed."""


class EvaluationAlgebra(ABC, Generic[T]):
    """Operations on the values that a dynamic program computes."""

    @abstractmethod
    def levels(self, axis: Axis, scope: Scope, chosen: Assignment) -> Sequence[Level]:
        """Return the levels to try, given the choices so far."""

    @abstractmethod
    def evaluate(self, scope: Scope, chosen: Assignment) -> T | None:
        """Return the value of the choices at a scope, or None to drop the alternative."""

    @abstractmethod
    def combine_alternatives(self, one: T, other: T) -> T:
        """Return the value of two alternatives."""

    @abstractmethod
    def combine_independent(self, one: T, other: T) -> T:
        """Return the value of two independent pieces together."""

    @abstractmethod
    def memo_key(self, scope: Scope) -> object:
        """Return what distinguishes blocks besides their choices."""


class WitnessAlgebra(EvaluationAlgebra[Assignment]):
    """Keeps one admitted assignment per alternative."""

    @abstractmethod
    def admits(self, scope: Scope, chosen: Assignment) -> bool:
        """Return whether the choices for a scope may be part of an assignment."""

    def memo_key(self, scope: Scope) -> object:
        """Return the scope, because every scope has its own choices."""
        return scope

    def evaluate(self, scope: Scope, chosen: Assignment) -> Assignment | None:
        """Return the choices made at this scope."""
        if not self.admits(scope, chosen):
            return None
        return {key: level for key, level in chosen.items() if key[1] == scope}

    def combine_alternatives(self, one: Assignment, other: Assignment) -> Assignment:  # noqa: ARG002
        """Return the first one."""
        return one

    def combine_independent(self, one: Assignment, other: Assignment) -> Assignment:
        """Return the choices of both."""
        return {**one, **other}


class DynamicProgram(Generic[T]):
    """Evaluates the space of a decoder with an algebra, in at most `steps` steps if given."""

    def __init__(
        self, decoder: Decoder, algebra: EvaluationAlgebra[T], steps: int | None = None
    ) -> None:
        self._decoder = decoder
        self._algebra = algebra
        self._steps = steps
        axes = [axis for axis in decoder.axes.values() if decoder.static_usage(axis) is not False]
        self._at_rank = [[axis for axis in axes if axis.rank == rank] for rank in range(3)]
        undecided = [axis for axis in axes if self._depends_on_finer_axes(axis)]
        self._bits = {axis.name: 1 << index for index, axis in enumerate(undecided)}
        self._named_in_conditions = {name for axis in axes for name in axis.when}
        self._outer_axes = [self._find_outer_axes(rank) for rank in range(3)]
        self._memo: dict[object, _Table[T]] = {}

    def _depends_on_finer_axes(self, axis: Axis) -> bool:
        """Return whether choices of a finer granularity decide if blocks use an axis."""
        names = axis.dependencies() - axis.when.keys() - {"depth", "depths"}
        deciding = (self._decoder.axes[name] for name in names & self._decoder.axes.keys())
        undecided = self._decoder.static_usage(axis) is None
        return undecided and any(other.rank > axis.rank for other in deciding)

    def _find_outer_axes(self, rank: int) -> list[Axis]:
        """Return the coarser axes that the contents of a scope of this rank depend on."""
        axes = [axis for axes in self._at_rank[:rank] for axis in axes]
        unused = {"depth", "depths"} - self._named_in_conditions if rank == 2 else set()
        return [axis for axis in axes if axis.name not in unused]

    def solve(self) -> T | None:
        """Return the value of the whole space, or None if it is empty.

        Raises:
            StepLimitError: The computation takes more than the allowed steps.
        """
        return self._table((), {}).get(0)

    def _table(self, scope: Scope, chosen: Assignment) -> _Table[T]:
        """Return the values of a scope's contents, given the choices outside of it."""
        key = (len(scope), self._algebra.memo_key(scope), self._dependencies(scope, chosen))
        if key not in self._memo:
            self._memo[key] = self._fill(scope, chosen)
        return self._memo[key]

    def _dependencies(self, scope: Scope, chosen: Assignment) -> tuple[Any, ...]:
        """Return the outer choices that the contents of a scope depend on."""
        levels: list[Any] = []
        for axis in self._outer_axes[len(scope)]:
            level = chosen.get((axis.name, scope[: axis.rank]))
            by_stage = axis.has_stage_values and axis.name not in self._named_in_conditions
            levels.append(level and (level.value[scope[0]] if by_stage else level.label))
        return tuple(levels)

    def _fill(self, scope: Scope, chosen: Assignment) -> _Table[T]:
        axes = self._at_rank[len(scope)]
        bits = sum(self._bits.get(axis.name, 0) for axis in axes)
        table: _Table[T] = {}
        for assigned, active in self._assign(axes, scope, chosen):
            for used, value in self._evaluate_contents(scope, assigned).items():
                if used & bits == active:
                    self._add(table, used & ~bits, value)
        return table

    def _assign(
        self, axes: Sequence[Axis], scope: Scope, chosen: Assignment
    ) -> Iterator[tuple[Assignment, int]]:
        """Yield every assignment of axes at a scope, with the bits of its active axes.

        An axis that depends on finer axes is assigned both as active and as inactive.
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
                for assigned, active in self._assign(rest, scope, extended):
                    yield assigned, active | bit
        if bit or not may_be_active:
            yield from self._assign(rest, scope, chosen)

    def _may_be_active(self, axis: Axis, scope: Scope, chosen: Assignment) -> bool:
        if not self._decoder.condition_holds(axis, scope, chosen):
            return False
        if axis.name in self._bits or self._decoder.static_usage(axis):
            return True
        blocks = [(*scope, 0)[:2]] if scope else [(stage, 0) for stage in range(NUM_STAGES)]
        return any(self._decoder.uses(axis, block, chosen) for block in blocks)

    def _evaluate_contents(self, scope: Scope, chosen: Assignment) -> _Table[T]:
        """Return the values of a scope after all of its choices are made."""
        value = self._algebra.evaluate(scope, chosen)
        if value is None:
            return {}
        if len(scope) == 2:
            used = self._used(scope, chosen)
            return {} if used is None else {used: value}
        table = {0: value}
        for index in range(self._decoder.depth(scope[0], chosen) if scope else NUM_STAGES):
            table = self._product(table, self._table((*scope, index), chosen))
        return table

    def _used(self, scope: Scope, chosen: Assignment) -> int | None:
        """Return the bits of the coarse axes that a block uses, or None if one is inactive."""
        used = 0
        for name, bit in self._bits.items():
            axis = self._decoder.axes[name]
            if self._decoder.uses(axis, scope, chosen):
                if self._decoder.level(name, scope, chosen) is not None:
                    used |= bit
                elif self._decoder.condition_holds(axis, scope, chosen):
                    return None
        return used

    def _product(self, one: _Table[T], other: _Table[T]) -> _Table[T]:
        table: _Table[T] = {}
        for a, left in one.items():
            for b, right in other.items():
                self._step()
                self._add(table, a | b, self._algebra.combine_independent(left, right))
        return table

    def _add(self, table: _Table[T], used: int, value: T) -> None:
        if used in table:
            value = self._algebra.combine_alternatives(table[used], value)
        table[used] = value

    def _step(self) -> None:
        if self._steps is not None:
            self._steps -= 1
            if self._steps < 0:
                raise StepLimitError


_STEPS = 40_000


class _Count(EvaluationAlgebra[tuple[int, int]]):
    """Counts combinations: buildable ones and all."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._interchangeable = _interchangeable(decoder)

    def memo_key(self, scope: Scope) -> object:
        return scope[:1]

    def levels(self, axis: Axis, scope: Scope, chosen: Assignment) -> Sequence[Level]:  # noqa: ARG002
        return axis.levels[:1] if axis.name in self._interchangeable else axis.levels

    def evaluate(self, scope: Scope, chosen: Assignment) -> tuple[int, int]:
        count = math.prod(n for name, n in self._interchangeable.items() if (name, scope) in chosen)
        try:
            if len(scope) == 2:
                self._decoder.block(scope, chosen)
        except ValueError:
            return 0, count
        return count, count

    def combine_alternatives(self, one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return one[0] + other[0], one[1] + other[1]

    def combine_independent(self, one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return one[0] * other[0], one[1] * other[1]


def _interchangeable(decoder: Decoder) -> dict[str, int]:
    """Return the number of levels of axes that affect neither feasibility nor activity.

    One of their levels is counted in place of all.
    """
    names = {"stem_stride", "activation", "head_width"}
    narrowest = min(_values(decoder, "width", decoder.base.widths))
    if narrowest >= 2:
        names.add("pat_sp")
    if narrowest * min(_values(decoder, "mlp_ratio", [decoder.base.mlp_ratio])) >= 1:
        names.add("mlp_ratio")
    named = {name for axis in decoder.axes.values() for name in axis.when}
    return {n: len(decoder.axes[n].levels) for n in decoder.axes.keys() & names - named}


def _values(decoder: Decoder, name: str, base: Sequence[Any]) -> Iterator[Any]:
    """Yield the base's values of a setting and those of its axis."""
    yield from base
    for level in decoder.axes[name].levels if name in decoder.axes else ():
        yield from level.value if decoder.axes[name].has_stage_values else [level.value]


def count_points(decoder: Decoder, steps: int = _STEPS) -> tuple[int, int] | None:
    """Return the buildable and all combinations, or None if counting takes too many steps."""
    try:
        return DynamicProgram(decoder, _Count(decoder), steps).solve() or (0, 0)
    except StepLimitError:
        return None
