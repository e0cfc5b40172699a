"""Studies: one YAML file that says what is searched or compared, how, and within what budget."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from partialnas.runs.config.metric_limits import Limit
from partialnas.runs.config.overrides import PlainData, apply_overrides
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.search.study.ablation_spec import AblationSpec
from partialnas.search.study.fidelity import resolve_scheme, rung_errors
from partialnas.search.study.sections import (
    Budget,
    ExecutorSpec,
    PromotionScheme,
    SearchSpec,
    SeedRule,
    TaskSpec,
)
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.spec import Base, SpaceSpec
from partialnas.space.validation import validation_messages
from partialnas.space.values import Value, digest

Direction = Literal["min", "max"]

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


_SAME_FOR_ALL = (
    *("recipe.threads", "measure.device", "measure.threads"),
    *("measure.when", "measure.retries"),
)

TRAINED = ("val_accuracy", "val_nll", "train_nll", "test_accuracy", "test_nll")
"""What a training tells of a network, that differs between seeds."""


COUNTED = ("params", "macs", "macs_core", "activations")
"""Objectives that are known by formula, before anything is trained."""


class Study(Value):
    """Everything that a study is, validated; `search.prepare` turns it into things that run.

    Attributes:
        schema_version: version of this format; written `schema`.
        study: its name, which becomes the folder's.
        question: what the study asks; stands in its report.
        task: the data set, and the side of its images.
        base: a preset's plan with settings replaced (`preset`, `width`, ...), or plain settings.
        space: axes and constraints that the search varies the base by.
        recipe: how networks are trained: settings, or the name of a recipe (`use: short`).
        arms: named architectures that are trained whatever the search does: a preset's name,
            `timm:NAME`, `file.json`, settings that replace the base's, or `{from: ARM, ratios:
            learned}`: a static network with the ratios that another arm has learned with the same
            seed, or with `uniform`, `reversed` or `shuffled` ones of equal cost.
        ablation: a baseline, factors and a design, from which further arms are compiled.
        search: which sampler proposes networks of the space.
        seeds: how often every network is trained, or `{min: 3, max: 10, until: 0.3}`: as often as
            the differences of an ablation need.
        conditions: under each of which every arm is trained and timed: settings of `task`, `recipe`
            and `measure` by name, keys written with dots.
        objectives: what is traded off, and each direction.
        limits: the least or most that networks of the front may reach in what is trained or
            measured, such as `{latency_ms: {max: 5.0}}`. Means over seeds count, for speeds the
            figures as they were timed (ms of a batch, img/s), not those relative to the reference.
            Samplers avoid what is beyond; it is trained and kept, but never on the front. Bounds on
            what is known by formula are the `constraints` of `space`.
        reference_point: a worst value of each objective, for the hypervolume; by default what
            guessing reaches, no throughput, and a tenth more than the dearest networks.
        measure: how speed and memory are measured.
        reference: the network that throughput is relative to; by default a FasterNet near the
            space's median cost.
        budget: when no more trainings are begun.
        executor: where trials run, and how many at once.
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
    seeds: Annotated[int, Field(ge=1)] | SeedRule = 1
    ablation: AblationSpec | None = None
    search: SearchSpec | None = None
    arms: dict[str, str | PlainData] = Field(default_factory=dict)
    conditions: dict[str, PlainData] = Field(default_factory=dict)
    objectives: dict[str, Direction] = Field(default_factory=_accuracy_and_speed)
    limits: dict[str, Limit] = Field(default_factory=dict)
    reference_point: dict[str, float] = Field(default_factory=dict)
    measure: Protocol = Protocol()
    reference: str | PlainData | None = None
    budget: Budget = Budget()
    executor: ExecutorSpec = ExecutorSpec()
    trial: str | None = None
    quick: PlainData = Field(default_factory=dict)

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

    @field_validator("conditions")
    @classmethod
    def _conditions_change_how_arms_are_trained(
        cls, value: dict[str, PlainData]
    ) -> dict[str, PlainData]:
        for name, settings in value.items():
            if not name.strip():
                raise ValueError("expected a name for each condition")
            for key in settings:
                if key.partition(".")[0] not in ("task", "recipe", "measure") or "." not in key:
                    raise ValueError(
                        f"{name}: {key}: expected keys such as task.resolution, recipe.batch_size "
                        "or measure.batch_size"
                    )
                if key in _SAME_FOR_ALL:
                    raise ValueError(f"{name}: {key} is the same for the whole study")
        return value

    @field_validator("trial")
    @classmethod
    def _names_a_function(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.]+:\w+", value):
            raise ValueError(f"expected module:function, got {value!r}")
        return value

    @model_validator(mode="after")
    def _something_happens(self) -> Self:
        if self.search is None and not self.arms and self.ablation is None:
            raise ValueError("nothing to do: a study needs `search`, `ablation`, `arms`")
        if self.search is not None and self.ablation is not None:
            raise ValueError("ablation: a study searches, or it compares; make two of it")
        if self.search is not None and (self.space is None or not self.space.axes):
            raise ValueError("search: needs at least one axis under `space.axes`")
        if self.search is not None and self.budget == Budget():
            raise ValueError("budget: a search needs `trials`, `hours` or `device_hours` to end")
        return self

    @model_validator(mode="after")
    def _rungs_can_run(self) -> Self:
        if self.recipe.width_share != 1:
            raise ValueError("recipe: width_share is for search.rungs: it trains other networks")
        if self.search is not None and self.search.rungs:
            stands_in = self.trial is not None
            told = rung_errors(self.search, self.recipe, self.task, has_user_function=stands_in)
            if told:
                raise ValueError("; ".join(f"search: {each}" for each in told))
        return self

    @model_validator(mode="after")
    def _what_a_search_must_know_is_measured_in_time(self) -> Self:
        if self.search is None or not self.needs_measurement or self.measure.when != "after":
            return self
        if self.search.sampler in ("random", "quasi-random") and not self.search.rungs:
            return self
        asked = next(name for name in (*self.objectives, *self.limits) if name in MEASURED)
        raise ValueError(
            f"measure.when: after: the search decides by {asked}, so that it must be measured "
            "during the search; expected auto or during"
        )

    @model_validator(mode="after")
    def _seeds_can_be_decided(self) -> Self:
        if isinstance(self.seeds, SeedRule):
            if self.search is not None:
                raise ValueError("seeds: a rule is for ablations and arms; a search has a number")
            if self.conditions:
                raise ValueError("seeds: a rule is for one task and recipe; state a number")
        return self

    @model_validator(mode="after")
    def _conditions_can_run(self) -> Self:
        if self.conditions and self.search is not None:
            raise ValueError("conditions: for arms only; a search has one task and one recipe")
        trained: dict[str, str] = {}
        for name in self.conditions:
            try:
                under = self.under(name)
            except ValidationError as error:
                raise ValueError(
                    "; ".join(validation_messages(error, f"conditions.{name}", Study))
                ) from None
            other = trained.setdefault(
                digest([under.frozen()[k] for k in ("task", "recipe")]), name
            )
            if other != name:
                raise ValueError(f"conditions.{name}: its task and recipe are those of {other}")
        return self

    @model_validator(mode="after")
    def _conditions_leave_factors_alone(self) -> Self:
        factors = self.ablation.factors if self.ablation else {}
        varied = {
            key: name
            for name, factor in factors.items()
            for settings in factor.values.values()
            for key in settings
        }
        for name, settings in self.conditions.items():
            for key in settings.keys() & varied.keys():
                raise ValueError(f"conditions.{name}: {key} is what factor {varied[key]} varies")
        return self

    @model_validator(mode="after")
    def _sizes_are_of_trained_quantities(self) -> Self:
        """A study's own function may tell other quantities than a training."""
        if self.ablation is None or self.trial is not None:
            return self
        for at in ("margin", "deviation"):
            for key in getattr(self.ablation, at):
                if key not in TRAINED:
                    known = ", ".join(TRAINED)
                    raise ValueError(f"ablation.{at}: {key!r} is not trained; there are {known}")
        return self

    @model_validator(mode="after")
    def _objectives_are_known(self) -> Self:
        if not self.objectives:
            raise ValueError("objectives: expected at least one, such as {val_nll: min}")
        for name in self.objectives:
            self._check_quantity(name, "objectives")
        return self

    @model_validator(mode="after")
    def _limits_are_known(self) -> Self:
        for name in self.limits:
            self._check_quantity(name, "limits")
            if name in COUNTED:
                raise ValueError(
                    f"limits: {name} is known before anything is trained: bound it under "
                    f"space.constraints"
                )
        return self

    def _check_quantity(self, name: str, where: str) -> None:
        """Refuses what a search cannot choose by."""
        if name.startswith("test_"):
            raise ValueError(f"{where}: {name}: the test split is never used to choose")
        if self.trial is not None:
            return
        if name not in OBJECTIVES:
            raise ValueError(f"{where}: {name!r} is not known; there are {', '.join(OBJECTIVES)}")
        if name == "peak_memory_bytes" and self.measure.device == "cpu":
            raise ValueError(f"{where}: peak_memory_bytes is measured on a GPU only")

    @model_validator(mode="after")
    def _the_point_is_of_objectives(self) -> Self:
        for name, value in self.reference_point.items():
            if name not in self.objectives:
                raise ValueError(f"reference_point: {name} is no objective of the study")
            if not math.isfinite(value):
                raise ValueError(f"reference_point: {name}: expected a finite number, got {value}")
        return self

    @property
    def needs_measurement(self) -> bool:
        """Whether the sampler must know a measured quantity before it goes on."""
        return any(name in MEASURED for name in (*self.objectives, *self.limits))

    @property
    def measures_before_tell(self) -> bool:
        """Whether a network is measured before the source is told of it."""
        when = self.measure.when
        return self.needs_measurement if when == "auto" else when == "during"

    @property
    def first_seeds(self) -> int:
        """Seeds that every network is trained with, whatever they show."""
        return self.seeds.min if isinstance(self.seeds, SeedRule) else self.seeds

    @property
    def decision_quantity(self) -> str:
        """The quantity that comparisons are made in: the first objective that is trained."""
        untrained = (*COUNTED, *MEASURED)
        return next((name for name in self.objectives if name not in untrained), "val_nll")

    def under(self, condition: str) -> "Study":
        """The study as if the settings of one of its conditions were its own."""
        plain = {key: value for key, value in self.frozen().items() if key != "conditions"}
        return Study.model_validate(apply_overrides(plain, self.conditions[condition]))

    @property
    def scheme(self) -> PromotionScheme | None:
        """How networks that go on to the next rung are trained there; None without a search."""
        if self.search is None:
            return None
        return resolve_scheme(self.search, self.recipe, has_user_function=self.trial is not None)

    def frozen(self) -> PlainData:
        """The study as plain JSON data, as the ledger keeps it: what it leaves open is decided."""
        plain = self.model_dump(mode="json", by_alias=True)
        if self.search is not None:
            plain["search"]["scheme"] = self.scheme
        return plain

    @property
    def digest(self) -> str:
        """Identity of what must not change while a study goes on."""
        return digest(immutable_settings(self.frozen()))


_MAY_GROW = ("budget", "executor", "seeds", "quick", "question", "arms", "ablation")


def immutable_settings(frozen: PlainData) -> PlainData:
    """The part of a frozen study that must not change once it has begun."""
    return {key: value for key, value in frozen.items() if key not in _MAY_GROW}
