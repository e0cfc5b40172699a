"""Specifications of spaces: what a study says under `base:` and `space:`, as values."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_serializer

from partialnas.space.axes import Axis, Level
from partialnas.space.constraints import Constraints
from partialnas.space.errors import UserError
from partialnas.space.levels import Per, label, parse_value, plain
from partialnas.space.plan import Plan
from partialnas.space.presets import preset_plan
from partialnas.space.reading import read_axes
from partialnas.space.values import Value


def _parse_base(raw: object) -> object:
    if not isinstance(raw, Mapping) or "preset" not in raw:
        return raw
    changes = {key: value for key, value in raw.items() if key != "preset"}
    try:
        plan = preset_plan(str(raw["preset"]))
    except UserError as error:
        raise ValueError(str(error)) from None
    settings = {key: getattr(plan, key) for key in Plan.model_fields}
    return {**settings, "name": "" if changes else plan.name, **changes}


Base = Annotated[Plan, BeforeValidator(_parse_base)]
"""The plan that a space starts from: `{preset: partialnet_t0, width: 16}`, or a plan's settings."""


class AxisSpec(Value):
    """What a study says of one axis, every value in its one canonical form.

    Attributes:
        values: the levels, as a list or by name.
        per: the granularity.
        when: labels of other axes, of the same or a coarser granularity, where it is active.
    """

    values: tuple[Any, ...] | dict[str, Any]
    per: Per = "network"
    when: dict[str, tuple[Any, ...]] = Field(default_factory=dict)

    @classmethod
    def of(cls, axis: Axis, *, named: bool) -> "AxisSpec":
        """The specification of an axis, its levels by name or as a list."""
        values = {str(level.label): plain(axis.name, level.value) for level in axis.levels}
        return cls(
            values=values if named else tuple(values.values()), per=axis.per, when=dict(axis.when)
        )

    def axis(self, name: str) -> Axis:
        """The axis of this name."""
        if isinstance(self.values, dict):
            items = self.values.items()
            levels = [Level(key, parse_value(name, self.per, raw)) for key, raw in items]
        else:
            values = [parse_value(name, self.per, raw) for raw in self.values]
            levels = [Level(label(name, value), value) for value in values]
        return Axis(name, self.per, tuple(levels), self.when)

    @model_serializer(mode="plain")
    def _shortest(self) -> Any:
        values = self.values if isinstance(self.values, dict) else list(self.values)
        if self.per == "network" and not self.when:
            return values
        when = {name: list(labels) for name, labels in self.when.items()}
        return {"values": values, "per": self.per} | ({"when": when} if when else {})


class SpaceSpec(Value):
    """What a study says of its space: axes by name, and constraints.

    An axis is written as a list of values (per network), as named levels
    (`{none: {}, channel: {channel: stages 1-3}}`), or as `{values: ..., per: stage, when: ...}`
    with either.

    Attributes:
        axes: what varies: a setting of the base, with its levels.
        constraints: bounds on what a network costs; the others are never proposed.
    """

    axes: dict[str, AxisSpec] = Field(default_factory=dict)
    constraints: Constraints = Constraints()

    @field_validator("axes", mode="before")
    @classmethod
    def _every_mistake_at_once(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            raise ValueError(f"expected axes by name, such as width: [8, 16], got {raw!r}")
        named, axes = read_axes(
            {n: e.model_dump() if isinstance(e, AxisSpec) else e for n, e in raw.items()}
        )
        return {name: AxisSpec.of(axis, named=name in named) for name, axis in axes.items()}
