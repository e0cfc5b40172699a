"""Specification of a space: the `base` and `space` sections of a study."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_serializer
from pydantic_core import InitErrorDetails, PydanticCustomError

from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import preset_plan
from partialnas.space.axes import levels as axis_values
from partialnas.space.axes.axis import Axis, Level, evaluation_order
from partialnas.space.axes.levels import AxisGranularity, Label
from partialnas.space.cost.constraints import Constraints
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest
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
"""Base plan of a space: `{preset: partialnet_t0, width: 16}`, or a plan's settings."""


class AxisSpec(Value):
    """Specification of one axis, with values in canonical form.

    Attributes:
        values: levels, as a list or by name.
        per: granularity.
        when: labels that other axes, of the same or a coarser granularity, must have for the axis
            to be active.
    """

    values: tuple[Any, ...] | dict[str, Any]
    per: AxisGranularity = "network"
    when: dict[str, tuple[Any, ...]] = Field(default_factory=dict)

    @classmethod
    def from_axis(cls, axis: Axis, *, named: bool) -> "AxisSpec":
        """Return the specification of an axis, with levels by name or as a list."""
        values = {str(v.label): axis_values.dump_value(axis.name, v.value) for v in axis.levels}
        stated = values if named else tuple(values.values())
        return cls(values=stated, per=axis.per, when=dict(axis.when))

    def to_axis(self, name: str) -> Axis:
        """Return the axis with this name."""
        named = isinstance(self.values, dict)
        items = self.values.items() if isinstance(self.values, dict) else enumerate(self.values)
        levels = (_level(name, self.per, key if named else None, raw) for key, raw in items)
        return Axis(name, self.per, tuple(levels), self.when)

    @model_serializer(mode="plain")
    def _shortest(self) -> Any:
        values = self.values if isinstance(self.values, dict) else list(self.values)
        if self.per == "network" and not self.when:
            return values
        when = {name: list(labels) for name, labels in self.when.items()}
        return {"values": values, "per": self.per} | ({"when": when} if when else {})


class SpaceSpec(Value):
    """Specification of a space: axes by name, and constraints.

    An axis is written as a list of values (per network), as named levels
    (`{none: {}, channel: {channel: stages 1-3}}`), or as `{values: ..., per: stage, when: ...}`
    with either.

    Attributes:
        axes: settings of the base that vary, with their levels.
        constraints: bounds on the cost of networks; networks outside them are never proposed.
    """

    axes: dict[str, AxisSpec] = Field(default_factory=dict)
    constraints: Constraints = Constraints()

    @field_validator("axes", mode="before")
    @classmethod
    def _validate_axes(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            raise ValueError(f"expected axes by name, such as width: [8, 16], got {quote(raw)}")
        plain = {n: e.model_dump() if isinstance(e, AxisSpec) else e for n, e in raw.items()}
        named, axes = read_axes(plain)
        return {name: AxisSpec.from_axis(axis, named=name in named) for name, axis in axes.items()}


_KEYS = ("values", "per", "when")


def read_axes(raw: Mapping[Any, Any]) -> tuple[set[str], dict[str, Axis]]:
    """Return the names of the axes with named levels, and all axes, read from plain data.

    Raises:
        ValidationError: Some axes are invalid; contains every error with its path.
    """
    reader = _Reader()
    for name, entry in raw.items():
        reader.read(name, entry)
    for name in list(reader.axes):
        reader.resolve_conditions(name)
    reader.check_conflicts()
    if not reader.errors:
        reader.check_order()
    if reader.errors:
        raise ValidationError.from_exception_data("axes", reader.errors)
    return reader.named, reader.axes


class _Reader:
    """Axes read so far, and the errors found."""

    def __init__(self) -> None:
        self.errors: list[InitErrorDetails] = []
        self.axes: dict[str, Axis] = {}
        self.named: set[str] = set()
        self.invalid: set[str] = set()

    def add_error(self, loc: tuple[Any, ...], reason: str) -> None:
        """Record an error at a path."""
        kind = PydanticCustomError("value_error", "{reason}", {"reason": reason})
        self.errors.append(InitErrorDetails(type=kind, loc=loc, input=None))

    def read(self, name: Any, entry: object) -> None:
        """Read one axis; its conditions keep the values as written."""
        count = len(self.errors)
        try:
            allowed = axis_values.granularities(name)
        except ValueError as error:
            self.add_error((name,), str(error))
            return
        keys = _spread(entry)
        for key in keys.keys() - set(_KEYS):
            self.add_error((name, key), f"unknown key; {suggest(key, _KEYS)}")
        per = keys.get("per", "network")
        if per not in allowed:
            self.add_error((name, "per"), f"expected {' or '.join(allowed)}, got {quote(per)}")
            per = "network"
        inside = (name, "values") if keys is entry else (name,)
        levels = self._levels(name, per, keys.get("values"), inside)
        when = self._when(name, keys.get("when", {}))
        if len(self.errors) == count:
            self.axes[name] = Axis(name, per, levels, when)
        else:
            self.invalid.add(name)

    def _levels(
        self, name: str, per: AxisGranularity, raw: object, path: tuple[Any, ...]
    ) -> tuple[Level, ...]:
        if not isinstance(raw, Mapping | list | tuple) or not raw:
            expected = "expected at least one value, as a list or by name"
            self.add_error(path, f"{expected}, got {quote(raw)}")
            return ()
        levels: list[Level] = []
        named = isinstance(raw, Mapping)
        for key, item in raw.items() if isinstance(raw, Mapping) else enumerate(raw):
            try:
                level = _level(name, per, key if named else None, item)
                if same := [earlier for earlier in levels if earlier.value == level.value]:
                    raise ValueError(f"duplicate of {same[0].label}")
                levels.append(level)
            except ValueError as error:
                self.add_error((*path, str(key) if named else key), str(error))
        if named:
            self.named.add(name)
        return tuple(levels)

    def _when(self, name: str, raw: object) -> dict[str, tuple[Any, ...]]:
        if not isinstance(raw, Mapping):
            expected = "expected axes with levels, such as {parts: [2, 3]}"
            self.add_error((name, "when"), f"{expected}, got {quote(raw)}")
            return {}
        return {other: axis_values.as_tuple(listed) for other, listed in raw.items()}

    def resolve_conditions(self, name: str) -> None:
        """Replace the values in an axis's conditions by labels of the axes that they name."""
        axis = self.axes[name]
        when: dict[str, tuple[Label, ...]] = {}
        for other, listed in axis.when.items():
            if other in self.invalid:
                continue
            try:
                when[other] = self._labels(axis, other, listed)
            except ValueError as error:
                self.add_error((name, "when", other), str(error))
        self.axes[name] = Axis(name, axis.per, axis.levels, when)

    def _labels(self, axis: Axis, other: str, listed: tuple[Any, ...]) -> tuple[Label, ...]:
        named = self.axes.get(other)
        if named is None or named is axis:
            raise ValueError("expected the name of another axis of this space")
        if named.rank > axis.rank:
            coarse = " or ".join(axis_values.GRANULARITIES[: axis.rank + 1])
            condition = f"a condition of this axis must vary per {coarse}"
            raise ValueError(f"varies per {named.per}; {condition}")
        levels = [(raw, named.find_level(raw)) for raw in listed]
        unknown = [repr(raw) for raw, level in levels if level is None]
        if unknown or not levels:
            labels = ", ".join(map(str, named.labels))
            raise ValueError(f"expected levels among {labels}; got {', '.join(unknown) or 'none'}")
        return tuple(level.label for _, level in levels if level is not None)

    def check_conflicts(self) -> None:
        """Check that no two axes set the same setting."""
        conflicts = [("depth", "depths")] if {"depth", "depths"} <= self.axes.keys() else []
        if "operations" in self.axes:
            conflicts += [(n, "operations") for n in self.axes if n.startswith("operation_")]
        levels = self.axes["ratio"].levels if "ratio" in self.axes else ()
        longest = max((len(level.value) for level in levels), default=1)
        ratios = [axis for name, axis in self.axes.items() if name.startswith("ratio_")]
        conflicts += [(axis.name, "ratio") for axis in ratios if axis.part_number <= longest]
        for name, other in conflicts:
            reason = f"conflicts with {other}, which sets the same: remove one of them"
            self.add_error((name,), reason)

    def check_order(self) -> None:
        """Check that conditions are not circular."""
        try:
            evaluation_order(self.axes.values())
        except ValueError as error:
            self.add_error((), str(error))


def _spread(entry: object) -> Mapping[Any, Any]:
    """Return an axis's long form; a list or named levels become its `values`."""
    if isinstance(entry, Mapping) and any(key in entry for key in _KEYS):
        return entry
    return {"values": entry}


def _level(name: str, per: AxisGranularity, key: object, raw: object) -> Level:
    value = axis_values.parse_value(name, per, raw)
    if key is None:
        return Level(axis_values.default_label(name, value), value)
    if not isinstance(key, str) or not key:
        expected = "expected a string as name (quote numbers, yes, no, on and off)"
        raise ValueError(f"{expected}, got {quote(key)}")
    if key in _KEYS:
        raise ValueError(f"a level must not be named {key}, which is a key of axes")
    return Level(key, value)
