"""Variants of a network and its recipe: settings that replace those of a base.

Settings are named as in study files: `parts` (of the network), `stages 1-2.parts` (of the blocks
in these stages), `recipe.mixup` (of the training).
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
from partialnas.space.axes import levels
from partialnas.space.validation import quote, suggest, validation_messages
from partialnas.space.values import validate_as

_RECIPE = "recipe."
_SAME_FOR_ALL = ("threads", "keep_weights", "width_share")
_PLAN_SETTINGS = tuple(key for key in Plan.model_fields if key in levels.AXES)
_RECIPE_NAMES = tuple(key for key in Recipe.model_fields if key not in _SAME_FOR_ALL)
_RECIPE_SETTINGS = tuple(f"{_RECIPE}{name}" for name in _RECIPE_NAMES)

StageSettings = tuple[tuple[tuple[int, ...], PlainData], ...]
"""Stages (counted from 0) and settings of their blocks; later entries override earlier ones."""


def is_setting(key: str) -> bool:
    """Return whether a key names a setting of a network, of some stages or of the recipe."""
    try:
        split_key(key)
    except ValueError:
        return False
    return True


def setting_hint(key: str) -> str:
    """Return why a key names no setting if it resembles one, otherwise an empty text."""
    try:
        split_key(key)
    except ValueError as error:
        return str(error) if str(error).endswith("?") else ""
    return ""


def split_key(key: str) -> tuple[str, tuple[int, ...]]:
    """Return the setting that a key names and its stages (counted from 0; empty for all).

    Raises:
        ValueError: there is no such setting.
    """
    prefix, dot, name = key.rpartition(".")
    if key.startswith(_RECIPE):
        if name not in Recipe.model_fields:
            hint = suggest(name, _RECIPE_NAMES)
            raise ValueError(f"{key}: the recipe has no such setting; {hint}")
        if name in _SAME_FOR_ALL:
            raise ValueError(f"{key}: this setting must be the same for all arms")
        return name, ()
    if dot:
        if name not in BLOCK_SETTINGS:
            hint = suggest(name, BLOCK_SETTINGS)
            raise ValueError(f"{key}: blocks have no such setting; {hint}")
        return name, tuple(parse_stages(prefix))
    if key not in _PLAN_SETTINGS:
        hint = suggest(key, (*_PLAN_SETTINGS, *_RECIPE_SETTINGS))
        if not hint.endswith("?"):
            hint = suggest(key, (*_PLAN_SETTINGS, "stages A-B.SETTING", "recipe.SETTING"))
        raise ValueError(f"unknown setting {quote(key)}; {hint}")
    return key, ()


def parse_settings(settings: Mapping[str, Any]) -> PlainData:
    """Return settings in canonical form.

    Raises:
        ValueError: a setting is unknown or has an invalid value.
    """
    return {key: _parse(key, value) for key, value in settings.items()}


def _parse(key: str, value: Any) -> Any:
    name, stages = split_key(key)
    if key.startswith(_RECIPE):
        _check_recipe(name, value)
        return value
    try:
        per: levels.AxisGranularity = "stage" if stages else "network"
        return levels.dump_value(name, levels.parse_value(name, per, value))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _check_recipe(name: str, value: Any) -> None:
    """Check one setting of a recipe by itself; complete recipes are validated later.

    Raises:
        ValueError: the value is invalid.
    """
    try:
        Recipe.model_validate({name: value})
    except ValidationError as error:
        raise ValueError("; ".join(validation_messages(error, "recipe"))) from None


def level_label(key: str, value: object) -> str:
    """Return the label of a level that is written as a plain value.

    Raises:
        ValueError: the value is invalid for the setting.
    """
    name, stages = split_key(key)
    label = value
    if not key.startswith(_RECIPE):
        by_stage = stages and "stage" in levels.granularities(name)
        parsed = levels.parse_value(name, "stage" if by_stage else "network", value)
        label = levels.default_label(name, parsed)
    return str(label).lower() if isinstance(label, bool) else str(label)


@dataclass(frozen=True)
class Variant:
    """A network and the settings of its recipe.

    Attributes:
        plan: settings of the network.
        stage_settings: settings of some stages' blocks that replace those of the plan.
        recipe: settings that replace those of the study's recipe.
    """

    plan: Plan
    stage_settings: StageSettings = ()
    recipe: PlainData = field(default_factory=dict)

    def with_settings(self, settings: Mapping[str, Any]) -> "Variant":
        """Return the variant with settings replaced; later ones override earlier ones.

        Raises:
            UserError: the settings are not valid for a network.
        """
        plan_changes: PlainData = {}
        stage_settings, recipe = [*self.stage_settings], dict(self.recipe)
        for key, value in settings.items():
            name, stages = split_key(key)
            if key.startswith(_RECIPE):
                recipe[name] = value
            elif stages:
                stage_settings.append((stages, {name: value}))
            else:
                plan_changes[name] = value
        plan = override_plan(self.plan, plan_changes) if plan_changes else self.plan
        return Variant(plan, tuple(stage_settings), recipe)

    def with_plan(self, plan: Plan) -> "Variant":
        """Return the variant with another plan."""
        return replace(self, plan=plan)

    def architecture(self) -> Architecture:
        """Build the network's architecture.

        Raises:
            UserError: it cannot be built; the message names the stage and block.
        """
        return self.plan.architecture(self._override if self.stage_settings else None)

    def _override(self, stage: int, _block: int) -> PlainData:
        settings: PlainData = {}
        for stages, changes in self.stage_settings:
            if stage in stages:
                settings |= changes
        return settings


def override_plan(base: Plan, changes: Mapping[str, Any]) -> Plan:
    """Return a plan with settings replaced; a learned ratio starts from the ratio it replaces.

    Raises:
        UserError: the settings are not valid for a network.
    """
    plan = validate_as(Plan, {**base.model_dump(), **changes}, "invalid network")
    return plan.model_copy(update={"ratio": fill_start_ratios(plan.ratio, base.ratio)})
