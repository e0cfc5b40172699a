"""Ablations as a study states them: a baseline, factors with their levels, a design."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from partialnas.runs.config.design import MatchCriterion
from partialnas.runs.config.overrides import PlainData
from partialnas.search.study.variant import check_setting, is_setting, level_label, parse_settings
from partialnas.space.values import Value

DesignKind = Literal[
    "one-factor", "leave-one-out", "add-one-in", "factorial", "fractional", "ladder"
]

INGREDIENT_DESIGNS: tuple[DesignKind, ...] = ("leave-one-out", "add-one-in", "ladder")
"""Designs whose factors are ingredients: without, and with."""

WITH, WITHOUT = "with", "without"
"""The levels of an ingredient."""

_TOLERANCE = {"latency": 0.03}
_EXACT = 0.02


class FactorSpec(Value):
    """What a study says of one factor.

    Written as a list of values, where the factor is named like the setting that it varies; as named
    levels, each a value or a mapping of settings (`{mixup: {recipe.mixup: 0.2}}`); or as
    `{values: ..., when: ...}` with either. An ingredient that is there or not is written as its
    settings alone (`PAT_sp: {pat_sp: true}`).

    Attributes:
        values: the settings of each level, by its label.
        when: labels of other factors, where alone the factor may leave its baseline.
    """

    values: dict[str, PlainData] = Field(min_length=1)
    when: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @classmethod
    def read(cls, name: str, raw: object) -> "FactorSpec":
        """The factor of this name from what a study says of it.

        Raises:
            ValueError: no levels, or one of them is none.
        """
        if isinstance(raw, FactorSpec):
            return raw
        values, when = raw, {}
        if isinstance(raw, Mapping) and "values" in raw:
            values, when = raw["values"], _conditions(raw)
        if _is_ingredient(name, values):
            levels = {WITH: _level(name, values)}
        elif isinstance(values, Mapping):
            levels = {_text(label): _level(name, value) for label, value in values.items()}
        elif isinstance(values, list | tuple):
            levels = _listed(name, values)
        else:
            raise ValueError(f"expected a list of levels, or levels by name, got {values!r}")
        if not levels:
            raise ValueError("expected at least one level")
        if not name.strip() or not all(label.strip() for label in levels):
            raise ValueError("expected a name for the factor and each of its levels")
        return cls(values=levels, when=when)


def _is_ingredient(name: str, values: object) -> bool:
    """Whether a factor states the settings of its one level in the place of levels by name."""
    if not isinstance(values, Mapping) or is_setting(name):
        return False
    return bool(values) and all(is_setting(str(key)) for key in values)


def _conditions(raw: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if unknown := raw.keys() - {"values", "when"}:
        raise ValueError(f"expected `values` and `when`, got {', '.join(map(str, unknown))}")
    when = raw.get("when") or {}
    if not isinstance(when, Mapping):
        raise ValueError(f"when: expected levels of other factors by name, got {when!r}")
    return {
        str(name): tuple(map(_text, labels if isinstance(labels, list | tuple) else [labels]))
        for name, labels in when.items()
    }


def _listed(name: str, values: list[object] | tuple[object, ...]) -> dict[str, PlainData]:
    levels: dict[str, PlainData] = {}
    for value in values:
        try:
            check_setting(name)
        except ValueError as error:
            raise ValueError(
                f"a list of values needs a factor named like a setting: {error}; or name the "
                "levels: {LEVEL: {SETTING: VALUE}}"
            ) from None
        label = level_label(name, value)
        if label in levels:
            raise ValueError(f"the level {label} stands twice")
        levels[label] = parse_settings({name: value})
    return levels


def _level(name: str, value: object) -> PlainData:
    """The settings of a named level: stated as such, or the value of the factor's own setting."""
    if isinstance(value, Mapping) and (value or not is_setting(name)):
        settings = {str(key): each for key, each in value.items()}
        if all(map(is_setting, settings)):
            return parse_settings(settings)
    if not is_setting(name):
        raise ValueError(
            f"expected settings such as {{parts: 3, recipe.mixup: 0.2}}, got {value!r}"
        )
    return parse_settings({name: value})


def _text(label: object) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)


class AblationSpec(Value):
    """What a study says under `ablation:`.

    Attributes:
        design: how arms are made of the factors.
        baseline: a preset's name, or settings that replace those of the study's base.
        factors: what varies, by name. The ingredients of `leave-one-out`, `add-one-in` and `ladder`
            have two levels: without, then with; one level alone is with, the baseline's without.
        within: factors whose levels are compared with a baseline of the same level, so that the
            design is repeated for each of their levels.
        match: what every arm has in common with its baseline, by a twin of adjusted widths.
        tolerance: by which share at most it differs; 2 %, of a measured latency 3 %.
        resolution: of a fractional design, at least (3, 4, 5).
        margin: differences that make no difference, by quantity, for equivalence tests.
        deviation: between seeds, by quantity, as far as it is known beforehand: `check` tells with
            it which differences the design can find.
    """

    design: DesignKind
    baseline: str | PlainData = Field(default_factory=dict)
    factors: dict[str, FactorSpec] = Field(min_length=1)
    within: tuple[str, ...] = ()
    match: MatchCriterion = "none"
    tolerance: float | None = Field(default=None, gt=0, lt=1)
    resolution: int = Field(default=4, ge=3, le=8)
    margin: dict[str, float] = Field(default_factory=dict)
    deviation: dict[str, float] = Field(default_factory=dict)

    @property
    def effective_tolerance(self) -> float:
        """The tolerance, stated or not."""
        return self.tolerance or _TOLERANCE.get(self.match, _EXACT)

    @field_validator("baseline")
    @classmethod
    def _baseline_has_settings(cls, value: str | PlainData) -> str | PlainData:
        return value if isinstance(value, str) else parse_settings(value)

    @field_validator("factors", mode="before")
    @classmethod
    def _every_factor_is_read(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(f"expected factors by name, such as parts: [2, 3], got {value!r}")
        found, problems = {}, []
        for name, raw in value.items():
            try:
                found[str(name)] = FactorSpec.read(str(name), raw)
            except ValueError as error:
                told = str(error)
                problems.append(told if told.startswith(f"{name}: ") else f"{name}: {told}")
        if problems:
            raise ValueError("; ".join(problems))
        return found

    @field_validator("margin", "deviation")
    @classmethod
    def _sizes_are_positive(cls, value: dict[str, float]) -> dict[str, float]:
        for name, size in value.items():
            if not 0 < size < float("inf"):
                raise ValueError(f"{name}: expected a number above 0, got {size}")
        return value

    @model_validator(mode="after")
    def _names_are_factors(self) -> Self:
        for name in self.within:
            if name not in self.factors:
                raise ValueError(f"within: {name!r} is no factor; there are {self._names()}")
        if len(self.within) == len(self.factors):
            raise ValueError("within: leaves no factor to vary")
        for name, factor in self.factors.items():
            for other in factor.when:
                if other not in self.factors or other == name:
                    raise ValueError(f"factors.{name}.when: {other!r} is no other factor")
        return self

    def _names(self) -> str:
        return ", ".join(self.factors)
