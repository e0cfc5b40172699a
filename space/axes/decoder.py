"""Decoder of chosen levels into the blocks of an architecture."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.operation_registry import BLOCK_ATTENTION, OPERATIONS, block_operation
from partialnas.space.arch.plan import NETWORK_SETTINGS, NUM_STAGES, Plan, Ratios, build_block
from partialnas.space.arch.ratio import LearnedRatio, fill_start_ratios, learned_ratio_conflict
from partialnas.space.axes.axis import Axis, Level
from partialnas.space.axes.levels import as_tuple
from partialnas.space.errors import UserError

Scope = tuple[int, ...]
"""Scope of a level: () for the network, (stage,) or (stage, block), counted from 0."""

Assignment = Mapping[tuple[str, Scope], Level]
"""Chosen levels by axis and scope."""


class Decoder:
    """Decodes chosen levels; settings without a chosen level have the base's value."""

    def __init__(self, base: Plan, axes: tuple[Axis, ...]) -> None:
        self.base = base
        self.axes = {axis.name: axis for axis in axes}
        self._base = [_base_settings(base, stage) for stage in range(NUM_STAGES)]
        self._cached_build = lru_cache(maxsize=4096)(_build)
        self._usage = {axis.name: self._static_usage(axis) for axis in axes}

    @property
    def may_conflict(self) -> bool:
        """Whether learned ratios may be inconsistent or have a budget that cannot be reached."""
        axes = [axis for axis in self.axes.values() if axis.name.startswith("ratio")]
        levels = [as_tuple(level.value) for axis in axes for level in axis.levels]
        ratios = [r for r in chain(self.base.ratio, *levels) if isinstance(r, LearnedRatio)]
        budgeted = any(ratio.budget not in (None, "static") for ratio in ratios)
        return budgeted or learned_ratio_conflict(ratios) is not None

    def level(self, name: str, scope: Scope, chosen: Assignment) -> Level | None:
        """Return the level of an axis at a scope, or None if there is none."""
        axis = self.axes.get(name)
        return None if axis is None else chosen.get((name, scope[: axis.rank]))

    def setting(self, name: str, scope: Scope, chosen: Assignment) -> Any:
        """Return the value of a setting in a stage or block: the axis's, or else the base's."""
        level = self.level(name, scope, chosen)
        if level is None:
            return self._base[scope[0]][name]
        return level.value[scope[0]] if self.axes[name].has_stage_values else level.value

    def depth(self, stage: int, chosen: Assignment) -> int:
        """Return the number of blocks of a stage."""
        name = "depths" if "depths" in self.axes else "depth"
        return int(self.setting(name, (stage,), chosen))

    def max_blocks(self, stage: int) -> int:
        """Return the largest possible number of blocks of a stage."""
        depths = [self._base[stage]["depth"]]
        for name in self.axes.keys() & {"depth", "depths"}:
            axis = self.axes[name]
            depths += [v.value[stage] if axis.has_stage_values else v.value for v in axis.levels]
        return int(max(depths))

    def blocks(self, scope: Scope, chosen: Assignment) -> Iterator[Scope]:
        """Yield the blocks within a scope."""
        if len(scope) == 2:
            yield scope
            return
        for stage in scope or range(NUM_STAGES):
            for block in range(self.depth(stage, chosen)):
                yield stage, block

    def operations(self, scope: Scope, chosen: Assignment) -> tuple[str, ...]:
        """Return the operations of a block's parts; fewer than the parts if too few are stated."""
        stated = self.setting("operations", scope, chosen)
        operations: list[str] = []
        for index in range(self.setting("parts", scope, chosen)):
            level = self.level(f"operation_{index + 1}", scope, chosen)
            if level is None and index >= len(stated):
                break
            operations.append(stated[index] if level is None else level.value)
        return tuple(operations)

    def resolved_operations(self, scope: Scope, chosen: Assignment) -> tuple[str, ...]:
        """Return `operations` with `attention` replaced by the block's attention."""
        kind = self.setting("attention", scope, chosen)
        return tuple(block_operation(name, kind) for name in self.operations(scope, chosen))

    def uses(self, axis: Axis, scope: Scope, chosen: Assignment) -> bool:
        """Return whether a block uses an axis, given the other levels chosen for it."""
        if axis.name == "attention":
            return BLOCK_ATTENTION in self.operations(scope, chosen)
        if axis.name == "heads":
            operations = self.resolved_operations(scope, chosen)
            return any(OPERATIONS[operation].has_heads for operation in operations)
        if axis.can_be_unused:
            parts = self.setting("parts", scope, chosen)
            return bool(parts >= axis.part_number + axis.name.startswith("ratio"))
        return True

    def affects_activity(self, axis: Axis) -> bool:
        """Return whether the levels of an axis determine which other choices are active."""
        kind = axis.name.partition("_")[0]
        if kind in ("parts", "depth", "depths", "attention", "operation", "operations"):
            return True
        return any(axis.name in other.when for other in self.axes.values())

    def static_usage(self, axis: Axis) -> bool | None:
        """Return whether all or no blocks use an axis, or None if that depends on choices."""
        return self._usage[axis.name]

    def _static_usage(self, axis: Axis) -> bool | None:
        if not axis.can_be_unused:
            return True
        if axis.name in ("attention", "heads"):
            return None
        number = axis.part_number + axis.name.startswith("ratio")
        axis_of_parts = self.axes.get("parts")
        parts = [level.value for level in axis_of_parts.levels] if axis_of_parts else []
        if axis_of_parts is None or axis_of_parts.when:
            parts.append(self.base.parts)
        return min(parts) >= number if (min(parts) >= number) == (max(parts) >= number) else None

    def condition_holds(self, axis: Axis, scope: Scope, chosen: Assignment) -> bool:
        """Return whether the axes named by `when` have the required levels."""
        for name, labels in axis.when.items():
            level = self.level(name, scope, chosen)
            if level is None or level.label not in labels:
                return False
        return True

    def block(self, scope: Scope, chosen: Assignment) -> Block:
        """Return the block with the chosen levels.

        Raises:
            ValueError: The block cannot be built.
        """
        names = ("parts", "attention", "heads", "mlp_ratio", "pat_sp")
        settings = {name: self.setting(name, scope, chosen) for name in names}
        settings["operations"] = self.operations(scope, chosen)
        settings["ratio"] = self.shares(scope, chosen, settings["parts"])
        built = self._cached_build(self.setting("width", scope, chosen), tuple(settings.items()))
        if isinstance(built, str):
            raise ValueError(built)
        return built

    def shares(self, scope: Scope, chosen: Assignment, parts: int) -> Ratios:
        """Return the stated shares of a block's parts, from the first part.

        Raises:
            ValueError: A part's share is stated but that of the part before it is not.
        """
        base = self._base[scope[0]]["ratio"]
        level = self.level("ratio", scope, chosen)
        first = () if level is None else level.value
        shares = [*first, *base[len(first) :]]
        for number in range(2, parts):
            level = self.level(f"ratio_{number}", scope, chosen)
            if level is None:
                continue
            if len(shares) < number - 1:
                raise ValueError(f"ratio_{number} is stated but ratio_{len(shares) + 1} is not")
            shares[number - 1 : number] = [level.value]
        return fill_start_ratios(shares, base)

    def invalid_blocks(self, chosen: Assignment) -> Iterator[tuple[Scope, str]]:
        """Yield the blocks that cannot be built or conflict with previous blocks, and why."""
        before: LearnedRatio | None = None
        for scope in self.blocks((), chosen):
            try:
                block = self.block(scope, chosen)
            except ValueError as error:
                yield scope, str(error)
                continue
            if block.learned is not None:
                before = before or block.learned
                if conflict := learned_ratio_conflict((before, block.learned)):
                    yield scope, conflict

    def architecture(self, chosen: Assignment) -> Architecture:
        """Return the architecture with the chosen levels.

        Raises:
            UserError: A block cannot be built; the message names its stage and block from 1.
        """
        stages = tuple(self._stage(stage, chosen) for stage in range(NUM_STAGES))
        network = {name: self.setting(name, (0,), chosen) for name in NETWORK_SETTINGS}
        architecture = Architecture.model_construct(stages=stages, **network)
        try:
            architecture.check_learned()
        except ValueError as error:
            raise UserError(str(error)) from None
        return architecture

    def _stage(self, stage: int, chosen: Assignment) -> Stage:
        blocks: list[Block] = []
        for scope in self.blocks((stage,), chosen):
            try:
                blocks.append(self.block(scope, chosen))
            except ValueError as error:
                where = f"stage {stage + 1}, block {scope[1] + 1}"
                raise UserError(f"{where}: {error}") from None
        width = self.setting("width", (stage,), chosen)
        return Stage.model_construct(width=width, blocks=tuple(blocks))

    def base_level(self, axis: Axis, scope: Scope) -> Level | None:
        """Return the level with the base's value, or None if the axis has none."""
        stages = scope[:1] or range(NUM_STAGES)
        for level in axis.levels:
            values = level.value if axis.has_stage_values else [level.value] * NUM_STAGES
            if all(self._is_base(axis.name, stage, values[stage]) for stage in stages):
                return level
        return None

    def _is_base(self, name: str, stage: int, value: Any) -> bool:
        settings = self._base[stage]
        kind, _, number = name.rpartition("_")
        if kind in ("ratio", "operation"):
            stated = settings["ratio" if kind == "ratio" else "operations"]
            return bool(stated[int(number) - 1 : int(number)] == (value,))
        if name in ("ratio", "operations"):
            return bool(settings[name][: len(value)] == value)
        return bool(settings[name] == value)


def _base_settings(base: Plan, stage: int) -> dict[str, Any]:
    network = {name: getattr(base, name) for name in NETWORK_SETTINGS}
    sizes = {"width": base.widths[stage]} | dict.fromkeys(("depth", "depths"), base.depths[stage])
    return {**network, **base.settings(stage), **sizes}


def _build(width: int, settings: tuple[tuple[str, Any], ...]) -> Block | str:
    """Return the block, or the reason why it cannot be built at this width."""
    try:
        return build_block(dict(settings), width)
    except ValueError as error:
        return str(error)
