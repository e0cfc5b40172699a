"""Variants: a network and a recipe as settings that replace those of a base.

Settings are named as studies write them: `parts` (of the network), `stages 1-2.parts` (of the
blocks of these stages), `recipe.mixup` (of the training).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from partialnas.runs.config.overrides import PlainData
from partialnas.runs.config.recipe import Recipe
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import BLOCK_SETTINGS, Plan, parse_stages
from partialnas.space.arch.ratio import fill_start_ratios
from partialnas.space.axes.levels import (
    AXES,
    AxisGranularity,
    default_label,
    dump_value,
    granularities,
    parse_value,
)
from partialnas.space.validation import validation_messages
from partialnas.space.values import validate_as

_RECIPE = "recipe."
_SAME_FOR_ALL = ("threads", "keep_weights", "width_share")
_OF_PLANS = tuple(key for key in Plan.model_fields if key in AXES)

Inside = tuple[tuple[tuple[int, ...], PlainData], ...]
"""Settings of the blocks of some stages (from 0), later ones in the place of earlier ones."""


def is_setting(key: str) -> bool:
    """Whether a key names a setting of a network, of some of its stages, or of the recipe."""
    try:
        check_setting(key)
    except ValueError:
        return False
    return True


def check_setting(key: str) -> None:
    """Refuses a key that names no setting.

    Raises:
        ValueError: tells which there are.
    """
    _place(key)


def _place(key: str) -> tuple[str, tuple[int, ...]]:
    """The setting that a key names, and the stages (from 0) that it is of; none for all.

    Raises:
        ValueError: there is no such setting.
    """
    where, dot, name = key.rpartition(".")
    if key.startswith(_RECIPE):
        if name not in Recipe.model_fields or name in _SAME_FOR_ALL:
            raise ValueError(f"{key}: the recipe has no such setting that arms may differ in")
        return name, ()
    if dot:
        if name not in BLOCK_SETTINGS:
            raise ValueError(f"{key}: a stage's blocks have {', '.join(BLOCK_SETTINGS)}")
        return name, tuple(parse_stages(where))
    if key not in _OF_PLANS:
        there = ", ".join((*_OF_PLANS, "stages A-B.SETTING", "recipe.SETTING"))
        raise ValueError(f"there is no setting {key!r}; there are {there}")
    return key, ()


def parse_settings(settings: Mapping[str, Any]) -> PlainData:
    """Settings in their one canonical form.

    Raises:
        ValueError: a setting that is not there, or a value that it cannot have.
    """
    return {key: _read(key, value) for key, value in settings.items()}


def _read(key: str, value: Any) -> Any:
    name, stages = _place(key)
    if key.startswith(_RECIPE):
        _check_recipe(name, value)
        return value
    try:
        return dump_value(name, parse_value(name, "stage" if stages else "network", value))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _check_recipe(name: str, value: Any) -> None:
    """Refuses a value that no recipe can have; what fits together is known of whole recipes only.

    Raises:
        ValueError: names the setting.
    """
    try:
        Recipe.model_validate({name: value})
    except ValidationError as error:
        raise ValueError("; ".join(validation_messages(error, "recipe"))) from None


def level_label(key: str, value: object) -> str:
    """What a value of a setting is called where it has no name of its own.

    Raises:
        ValueError: a value that the setting cannot have.
    """
    name, stages = _place(key)
    if key.startswith(_RECIPE):
        told: object = value
    else:
        per: AxisGranularity = "stage" if stages and "stage" in granularities(name) else "network"
        told = default_label(name, parse_value(name, per, value))
    return str(told).lower() if isinstance(told, bool) else str(told)


@dataclass(frozen=True)
class Variant:
    """A network and the settings of its recipe.

    Attributes:
        plan: the network's settings.
        inside: settings of some stages' blocks in the plan's place.
        recipe: settings of the recipe in the study's place.
    """

    plan: Plan
    inside: Inside = ()
    recipe: PlainData = field(default_factory=dict)

    def with_settings(self, settings: Mapping[str, Any]) -> "Variant":
        """The variant with other settings, later ones in the place of earlier ones.

        Raises:
            UserError: a network cannot have them.
        """
        whole: PlainData = {}
        inside, recipe = [*self.inside], dict(self.recipe)
        for key, value in settings.items():
            name, stages = _place(key)
            if key.startswith(_RECIPE):
                recipe[name] = value
            elif stages:
                inside.append((stages, {name: value}))
            else:
                whole[name] = value
        plan = override_plan(self.plan, whole) if whole else self.plan
        return Variant(plan, tuple(inside), recipe)

    def with_plan(self, plan: Plan) -> "Variant":
        """The same with another plan, for a twin."""
        return replace(self, plan=plan)

    def architecture(self) -> Architecture:
        """The network.

        Raises:
            UserError: it cannot be built; names the stage and block.
        """
        return self.plan.architecture(self._override if self.inside else None)

    def _override(self, stage: int, _block: int) -> PlainData:
        settings: PlainData = {}
        for stages, changes in self.inside:
            if stage in stages:
                settings |= changes
        return settings


def override_plan(base: Plan, changes: Mapping[str, Any]) -> Plan:
    """A plan with other settings; a learned ratio starts from the one whose place it takes.

    Raises:
        UserError: no network has such settings.
    """
    plan = validate_as(Plan, {**base.model_dump(), **changes}, "no network")
    return plan.model_copy(update={"ratio": fill_start_ratios(plan.ratio, base.ratio)})
