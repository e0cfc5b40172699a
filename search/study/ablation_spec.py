"""The `ablation:` section of a study: a baseline, factors with their levels, and a design."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from partialnas.runs.config.design import MAX_ARMS, DesignKind, MatchCriterion
from partialnas.runs.config.overrides import PlainData
from partialnas.search.study.variant import (
    is_setting,
    level_label,
    parse_settings,
    setting_hint,
    split_key,
)
from partialnas.space.validation import check_name, first_messages, quote
from partialnas.space.values import Value

WITH, WITHOUT = "with", "without"
"""Labels of an ingredient's levels."""

_TOLERANCE = {"latency": 0.03}
_DEFAULT_TOLERANCE = 0.02


class FactorSpec(Value):
    """A factor and its levels.

    Written in one of these forms: a list of values, if the factor is named like the setting that
    it varies; named levels, each a value or a mapping of settings (`{mixup: {recipe.mixup:
    0.2}}`); or `{values: ..., when: ...}` with either. An ingredient that is present or absent is
    written as its settings (`PAT_sp: {pat_sp: true}`).

    Attributes:
        values: settings of each level by label.
        when: levels of other factors, by factor; the factor leaves its baseline level only
            together with these.
    """

    values: dict[str, PlainData] = Field(min_length=1, max_length=MAX_ARMS)
    when: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @classmethod
    def read(cls, name: str, raw: object) -> "FactorSpec":
        """Parse a factor as written in the study.

        Raises:
            ValueError: there are no levels, or a level is invalid.
        """
        if isinstance(raw, FactorSpec):
            return raw
        values, when = raw, {}
        if isinstance(raw, Mapping) and "values" in raw:
            values, when = raw["values"], _parse_conditions(raw)
        if _is_ingredient(name, values):
            levels = {WITH: _parse_level(name, values)}
        elif isinstance(values, Mapping):
            levels = {_label(label): _parse_level(name, v, label) for label, v in values.items()}
        elif isinstance(values, list | tuple):
            levels = _parse_list(name, values)
        else:
            raise ValueError(
                f"expected a list of levels or a mapping of named levels, got {quote(values)}"
            )
        if not levels:
            raise ValueError("expected at least one level")
        for stated in (name, *levels):
            check_name(stated)
        return cls(values=levels, when=when)


def _is_ingredient(name: str, values: object) -> bool:
    """Return whether a factor is written as the settings of its only level."""
    if not isinstance(values, Mapping) or is_setting(name):
        return False
    return bool(values) and all(is_setting(str(key)) for key in values)


def _parse_conditions(raw: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if unknown := raw.keys() - {"values", "when"}:
        raise ValueError(f"unknown key {', '.join(map(str, unknown))}; expected values and when")
    when = raw.get("when") or {}
    if not isinstance(when, Mapping):
        raise ValueError(f"when: expected a mapping of factors to levels, got {quote(when)}")
    return {
        str(name): tuple(map(_label, labels if isinstance(labels, list | tuple) else [labels]))
        for name, labels in when.items()
    }


def _parse_list(name: str, values: list[object] | tuple[object, ...]) -> dict[str, PlainData]:
    levels: dict[str, PlainData] = {}
    for value in values:
        try:
            split_key(name)
        except ValueError as error:
            raise ValueError(
                "a factor with a list of values must be named like a setting; to use another name, "
                f"write named levels: {{LEVEL: {{SETTING: VALUE}}}}: {error}"
            ) from None
        label = level_label(name, value)
        if label in levels:
            raise ValueError(f"duplicate level {label}")
        levels[label] = parse_settings({name: value})
    return levels


def _parse_level(name: str, value: object, label: object = "") -> PlainData:
    """Return the settings of a named level: a mapping, or a value of the factor's own setting.

    A label that resembles a setting was probably meant as one, of an ingredient.
    """
    if isinstance(value, Mapping) and (value or not is_setting(name)):
        settings = {str(key): item for key, item in value.items()}
        if all(map(is_setting, settings)):
            return parse_settings(settings)
    if not is_setting(name):
        keys = [*value] if isinstance(value, Mapping) else [label]
        hints = [hint for hint in map(setting_hint, map(str, keys)) if hint]
        raise ValueError(
            hints[0]
            if hints
            else f"expected settings such as {{parts: 3, recipe.mixup: 0.2}}, got {quote(value)}"
        )
    return parse_settings({name: value})


def _label(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class AblationSpec(Value):
    """An ablation study: which networks are compared with which baseline.

    Attributes:
        design: which combinations of levels become arms.
        baseline: name of a preset, or settings that replace those of the study's base.
        factors: what varies, by name. In `leave-one-out`, `add-one-in` and `ladder` designs, each
            factor is an ingredient with two levels, first without and then with it; a single
            level means with, and the baseline's level means without.
        within: factors that define strata. Arms are compared with the baseline of their own
            stratum, and the design is repeated for each level of these factors.
        match: cost that every arm has in common with its baseline. Arms are replaced by twins with
            adjusted widths.
        tolerance: largest relative difference in the matched cost; default: 0.02, for latency
            0.03.
        resolution: minimum resolution of a fractional design (3, 4, 5, ...).
        margin: largest difference that counts as equivalent, by quantity, for equivalence tests.
        deviation: standard deviation between seeds, by quantity, if known beforehand; `check`
            reports which differences the design can detect with it.
    """

    design: DesignKind
    baseline: str | PlainData = Field(default_factory=dict)
    factors: dict[str, FactorSpec] = Field(min_length=1, max_length=100)
    within: tuple[str, ...] = ()
    match: MatchCriterion = "none"
    tolerance: float | None = Field(default=None, gt=0, lt=1)
    resolution: int = Field(default=4, ge=3, le=8)
    margin: dict[str, float] = Field(default_factory=dict)
    deviation: dict[str, float] = Field(default_factory=dict)

    @property
    def effective_tolerance(self) -> float:
        """The stated tolerance, or the default of the matched cost."""
        return self.tolerance or _TOLERANCE.get(self.match, _DEFAULT_TOLERANCE)

    @field_validator("baseline")
    @classmethod
    def _check_baseline(cls, value: str | PlainData) -> str | PlainData:
        return value if isinstance(value, str) else parse_settings(value)

    @field_validator("factors", mode="before")
    @classmethod
    def _parse_factors(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a mapping such as {{parts: [2, 3]}}, got {quote(value)}")
        factors, problems = {}, []
        for name, raw in value.items():
            try:
                factors[str(name)] = FactorSpec.read(str(name), raw)
            except ValueError as error:
                message, prefix = str(error), f"{name}: "
                problems.append(message if message.startswith(prefix) else prefix + message)
        if problems:
            raise ValueError("; ".join(first_messages(problems)))
        return factors

    @field_validator("margin", "deviation")
    @classmethod
    def _check_positive(cls, value: dict[str, float]) -> dict[str, float]:
        for name, size in value.items():
            if not 0 < size < float("inf"):
                raise ValueError(f"{name}: expected a number above 0, got {size}")
        return value

    @model_validator(mode="after")
    def _check_factor_names(self) -> Self:
        for name in self.within:
            if name not in self.factors:
                factors = ", ".join(self.factors)
                raise ValueError(f"within: unknown factor {quote(name)}; expected one of {factors}")
        if len(set(self.within)) < len(self.within):
            raise ValueError("within: a factor is listed twice")
        if len(self.within) == len(self.factors):
            raise ValueError("within: at least one factor must not be listed, so that it can vary")
        for name, factor in self.factors.items():
            for other in factor.when:
                if other not in self.factors or other == name:
                    raise ValueError(f"factors.{name}.when: {quote(other)} is not another factor")
        return self
