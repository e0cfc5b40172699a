"""Axes: settings of a plan that a space varies, and the order in which they are chosen."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from partialnas.space.axes.levels import AXES, GRANULARITIES, AxisGranularity, Label, parse_value


class Level(NamedTuple):
    """One value of an axis, with its label."""

    label: Label
    value: Any


@dataclass(frozen=True)
class Axis:
    """A setting that varies.

    Attributes:
        name: one of `AXES`.
        per: whether there is one level per network, per stage or per block.
        levels: values of the axis, at least one.
        when: labels that other axes must have for this axis to be active; where it is inactive, the
            base's value applies.
    """

    name: str
    per: AxisGranularity
    levels: tuple[Level, ...]
    when: Mapping[str, tuple[Label, ...]] = field(default_factory=dict)

    @cached_property
    def rank(self) -> int:
        """Length of the axis's scopes: 0 per network, 1 per stage, 2 per block."""
        return GRANULARITIES.index(self.per)

    @cached_property
    def part_number(self) -> int:
        """Part that a ratio or an operation belongs to, counted from 1."""
        return int(self.name.rpartition("_")[2]) if self.name[-1].isdigit() else 1

    @cached_property
    def can_be_unused(self) -> bool:
        """Whether a block may not use the axis, which is then inactive there."""
        return self.name in ("attention", "heads", "ratio") or self.name[-1].isdigit()

    @cached_property
    def has_stage_values(self) -> bool:
        """Whether its values are tuples of four, one item per stage."""
        return self.per == "network" and self.name in ("width", "depths", "attention", "pat_sp")

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """Labels of the levels."""
        return tuple(level.label for level in self.levels)

    def find_level(self, raw: object) -> Level | None:
        """Return the level with this label or value, or None."""
        for level in self.levels:
            if level.label == raw and isinstance(level.label, bool) == isinstance(raw, bool):
                return level
        try:
            value = parse_value(self.name, self.per, raw)
        except ValueError:
            return None
        return next((level for level in self.levels if level.value == value), None)

    def dependencies(self) -> set[str]:
        """Return the names of the axes that determine where this axis is active."""
        names = set(self.when)
        if self.can_be_unused or self.per == "block":
            names |= {"depth", "depths"}
        if self.can_be_unused:
            names.add("parts")
        if self.name in ("attention", "heads"):
            names |= {"operations", *(name for name in AXES if name.startswith("operation_"))}
        if self.name == "heads":
            names.add("attention")
        return names


def evaluation_order(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """Return the axes, each after the axes that determine where it is active.

    Raises:
        ValueError: Conditions are circular; the message names the axes.
    """
    waiting = {axis.name: axis for axis in sorted(axes, key=lambda a: AXES.index(a.name))}
    ordered: list[Axis] = []
    while waiting:
        free = (axis for axis in waiting.values() if not axis.dependencies() & waiting.keys())
        axis = next(free, None)
        if axis is None:
            cycle = ", ".join(_find_cycle(waiting))
            raise ValueError(f"circular conditions: {cycle} depend on each other")
        ordered.append(waiting.pop(axis.name))
    return tuple(ordered)


def _find_cycle(waiting: Mapping[str, Axis]) -> list[str]:
    """Return the axes of one cycle among axes that all depend on others."""
    path = [next(iter(waiting))]
    while True:
        after = min(waiting[path[-1]].dependencies() & waiting.keys(), key=AXES.index)
        if after in path:
            return path[path.index(after) :]
        path.append(after)
