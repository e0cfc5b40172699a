"""The sections of a study, each validated by itself, and what follows from them."""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    Field,
    field_validator,
)

from partialnas.runs.config.design import MAX_ARMS
from partialnas.runs.config.metric_limits import Limit
from partialnas.runs.config.overrides import PlainData, apply_overrides
from partialnas.runs.config.protocol import PROTOCOLS, Protocol
from partialnas.runs.config.quantities import Direction
from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.search.study import sections
from partialnas.search.study.ablation_spec import AblationSpec
from partialnas.search.study.fidelity import resolve_scheme
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import PRESETS
from partialnas.space.axes.spec import Base, SpaceSpec
from partialnas.space.cost.constraints import Constraints
from partialnas.space.validation import (
    check_name,
    join_words,
    quote,
    suggest,
)
from partialnas.space.values import Value, digest

MEASURED = ("throughput_img_s", "latency_ms", "peak_memory_bytes")
"""Objectives that are measured on a device."""

TRAINED = ("val_accuracy", "val_nll", "train_nll", "test_accuracy", "test_nll")
"""Quantities that come from training and differ between seeds."""

COUNTED = ("params", "macs", "macs_core", "activations")
"""Objectives that are computed by formula, before any training."""

OBJECTIVES = ("val_accuracy", "val_nll", *MEASURED, *COUNTED)
"""Quantities that a study may optimize; no test metrics."""

MEASURED_LIMITS = (*MEASURED, "relative_throughput")
"""Quantities that are measured on a device and may be limited."""

LIMITED = ("val_accuracy", "val_nll", *MEASURED_LIMITS)
"""Quantities that a study may limit. A limit on relative throughput holds on any machine."""

_ACCURACY_AND_SPEED: dict[str, Direction] = {"val_nll": "min", "throughput_img_s": "max"}
ACCURACY_AND_MACS: dict[str, Direction] = {"val_nll": "min", "macs": "min"}

SHORT_TIMING_S = 5.0
"""Time limit in seconds of a measurement if speed decides nothing in a study."""

QUICK_NOTE = "--quick changes nothing: the study has no settings under `quick`"
"""Note if the settings of a study under `quick` are to be applied, but it has none."""

_SAME_FOR_ALL = (
    *("recipe.threads", "measure.device", "measure.threads"),
    *("measure.when", "measure.retries"),
)


class StudyFields(Value):
    """The sections of a study; `Study` also checks that they agree.

    Attributes:
        schema_version: version of this file format (key `schema`).
        study: name of the study and of its results folder.
        question: the question that the study answers, shown in its report.
        task: the data set and the resolution of its images.
        base: the network that arms and axes start from: a preset with settings replaced
            (`preset`, `width`, ...), or settings only.
        space: axes and constraints of the networks that a search may propose.
        recipe: how networks are trained: settings, or the name of a recipe (`use: short`).
        arms: named networks that are always trained: the name of a preset, `timm:NAME`,
            `file.json`, settings that replace those of the base, or `{from: ARM, ratios:
            learned}` for a static network with the ratios that another arm learned with the same
            seed (`uniform`, `reversed` or `shuffled`: other ratios of equal cost).
        ablation: a baseline, factors and a design, from which further arms are compiled.
        search: the sampler that proposes networks from the space.
        seeds: number of seeds for every network, or a rule such as `{min: 3, max: 10, until:
            0.3}` that trains as many as the differences of an ablation need.
        conditions: alternative settings of `task`, `recipe` and `measure` by name, with dotted
            keys. Every arm is trained and timed under each condition.
        objectives: quantities to optimize, each with its direction.
        limits: bounds on trained or measured quantities that networks on the front must meet,
            such as `{latency_ms: {max: 5.0}}` or, for any machine, `{relative_throughput: {min:
            1.0}}`. They apply to the values that tables show: means over seeds, and relative
            throughput times the median of all timings of the reference. Samplers avoid networks
            beyond the limits; these are trained and recorded but never on the front. Use the
            `constraints` of `space` to bound quantities that are computed by formula.
        reference_point: worst value of each objective, for the hypervolume; default: the
            log-likelihood of guessing, zero throughput, and 1.1 times the most expensive
            networks.
        measure: how speed and memory are measured.
        reference: network that throughput is relative to; default: a FasterNet near the median
            cost of the space.
        budget: when to stop starting new trials.
        executor: where trials run, and how many in parallel.
        trial: `module:function`, a user function that replaces training (see docs/functions.md).
        quick: settings that `--quick` applies, with dotted keys.
        plugins: modules that register operations, data sets or samplers, as a list of names;
            recorded with the digest of their source (see `space.plugins`).
    """

    identity_fields: ClassVar[frozenset[str]] = frozenset(
        (
            *("schema_version", "study", "question", "task", "base", "space", "recipe", "seeds"),
            *("ablation", "search", "arms", "conditions", "objectives", "limits"),
            *("reference_point", "measure", "reference", "budget", "executor", "trial", "quick"),
        )
    )

    schema_version: Literal[1] = Field(default=1, alias="schema")
    study: str
    question: str = ""
    task: sections.TaskSpec = sections.TaskSpec()
    base: Base = Plan()
    space: SpaceSpec | None = None
    recipe: Recipe = RECIPES["short"]
    seeds: Annotated[int, Field(ge=1, le=10_000)] | sections.SeedRule = 1
    ablation: AblationSpec | None = None
    search: sections.SearchSpec | None = None
    arms: dict[str, str | PlainData] = Field(default_factory=dict, max_length=MAX_ARMS)
    conditions: dict[str, PlainData] = Field(default_factory=dict, max_length=100)
    objectives: dict[str, Direction] = Field(default_factory=lambda: {**_ACCURACY_AND_SPEED})
    limits: dict[str, Limit] = Field(default_factory=dict)
    reference_point: dict[str, float] = Field(default_factory=dict)
    measure: Protocol = Protocol()
    reference: str | PlainData | None = None
    budget: sections.Budget = sections.Budget()
    executor: sections.ExecutorSpec = sections.ExecutorSpec()
    trial: str | None = None
    quick: PlainData = Field(default_factory=dict)
    plugins: dict[str, str] = Field(default_factory=dict)

    @field_validator("study")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            raise ValueError(
                f"invalid name {quote(name)}; it is also the name of the study's folder: use at "
                "most 64 letters, digits, '-', '_' or '.', starting with a letter or digit"
            )
        return name

    @field_validator("recipe", mode="before")
    @classmethod
    def _expand_named_recipe(cls, value: object) -> object:
        return _expand_name(value, RECIPES, "recipe")

    @field_validator("space", mode="before")
    @classmethod
    def _check_constraint_names(cls, value: object) -> object:
        constraints = value.get("constraints") if isinstance(value, Mapping) else None
        for name in constraints if isinstance(constraints, Mapping) else ():
            if name in LIMITED:
                source = "measured" if name in MEASURED_LIMITS else "trained"
                raise ValueError(
                    f"constraints: {name} is {source}, not computed; use `limits` of the study"
                )
        return value

    @field_validator("limits", mode="before")
    @classmethod
    def _check_limit_names(cls, value: object) -> object:
        bounded = Constraints.model_fields
        for name in value if isinstance(value, Mapping) else ():
            if name in COUNTED:
                instead = "" if name in bounded else f" for {join_words([*bounded], 'or')}"
                raise ValueError(
                    f"{name} is computed, not measured; use space.constraints{instead}"
                )
        return value

    @field_validator("arms", mode="before")
    @classmethod
    def _check_arms(cls, value: object) -> object:
        for name, arm in value.items() if isinstance(value, Mapping) else ():
            check_name(name)
            if not isinstance(arm, str | Mapping):
                raise ValueError(
                    f"{name}: expected a preset, timm:NAME, FILE.json or settings, got {quote(arm)}"
                )
            other = isinstance(arm, Mapping) or arm.startswith("timm:") or arm.endswith(".json")
            if not other and arm not in PRESETS:
                raise ValueError(f"{name}: unknown preset {quote(arm)}; {suggest(arm, PRESETS)}")
        return value

    @field_validator("conditions")
    @classmethod
    def _check_condition_keys(cls, value: dict[str, PlainData]) -> dict[str, PlainData]:
        for name, settings in value.items():
            check_name(name)
            for key in settings:
                if key.partition(".")[0] not in ("task", "recipe", "measure") or "." not in key:
                    raise ValueError(
                        f"{name}: invalid key {quote(key)}; expected dotted keys of task, recipe "
                        "or measure, such as task.resolution or recipe.batch_size"
                    )
                if key in _SAME_FOR_ALL:
                    raise ValueError(f"{name}: {key} must be the same for the whole study")
        return value

    @field_validator("trial")
    @classmethod
    def _check_trial(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.]+:\w+", value):
            raise ValueError(f"expected module:function, got {quote(value)}")
        return value

    @field_validator("measure", mode="before")
    @classmethod
    def _expand_named_protocol(cls, value: object) -> object:
        return {"when": "never"} if value == "none" else _expand_name(value, PROTOCOLS, "protocol")

    @property
    def needs_measurement(self) -> bool:
        """Whether an objective or a limit is a measured quantity."""
        return any(name in MEASURED_LIMITS for name in (*self.objectives, *self.limits))

    @property
    def times_networks(self) -> bool:
        """Whether networks are timed; with a user function only if `measure.when` says when."""
        return self.measure.when not in ("never", *(["auto"] if self.trial else []))

    @property
    def protocol(self) -> Protocol:
        """How networks are measured: for a shorter time if no speed decides in the study.

        Only a time that is not stated is shortened. It is recorded unchanged, so that the identity
        of a study does not depend on this rule.
        """
        decides = self.needs_measurement or (self.ablation and self.ablation.match == "latency")
        if decides or self._states_max_seconds:
            return self.measure
        return self.measure.model_copy(update={"max_seconds": SHORT_TIMING_S})

    @property
    def _states_max_seconds(self) -> bool:
        return "max_seconds" in self.measure.model_fields_set

    @property
    def measures_before_tell(self) -> bool:
        """Whether a network is measured before its result is passed to the sampler."""
        when = self.measure.when
        return self.needs_measurement if when == "auto" else when == "during"

    @property
    def first_seeds(self) -> int:
        """Number of seeds that every network is trained with first."""
        return self.seeds.min if isinstance(self.seeds, sections.SeedRule) else self.seeds

    @property
    def decision_quantity(self) -> str:
        """Quantity that comparisons are based on: the first objective that is trained."""
        untrained = (*COUNTED, *MEASURED)
        return next((name for name in self.objectives if name not in untrained), "val_nll")

    def under(self, condition: str) -> Self:
        """Return the study with the settings of one of its conditions applied."""
        plain = {key: value for key, value in self.plain().items() if key != "conditions"}
        return self.model_validate(apply_overrides(plain, self.conditions[condition]))

    @property
    def scheme(self) -> sections.PromotionScheme | None:
        """How promoted networks are trained on the next rung, or None without a search."""
        if self.search is None:
            return None
        return resolve_scheme(self.search, self.recipe, has_user_function=self.trial is not None)

    def frozen(self) -> PlainData:
        """Return the study as plain JSON data for the ledger, with defaults resolved."""
        plain = self.identity_data(by_alias=True)
        if self.search is not None:
            plain["search"]["scheme"] = self.scheme
        return plain

    def plain(self) -> PlainData:
        """Return the study as plain JSON data that give the same study when they are read.

        In contrast to `frozen`, `measure.max_seconds` is left out unless it is stated: see
        `protocol`.
        """
        plain = self.frozen()
        if not self._states_max_seconds:
            del plain["measure"]["max_seconds"]
        return plain

    @property
    def digest(self) -> str:
        """Digest of the settings that must not change while a study continues."""
        return digest(immutable_settings(self.frozen()))


_MUTABLE = ("budget", "executor", "seeds", "quick", "question", "arms", "ablation")


def immutable_settings(frozen: PlainData) -> PlainData:
    """Return the settings of a frozen study that must not change once its ledger exists."""
    return {key: value for key, value in frozen.items() if key not in _MUTABLE}


def _expand_name(value: object, named: Mapping[str, Value], kind: str) -> object:
    """Return a section with the settings of `use: NAME`; a text is short for the name alone."""
    if isinstance(value, str):
        value = {"use": value}
    if not isinstance(value, Mapping) or "use" not in value:
        return value
    name = value["use"]
    if not isinstance(name, str) or name not in named:
        raise ValueError(f"use: unknown {kind} {quote(name)}; {suggest(name, named)}")
    changes = {key: item for key, item in value.items() if key != "use"}
    return {**named[name].model_dump(exclude_unset=True), **changes}
