"""Ablation designs, seed rules and later stages, as a ledger records them.

`search.ablation` compiles designs from a study; analysis reads them.
"""

import math
from typing import Literal

from pydantic import Field, field_validator

from partialnas.runs.config.overrides import PlainData
from partialnas.space.values import Value

DesignKind = Literal[
    "one-factor", "leave-one-out", "add-one-in", "factorial", "fractional", "ladder"
]
"""Ablation designs, described in `search.ablation.designs`."""

Kind = Literal[DesignKind, "arms"]
"""Rule by which arms follow from factors; `arms` is a list of named networks without factors."""

CROSSED_DESIGNS: tuple[DesignKind, ...] = ("factorial", "fractional")
"""Designs that combine the levels of all factors, so that main effects can be estimated."""

MAX_ARMS = 1000
"""Most arms of a study."""

MatchCriterion = Literal["macs", "params", "latency", "none"]
"""Cost that an arm's twin shares with the network that it is compared with."""


class Factor(Value):
    """A factor of a design.

    Attributes:
        name: a setting of the network or the recipe (`recipe.mixup`), or a name from the study.
        levels: labels of the levels, in the study's order.
        baseline: level of the baseline.
    """

    name: str
    levels: tuple[str, ...]
    baseline: str


class CostMatch(Value):
    """Adjustment of an arm's widths that gives its twin the cost of the arm's baseline.

    Attributes:
        quantity: matched quantity: macs, params or latency (ms).
        target: cost of the arm's baseline.
        before: cost of the arm with the levels of its factors.
        reached: cost of the twin, which is trained.
        width: channels of each stage, before and after.
        mlp_ratio: hidden width of the MLP over the width, before and after.
        problem: why there is no twin within the tolerance; empty if there is one.
    """

    quantity: MatchCriterion
    target: float
    before: float
    reached: float
    width: tuple[tuple[int, ...], tuple[int, ...]]
    mlp_ratio: tuple[str, str]
    problem: str = ""

    @property
    def is_adjusted(self) -> bool:
        """Whether the twin's widths differ from those of the arm."""
        return self.width[0] != self.width[1] or self.mlp_ratio[0] != self.mlp_ratio[1]

    @property
    def error(self) -> float:
        """Relative cost error of the twin; positive if it costs more than the target."""
        return self.reached / self.target - 1


class DesignArm(Value):
    """One arm of a design.

    Attributes:
        name: name in tables.
        levels: level of each factor.
        against: arm that it is compared with, or None for a baseline.
        recipe: settings that replace those of the study's recipe.
        matched: cost match of its twin, or None if no cost is matched.
    """

    name: str
    levels: dict[str, str] = Field(default_factory=dict)
    against: str | None = None
    recipe: PlainData = Field(default_factory=dict)
    matched: CostMatch | None = None


class ExcludedCombination(Value):
    """A combination of levels that a design leaves out, and the reason."""

    levels: dict[str, str]
    reason: str


class Design(Value):
    """The arms of an ablation.

    Attributes:
        kind: how arms follow from factors.
        factors: factors of the design.
        arms: arms in the order of training and reporting.
        left_out: combinations that are invalid together.
        match: cost that is equal in all arms.
        tolerance: largest relative difference of this cost.
        within: factors with a separate baseline at each of their levels.
        aliases: for a fractional design, the fraction and the aliased effects, one line each.
        margin: largest negligible difference by quantity, for equivalence tests.
    """

    kind: Kind
    factors: tuple[Factor, ...] = ()
    arms: tuple[DesignArm, ...]
    left_out: tuple[ExcludedCombination, ...] = ()
    match: MatchCriterion = "none"
    tolerance: float = 0.02
    within: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    margin: dict[str, float] = Field(default_factory=dict)

    def arm(self, name: str) -> DesignArm | None:
        """Return the arm with this name, or None if there is none."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """Pairs of an arm and the arm that it is compared with."""
        return tuple((arm.name, arm.against) for arm in self.arms if arm.against is not None)


class SequentialSeeds(Value):
    """Numbers of seeds that the seed rule chose for a study's arms (Stein's two-stage procedure).

    Attributes:
        quantity: quantity that the study decides by.
        min: seeds of every arm in the first stage.
        max: largest number of seeds.
        until: requested half-width of the simultaneous intervals, in the quantity's unit.
        first_stage: seeds of the first stage, which alone estimate the standard deviation.
        deviation: standard deviation between these seeds; NaN if there are too few results.
        degrees: its degrees of freedom.
        critical: simultaneous critical value for these degrees of freedom, or NaN.
        method: method of the intervals (see `analysis.stats.multiple_comparisons`).
        seeds: seeds of each arm, as far as the budget allows.
    """

    quantity: str
    min: int
    max: int
    until: float
    first_stage: tuple[int, ...]
    deviation: float
    degrees: int
    critical: float
    method: str
    seeds: dict[str, int]

    @field_validator("deviation", "critical", mode="before")
    @classmethod
    def _read_nan(cls, value: object) -> object:
        return math.nan if value is None else value  # JSON has no NaN


_THEN = ", then "


class StudyStage(Value):
    """A later stage of a study: selected networks, trained again with fresh seeds.

    Attributes:
        name: name that marks the stage's trials.
        recipe: complete settings of the recipe.
        seeds: seeds of each network.
        chosen: how the networks were selected, as text.
        origins: digest of each network by its name in the stage.
        condition: condition of the study; empty in a study without conditions.
        timed: whether networks without a measurement are timed at the end.
    """

    name: str
    recipe: PlainData
    seeds: tuple[int, ...]
    chosen: str
    origins: dict[str, str]
    condition: str = ""
    timed: bool = True

    def merged_with(self, other: "StudyStage") -> "StudyStage":
        """Return the other stage with the networks, seeds and selections of both."""
        selections = dict.fromkeys([*self.chosen.split(_THEN), *other.chosen.split(_THEN)])
        both = {
            "seeds": max(self.seeds, other.seeds, key=len),
            "origins": {**self.origins, **other.origins},
            "chosen": _THEN.join(selections),
        }
        return other.model_copy(update=both)
