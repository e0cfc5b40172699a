"""Ablation designs as a study's ledger remembers them: arms, what each stands for, how matched.

Plain values, no torch. `search.ablation` compiles them from a study; analysis reads them.
"""

from typing import Literal

from pydantic import Field

from partialnas.runs.config.overrides import PlainData
from partialnas.space.values import Value

DesignKind = Literal[
    "one-factor", "leave-one-out", "add-one-in", "factorial", "fractional", "ladder"
]
"""Designs of an ablation; `search.ablation.designs` has the layout of each."""

Kind = Literal[DesignKind, "arms"]
"""How arms follow from factors; `arms` is a plain list of named networks without factors."""

CROSSED_DESIGNS: tuple[DesignKind, ...] = ("factorial", "fractional")
"""Designs that combine the levels of all factors, so that main effects can be estimated."""

MatchCriterion = Literal["macs", "params", "latency", "none"]
"""What an arm's twin has in common with the network that it is compared with."""


class Factor(Value):
    """One thing that a design varies.

    Attributes:
        name: a setting of the network, of the recipe (`recipe.mixup`), or what the study calls it.
        levels: their labels, in the study's order.
        baseline: the level that the baseline has.
    """

    name: str
    levels: tuple[str, ...]
    baseline: str


class CostMatch(Value):
    """How an arm's widths were adjusted so that it costs what its baseline costs.

    Attributes:
        quantity: what was matched: macs, params or latency (ms).
        target: of the arm that it is compared with.
        before: of the arm as the factors make it.
        reached: of the twin that is trained.
        width: channels of each stage, before and after.
        mlp_ratio: hidden width of the MLP over the width, before and after.
        problem: why no twin within the tolerance was found; empty where one was.
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
        """Whether the twin's widths are other than those that the factors make."""
        return self.width[0] != self.width[1] or self.mlp_ratio[0] != self.mlp_ratio[1]

    @property
    def error(self) -> float:
        """The share by which the twin costs more than the target; negative for less."""
        return self.reached / self.target - 1


class DesignArm(Value):
    """One arm of a design.

    Attributes:
        name: as tables call it.
        levels: the level of each factor.
        against: the arm that it is compared with; None for one that others are compared with.
        recipe: settings of the recipe in place of the study's, by their names in the recipe.
        matched: how its twin was found; None where nothing was to be matched.
    """

    name: str
    levels: dict[str, str] = Field(default_factory=dict)
    against: str | None = None
    recipe: PlainData = Field(default_factory=dict)
    matched: CostMatch | None = None


class ExcludedCombination(Value):
    """A combination of levels that a design does not have, and why."""

    levels: dict[str, str]
    reason: str


class Design(Value):
    """The arms of an ablation.

    Attributes:
        kind: how they are made of factors.
        factors: what varies.
        arms: in the order in which they are trained and told.
        left_out: combinations that make no sense together.
        match: what is equal in all arms.
        tolerance: by which share at most it differs.
        within: factors whose levels are compared with a baseline of the same level.
        aliases: of a fractional design, which fraction it is, and which effects cannot be told
            apart, one line each.
        margin: differences that make no difference, by quantity, for equivalence tests.
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
        """The arm of this name, if there is one."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """Each arm with the one that it is compared with."""
        return tuple((arm.name, arm.against) for arm in self.arms if arm.against is not None)


class SequentialSeeds(Value):
    """How many seeds a study's arms were given after the first of them (Stein's procedure).

    Attributes:
        quantity: that the study decides by.
        min: seeds of every arm at first.
        max: seeds at most.
        until: half the width of the simultaneous interval that was wanted, in the quantity's unit.
        first_stage: the seeds at first, which alone tell the spread.
        deviation: between these seeds.
        degrees: of freedom of it.
        critical: simultaneous critical value that belongs to them.
        method: of the intervals (see `runs.contrasts`).
        seeds: of each arm now, as far as the budget lasts.
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


_THEN = ", then "


class StudyStage(Value):
    """A later stage of a study: chosen arms, trained again with fresh seeds.

    Attributes:
        name: as trials are marked with it.
        recipe: how arms are trained in it, every setting stated.
        seeds: that they are trained with.
        chosen: how the arms were chosen, in words.
        origins: of each arm, by its name in the stage, the digest of its network.
        condition: of the study that it is under; empty where the study has none.
        timed: whether networks that were never timed are timed at its end.
    """

    name: str
    recipe: PlainData
    seeds: tuple[int, ...]
    chosen: str
    origins: dict[str, str]
    condition: str = ""
    timed: bool = True

    def merged_with(self, other: "StudyStage") -> "StudyStage":
        """The other one, with the seeds and the arms of both, and how all of them were chosen."""
        words = dict.fromkeys([*self.chosen.split(_THEN), *other.chosen.split(_THEN)])
        both = {
            "seeds": max(self.seeds, other.seeds, key=len),
            "origins": {**self.origins, **other.origins},
            "chosen": _THEN.join(words),
        }
        return other.model_copy(update=both)
