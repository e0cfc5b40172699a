"""Search for the choices of a space that build a given architecture."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, takewhile
from typing import Any

from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.arch.operation_registry import BLOCK_ATTENTION, OPERATIONS
from partialnas.space.arch.parts import RealizedPart
from partialnas.space.arch.plan import NETWORK_SETTINGS, NUM_STAGES
from partialnas.space.arch.ratio import LearnedRatio, start_ratio
from partialnas.space.axes.axis import Axis, Level
from partialnas.space.axes.decoder import Assignment, Decoder, Scope
from partialnas.space.search_space.dynamic_programming import DynamicProgram, WitnessAlgebra

_MIXING = ("parts", "operation", "attention", "ratio")


def locate(decoder: Decoder, architecture: Architecture) -> Assignment | None:
    """Return choices that build this network, or None; constraints are ignored."""
    if len(architecture.stages) != NUM_STAGES:
        return None
    return DynamicProgram(decoder, _Match(decoder, architecture)).solve()


class _Match(WitnessAlgebra):
    """Admits choices that build the stages and blocks of an architecture."""

    def __init__(self, decoder: Decoder, target: Architecture) -> None:
        self._decoder = decoder
        self._target = target
        ranked = sorted(decoder.axes.values(), key=lambda axis: axis.rank)
        names = [axis.name for axis in ranked]
        self._later = {name: set(names[index + 1 :]) for index, name in enumerate(names)}

    def levels(self, axis: Axis, scope: Scope, chosen: Assignment) -> Sequence[Level]:
        levels = [level for level in axis.levels if self._can_occur(axis, scope, level)]
        if not axis.name.startswith(_MIXING):
            return levels
        key = axis.name, scope
        return [v for v in levels if self._is_compatible(axis, scope, {**chosen, key: v})]

    def admits(self, scope: Scope, chosen: Assignment) -> bool:
        return (self._is_network, self._is_stage, self._is_block)[len(scope)](scope, chosen)

    def _block(self, scope: Scope) -> RealizedBlock:
        stage, block = scope
        return self._target.realized[stage][block]

    def _is_network(self, _scope: Scope, chosen: Assignment) -> bool:
        return all(
            self._decoder.setting(name, (0,), chosen) == getattr(self._target, name)
            for name in NETWORK_SETTINGS
        )

    def _is_stage(self, scope: Scope, chosen: Assignment) -> bool:
        width = self._decoder.setting("width", scope, chosen)
        depth = self._decoder.depth(scope[0], chosen)
        return (width, depth) == (self._target.widths[scope[0]], self._target.depths[scope[0]])

    def _is_block(self, scope: Scope, chosen: Assignment) -> bool:
        width = self._target.widths[scope[0]]
        try:
            return self._decoder.block(scope, chosen).realize(width) == self._block(scope)
        except ValueError:
            return False

    def _can_occur(self, axis: Axis, scope: Scope, level: Level) -> bool:
        """Return whether a level can occur in the architecture, to prune the search."""
        if axis.name in NETWORK_SETTINGS:
            return bool(level.value == getattr(self._target, axis.name))
        for (stage, _), block in self._blocks(scope):
            value = level.value[stage] if axis.has_stage_values else level.value
            if not self._fits(axis.name, value, stage, block):
                return False
        return True

    def _blocks(self, scope: Scope) -> Iterator[tuple[Scope, RealizedBlock]]:
        """Yield the architecture's blocks within a scope."""
        for stage, blocks in enumerate(self._target.realized):
            for index, block in enumerate(blocks):
                if (stage, index)[: len(scope)] == scope:
                    yield (stage, index), block

    def _fits(self, name: str, value: Any, stage: int, block: RealizedBlock) -> bool:
        if name in ("depth", "depths"):
            return bool(value == self._target.depths[stage])
        if name == "mlp_ratio":
            return int(block.width * value) == block.hidden
        if name == "heads":
            return all(part.heads in (0, value) for part in block.parts)
        if name == "parts":
            return bool(value >= len(block.parts))
        if name in ("width", "pat_sp"):
            return bool(value == getattr(block, name))
        return True

    def _is_compatible(self, axis: Axis, scope: Scope, chosen: Assignment) -> bool:
        """Return whether the choices up to `axis` can still build the architecture's mixers.

        This matches the parts of a block one by one instead of searching through all combinations
        of their operations and shares.
        """
        later = self._later[axis.name]
        try:
            return all(
                _may_follow(*self._operations(later, block_scope, chosen), block.parts)
                and _may_end(self._ends(later, block_scope, chosen), block.parts)
                for block_scope, block in self._blocks(scope)
            )
        except ValueError:
            return False

    def _operations(
        self, later: set[str], block_scope: Scope, chosen: Assignment
    ) -> tuple[list[str], bool]:
        """Return the operations decided so far, and whether these are all."""
        named = self._decoder.operations(block_scope, chosen)
        resolved = self._decoder.resolved_operations(block_scope, chosen)
        for index in range(self._decoder.setting("parts", block_scope, chosen)):
            axis = f"operation_{index + 1}"
            deciding = {"parts", axis if axis in self._decoder.axes else "operations"}
            if index < len(named) and named[index] == BLOCK_ATTENTION:
                deciding.add("attention")
            if deciding & later:
                return list(resolved[:index]), False
        return list(resolved), True

    def _ends(self, later: set[str], block_scope: Scope, chosen: Assignment) -> list[int]:
        """Return the channels at which the parts decided so far end.

        Empty if they are not fixed yet, as with self-attention.
        """
        stage, block = block_scope
        target = self._target.realized[stage][block]
        if {"parts", "ratio"} & later or target.double_residual or target.learning:
            return []
        parts = self._decoder.setting("parts", block_scope, chosen)
        shares = self._decoder.shares(block_scope, chosen, parts)[: parts - 1]
        if any(isinstance(share, LearnedRatio) for share in shares):
            return []
        decided = takewhile(lambda n: f"ratio_{n}" not in later, range(1, len(shares) + 1))
        ends = accumulate(map(start_ratio, shares[: len(list(decided))]))
        return [int(end * target.width) for end in ends]


def _may_follow(operations: list[str], everything: bool, parts: Sequence[RealizedPart]) -> bool:
    """Return whether these operations, the first ones or all, can be those of the parts."""
    merged: list[str] = []
    for operation, run in groupby(operations):
        merged += list(run) if OPERATIONS[operation].has_weights else [operation]
    wanted = [part.op for part in parts]
    return merged == (wanted if everything else wanted[: len(merged)])


def _may_end(ends: list[int], parts: Sequence[RealizedPart]) -> bool:
    """Return whether parts can end at these channels: at an end, or inside a merged part."""
    possible: set[int] = set()
    for part, stop in zip(parts, accumulate(part.channels for part in parts), strict=True):
        first = stop if OPERATIONS[part.op].has_weights else stop - part.channels + 1
        possible |= {stop, *range(first, stop)}
    return possible.issuperset(ends)
