"""Studies: one YAML file that says what is searched or compared, how, and within what budget."""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from partialnas.runs.measurement import Protocol
from partialnas.runs.recipe import RECIPES, Recipe
from partialnas.space.errors import UserError
from partialnas.space.plan import Plan
from partialnas.space.spec import Base, SpaceSpec
from partialnas.space.values import Value, checked, digest

Direction = Literal["min", "max"]
Plain = dict[str, Any]

OBJECTIVES: dict[str, Direction] = {
    "val_accuracy": "max",
    "val_nll": "min",
    "throughput_img_s": "max",
    "latency_ms": "min",
    "peak_memory_bytes": "min",
    "params": "min",
    "macs": "min",
    "macs_core": "min",
    "activations": "min",
}
"""What a study may optimise, and the direction that makes sense. Test figures are not in it."""


def _accuracy_and_speed() -> dict[str, Direction]:
    return {"val_nll": "min", "throughput_img_s": "max"}


MEASURED = ("throughput_img_s", "latency_ms", "peak_memory_bytes")
"""Objectives that need the network on the device."""


class TaskSpec(Value):
    """The data set by name, and the side in pixels that images are resized to."""

    data: str = "mnist5k"
    resolution: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _a_name_is_a_data_set(cls, value: object) -> object:
        return {"data": value} if isinstance(value, str) else value


class SearchSpec(Value):
    """Which sampler proposes architectures, and the seed of its proposals."""

    sampler: Literal["random", "tpe", "nsga2"] = "nsga2"
    seed: int = Field(default=0, ge=0)
    population: int = Field(default=16, ge=2)


class Budget(Value):
    """When a study ends: after so many trainings, or so many hours of one sitting."""

    trials: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class ExecutorSpec(Value):
    """Where trials run.

    Attributes:
        kind: `ray` (several worker processes, or a cluster) or `in-process` (one after another).
        workers: trials at once; `auto` fills the device: cores over threads, or the GPUs.
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        gpus_per_trial: share of a GPU that a trial takes.
        time_limit_s: seconds of training after which a trial ends as `timeout`; under Ray, a worker
            that does not answer is ended after half as much again and a minute.
    """

    kind: Literal["ray", "in-process"] = "ray"
    workers: int | Literal["auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus_per_trial: float = Field(default=1.0, gt=0, le=8)
    time_limit_s: float | None = Field(default=None, gt=0)

    @field_validator("workers")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"expected at least 1 worker, or auto, got {value}")
        return value


class Study(Value):
    """Everything that a study is, validated; `search.prepare` turns it into things that run.

    Attributes:
        base: a preset's plan with settings replaced (`preset`, `width`, ...), or plain settings.
        space: axes and constraints that the search varies the base by.
        arms: named architectures that are trained whatever the search does: a preset's name,
            `timm:NAME`, `file.json`, or settings that replace the base's.
        objectives: what is traded off, and each direction.
        reference: the network that throughput is relative to; by default a FasterNet near the
            space's median cost.
        trial: `module:function` that stands in for training.
        quick: settings that `--quick` puts in place, keys written with dots.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    study: str
    question: str = ""
    task: TaskSpec = TaskSpec()
    base: Base = Plan()
    space: SpaceSpec | None = None
    recipe: Recipe = RECIPES["short"]
    seeds: int = Field(default=1, ge=1)
    search: SearchSpec | None = None
    arms: dict[str, str | Plain] = Field(default_factory=dict)
    objectives: dict[str, Direction] = Field(default_factory=_accuracy_and_speed)
    measure: Protocol = Protocol()
    reference: str | Plain | None = None
    budget: Budget = Budget()
    executor: ExecutorSpec = ExecutorSpec()
    trial: str | None = None
    quick: Plain = Field(default_factory=dict)

    @field_validator("study")
    @classmethod
    def _name_can_be_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            raise ValueError(
                "expected a name of at most 64 letters, digits, '-', '_' or '.', "
                f"got {name!r}: it becomes a folder's name"
            )
        return name

    @field_validator("recipe", mode="before")
    @classmethod
    def _recipe_by_name(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"use": value}
        if not isinstance(value, Mapping) or "use" not in value:
            return value
        name = value["use"]
        if not isinstance(name, str) or name not in RECIPES:
            raise ValueError(f"use: there is no recipe {name!r}; there are {', '.join(RECIPES)}")
        changes = {key: item for key, item in value.items() if key != "use"}
        return {**RECIPES[name].model_dump(), **changes}

    @field_validator("arms", mode="before")
    @classmethod
    def _an_arm_is_a_name_or_settings(cls, value: object) -> object:
        for name, arm in value.items() if isinstance(value, Mapping) else ():
            if not isinstance(arm, str | Mapping):
                raise ValueError(f"{name}: expected a preset, timm:NAME or settings, got {arm!r}")
        return value

    @field_validator("trial")
    @classmethod
    def _names_a_function(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.]+:\w+", value):
            raise ValueError(f"expected module:function, got {value!r}")
        return value

    @model_validator(mode="after")
    def _something_happens(self) -> Self:
        if self.search is None and not self.arms:
            raise ValueError("nothing to do: a study needs `search`, `arms`, or both")
        if self.search is not None and (self.space is None or not self.space.axes):
            raise ValueError("search: needs at least one axis under `space.axes`")
        if self.search is not None and self.budget == Budget():
            raise ValueError("budget: a search needs `trials`, `hours`, or both, to end")
        return self

    @model_validator(mode="after")
    def _objectives_are_known(self) -> Self:
        if not self.objectives:
            raise ValueError("objectives: expected at least one, such as {val_nll: min}")
        if (
            "peak_memory_bytes" in self.objectives
            and self.measure.device == "cpu"
            and not self.trial
        ):
            raise ValueError("objectives: peak_memory_bytes is measured on a GPU only")
        for name in self.objectives:
            if name.startswith("test_"):
                raise ValueError(f"objectives: {name}: the test split is never used to choose")
            if self.trial is None and name not in OBJECTIVES:
                raise ValueError(
                    f"objectives: {name!r} is not known; there are {', '.join(OBJECTIVES)}"
                )
        return self

    @property
    def measured(self) -> bool:
        """Whether the sampler must know a measured quantity before it goes on."""
        return any(name in MEASURED for name in self.objectives)

    def frozen(self) -> Plain:
        """The study as plain JSON data, as the ledger keeps it."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def digest(self) -> str:
        """Identity of what must not change while a study goes on."""
        return digest(_fixed(self.frozen()))


_MAY_GROW = ("budget", "executor", "seeds", "quick", "question", "arms")


def _fixed(frozen: Plain) -> Plain:
    return {key: value for key, value in frozen.items() if key not in _MAY_GROW}


def load_study(path: Path, *, quick: bool = False, overrides: Sequence[str] = ()) -> Study:
    """The study in a YAML file, `quick:` applied on demand, then `KEY=VALUE` overrides.

    Raises:
        UserError: no such file, not YAML, or not a study; names every mistake with its path.
    """
    data = _read(path)
    stated = dict(_parse_override(text) for text in overrides)
    small = {str(key): value for key, value in _mapping(data.get("quick")).items()}
    study = checked(
        Study,
        _changed(data, (small if quick else {}) | stated),
        f"{path} is not a study that can run",
    )
    if not quick:
        with_quick = f"{path} is not a study that can run with its quick settings"
        checked(Study, _changed(data, small | stated), with_quick)
    return study


def _changed(data: Plain, changes: Plain) -> Plain:
    changed = copy.deepcopy(data)
    for key, value in changes.items():
        _put(changed, key, value)
    return changed


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for (key, _), value in zip(node.value, keys, strict=True):
            if keys.count(value) > 1 and value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {value!r} stands twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def _read(path: Path) -> Plain:
    try:
        data = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise UserError(f"cannot read the study {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; expected a study in YAML") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected keys such as `study:` and `search:`")
    return data


def _mapping(value: object) -> Plain:
    return value if isinstance(value, dict) else {}


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: expected KEY=VALUE, such as recipe.epochs=2")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {text}: {value!r} is not a YAML value") from None


def _put(data: Plain, key: str, value: Any) -> None:
    """Set `a.b.c` in nested mappings, making those that are missing."""
    *parents, last = key.split(".")
    for position, parent in enumerate(parents):
        inner = data.setdefault(parent, {})
        if parent == "recipe" and isinstance(inner, str):
            inner = data[parent] = {"use": inner}
        if not isinstance(inner, dict):
            where = ".".join(parents[: position + 1])
            raise UserError(f"{key}: {where} is {inner!r}, which has no keys of its own")
        data = inner
    data[last] = value


def growth(old: Plain, new: Plain) -> list[str]:
    """What has been appended to a begun study, one line each.

    Raises:
        UserError: something else than budget, seeds, executor and further arms has changed.
    """
    refused = [*differences(_fixed(old), _fixed(new))]
    if new["seeds"] < old["seeds"]:
        refused.append(f"seeds: {old['seeds']} -> {new['seeds']} (may only grow)")
    for name, arm in old["arms"].items():
        if new["arms"].get(name) != arm:
            refused.append(f"arms.{name}: changed or removed (arms may only be added)")
    if refused:
        raise UserError(
            "the study has changed since it was begun; only budget, seeds, executor and further "
            "arms may grow:\n  " + "\n  ".join(refused) + "\nUse another --out for a new study."
        )
    grown = ("budget", "seeds", "executor", "arms")
    return differences({k: old[k] for k in grown}, {k: new[k] for k in grown})


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """`path: old -> new` for every place where two plain data differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        nested = [differences(old.get(k), new.get(k), f"{at}.{k}" if at else k) for k in keys]
        return [line for lines in nested for line in lines]
    if old == new or (_is_nan(old) and _is_nan(new)):
        return []
    return [f"{at}: {old!r} -> {new!r}"]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
