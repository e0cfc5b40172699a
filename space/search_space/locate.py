"""Locating an architecture in a space: which choices, if any, build exactly this network."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, takewhile
from typing import Any

from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.arch.operations import BLOCK_ATTENTION, OPERATIONS
from partialnas.space.arch.parts import RealizedPart
from partialnas.space.arch.plan import NUM_STAGES
from partialnas.space.arch.ratio import LearnedRatio, start_ratio
from partialnas.space.axes.axis import Axis, Level
from partialnas.space.axes.decoder import Assignment, Decoder, Scope
from partialnas.space.search_space.dynamic_programming import DynamicProgram, WitnessAlgebra

_MIXING = ("parts", "operation", "attention", "ratio")


def locate(scheme: Decoder, architecture: Architecture) -> Assignment | None:
    """The choices that build this network, or None; constraints are not looked at."""
    if len(architecture.stages) != NUM_STAGES:
        return None
    return DynamicProgram(scheme, _Match(scheme, architecture)).solve()


class _Match(WitnessAlgebra):
    """Admits what builds the stages and blocks of an architecture."""

    def __init__(self, scheme: Decoder, target: Architecture) -> None:
        self._scheme = scheme
        self._target = target
        ranked = sorted(scheme.axes.values(), key=lambda axis: axis.rank)
        names = [axis.name for axis in ranked]
        self._later = {name: set(names[index + 1 :]) for index, name in enumerate(names)}

    def levels(self, axis: Axis, scope: Scope, chosen: Assignment) -> Sequence[Level]:
        fitting = (level for level in axis.levels if self._can_occur(axis, scope, level))
        if not axis.name.startswith(_MIXING):
            return list(fitting)
        return [
            level
            for level in fitting
            if self._may_lead_there(axis, scope, {**chosen, (axis.name, scope): level})
        ]

    def admits(self, scope: Scope, chosen: Assignment) -> bool:
        return (self._is_network, self._is_stage, self._is_block)[len(scope)](scope, chosen)

    def _block(self, scope: Scope) -> RealizedBlock:
        stage, block = scope
        return self._target.realized[stage][block]

    def _is_network(self, _scope: Scope, chosen: Assignment) -> bool:
        return all(
            self._scheme.setting(name, (0,), chosen) == getattr(self._target, name)
            for name in ("stem_stride", "activation", "head_width")
        )

    def _is_stage(self, scope: Scope, chosen: Assignment) -> bool:
        width = self._scheme.setting("width", scope, chosen)
        depth = self._scheme.depth(scope[0], chosen)
        return bool(
            width == self._target.widths[scope[0]] and depth == self._target.depths[scope[0]]
        )

    def _is_block(self, scope: Scope, chosen: Assignment) -> bool:
        width = self._target.widths[scope[0]]
        try:
            return self._scheme.block(scope, chosen).realize(width) == self._block(scope)
        except ValueError:
            return False

    def _can_occur(self, axis: Axis, scope: Scope, level: Level) -> bool:
        """Whether a level can occur in the architecture; spares most of the search."""
        if axis.name in ("stem_stride", "activation", "head_width"):
            return bool(level.value == getattr(self._target, axis.name))
        return all(
            self._fits(
                axis.name,
                level.value[place[0]] if axis.has_stage_values else level.value,
                place[0],
                block,
            )
            for place, block in self._blocks(scope)
        )

    def _blocks(self, scope: Scope) -> Iterator[tuple[Scope, RealizedBlock]]:
        """The architecture's blocks within a scope."""
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

    def _may_lead_there(self, axis: Axis, scope: Scope, chosen: Assignment) -> bool:
        """Whether what is decided once `axis` is can still build the architecture's mixers.

        Without this, blocks of many parts would take a search through all their operations and
        shares; with it, each part is matched in turn.
        """
        later = self._later[axis.name]
        try:
            return all(
                _may_follow(*self._operations(later, place, chosen), block.parts)
                and _may_end(self._ends(later, place, chosen), block.parts)
                for place, block in self._blocks(scope)
            )
        except ValueError:
            return False

    def _operations(
        self, later: set[str], place: Scope, chosen: Assignment
    ) -> tuple[list[str], bool]:
        """The operations decided so far, up to the first that is not, and whether that is all."""
        named = self._scheme.operations(place, chosen)
        resolved = self._scheme.resolved_operations(place, chosen)
        for index in range(self._scheme.setting("parts", place, chosen)):
            own = f"operation_{index + 1}"
            deciding = {"parts", own if own in self._scheme.axes else "operations"}
            if index < len(named) and named[index] == BLOCK_ATTENTION:
                deciding.add("attention")
            if deciding & later:
                return list(resolved[:index]), False
        return list(resolved), True

    def _ends(self, later: set[str], place: Scope, chosen: Assignment) -> list[int]:
        """The channels at which the parts decided so far end; self-attention may move them."""
        stage, block = place
        target = self._target.realized[stage][block]
        if {"parts", "ratio"} & later or target.double_residual or target.learning:
            return []
        parts = self._scheme.setting("parts", place, chosen)
        shares = self._scheme.shares(place, chosen, parts)[: parts - 1]
        if any(isinstance(share, LearnedRatio) for share in shares):
            return []
        decided = takewhile(lambda n: f"ratio_{n}" not in later, range(1, len(shares) + 1))
        ends = accumulate(map(start_ratio, shares[: len(list(decided))]))
        return [int(end * target.width) for end in ends]


def _may_follow(operations: list[str], everything: bool, parts: Sequence[RealizedPart]) -> bool:
    """Whether operations in this order (the first ones, or all) can be those of the parts."""
    merged: list[str] = []
    for operation, run in groupby(operations):
        merged += list(run) if OPERATIONS[operation].has_weights else [operation]
    wanted = [part.op for part in parts]
    return merged == (wanted if everything else wanted[: len(merged)])


def _may_end(ends: list[int], parts: Sequence[RealizedPart]) -> bool:
    """Whether parts can end at these channels: where one ends, or inside a merged one."""
    last = list(accumulate(part.channels for part in parts))
    spans = list(zip(parts, last, strict=True))
    return all(
        any(
            end == stop
            or (not OPERATIONS[part.op].has_weights and stop - part.channels < end < stop)
            for part, stop in spans
        )
        for end in ends
    )
