"""Ratios: a part's share of the channels, stated or learned (DPConv, arXiv 2502.01303)."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from partialnas.space.values import Share, Value, parse_fraction

LearningMethod = Literal["threshold", "gates"]
"""How a ratio is learned: one continuous boundary, or the published construction of gates."""

Granularity = Literal["layer", "input"]
"""Whether a layer has one ratio, or one for every image that a predictor chooses."""


def parse_budget(value: object) -> object:
    """`static`, a share of the dense cost (below 1), or multiply-accumulates (1 and above)."""
    if value is None or value == "static":
        return value
    try:
        amount = parse_fraction(value)
    except ValueError:
        amount = Fraction(0)
    if amount <= 0 or (amount >= 1 and amount.denominator > 1):
        raise ValueError(
            "expected static, a share of the dense cost such as 1/4, or a whole number of "
            f"multiply-accumulates, got {value!r}"
        )
    return int(amount) if amount >= 1 else amount


def _written_budget(value: Any) -> Any:
    return str(value) if isinstance(value, Fraction) else value


MacBudget = Annotated[
    Fraction | int | Literal["static"] | None,
    BeforeValidator(parse_budget),
    PlainSerializer(_written_budget),
]
"""What learned ratios may cost."""


class LearnedRatio(Value):
    """A ratio that training finds.

    Attributes:
        method: how it is found.
        per: one ratio for the layer, or one for every image.
        grain: channels that the learned size is a multiple of, so that kernels stay efficient.
        budget: multiply-accumulates that the network ends with. Below 1: this share of what the
            layers with learned ratios would cost as dense 3x3 convolutions. A whole number: of the
            whole network. `static`: what their `start` costs. None: as many as training likes.
        start: the static ratio that learning starts from.
    """

    method: LearningMethod = "threshold"
    per: Granularity = "layer"
    grain: int = Field(default=4, ge=1)
    budget: MacBudget = None
    start: Share = Field(default=Fraction(1, 4), gt=0, lt=1)

    @property
    def shared_settings(self) -> tuple[LearningMethod, Granularity, Fraction | int | str | None]:
        """What all learned ratios of one network have in common."""
        return self.method, self.per, self.budget

    def __str__(self) -> str:
        stated = self.model_dump(mode="json", exclude_defaults=True)
        told = ", ".join(f"{key} {value}" for key, value in stated.items())
        return f"learned ({told})" if told else "learned"


def parse_ratio(value: object) -> Fraction | LearnedRatio | None:
    """A share above 0 and below 1, or what `{learned: {...}}` says.

    Raises:
        ValueError: neither.
    """
    if value is None or isinstance(value, LearnedRatio):
        return value
    if isinstance(value, Mapping):
        if set(value) != {"learned"}:
            raise ValueError(f"expected a share such as 1/4 or {{learned: {{}}}}, got {value!r}")
        terms = {} if value["learned"] is None else value["learned"]
        if not isinstance(terms, Mapping | LearnedRatio):
            raise ValueError(f"expected {{learned: {{budget: 1/4}}}} or the like, got {value!r}")
        return LearnedRatio.model_validate(terms)
    share = parse_fraction(value)
    if not 0 < share < 1:
        raise ValueError(f"expected a share between 0 and 1 such as 1/4, got {value!r}")
    return share


def dump_ratio(ratio: Fraction | LearnedRatio | None) -> Any:
    """Plain data that `parse_ratio` reads back: what was stated, so that a base's start holds."""
    if isinstance(ratio, LearnedRatio):
        return {"learned": ratio.model_dump(mode="json", exclude_unset=True)}
    return None if ratio is None else str(ratio)


Ratio = Annotated[
    Fraction | LearnedRatio, BeforeValidator(parse_ratio), PlainSerializer(dump_ratio)
]
"""A share of the channels, written `1/4` or `{learned: {budget: 1/4}}`."""


def learned_ratio_conflict(ratios: Iterable[LearnedRatio]) -> str | None:
    """What learned ratios of one network that cannot be learned together have; None if they can."""
    terms = {str(ratio.shared_settings): ratio for ratio in ratios}
    if len(terms) < 2:
        return None
    told = " and ".join(map(str, terms.values()))
    return (
        f"learned ratios of one network share method, per and budget; there are {told}: "
        "give all of them the same"
    )


def start_ratio(ratio: Fraction | LearnedRatio | None) -> Fraction:
    """The share that a part has before anything is learned; 0 for what is left over."""
    if isinstance(ratio, LearnedRatio):
        return ratio.start
    return ratio or Fraction(0)


def fill_start_ratios(
    ratios: Sequence[Fraction | LearnedRatio], base: Sequence[Fraction | LearnedRatio]
) -> tuple[Fraction | LearnedRatio, ...]:
    """The ratios, learned ones that state no start beginning at the base's static ratio."""
    filled = list(ratios)
    for index, (ratio, other) in enumerate(zip(ratios, base, strict=False)):
        if isinstance(ratio, LearnedRatio) and "start" not in ratio.model_fields_set:
            filled[index] = ratio.model_copy(update={"start": start_ratio(other)})
    return tuple(filled)
