"""Ratios: a part's share of the channels, fixed or learned (DPConv, arXiv 2502.01303)."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer

from partialnas.space.validation import quote
from partialnas.space.values import Share, Value, parse_fraction

LearningMethod = Literal["threshold", "gates"]
"""How a ratio is learned: by one continuous boundary, or by the published gates."""

Granularity = Literal["layer", "input"]
"""One ratio per layer, or one per image that a predictor chooses."""


def parse_budget(value: object) -> Fraction | int | str | None:
    """Parse a budget: `static`, a share of the dense cost (below 1) or MACs (from 1)."""
    if value is None or value == "static":
        return None if value is None else "static"
    try:
        amount = parse_fraction(value)
    except ValueError:
        amount = Fraction(0)
    if amount <= 0 or (amount >= 1 and amount.denominator > 1):
        raise ValueError(
            "expected static, a share of the dense cost such as 1/4, or a whole number of "
            f"multiply-accumulates, got {quote(value)}"
        )
    return int(amount) if amount >= 1 else amount


def _dump_budget(value: Any) -> Any:
    return str(value) if isinstance(value, Fraction) else value


_Budget = Fraction | int | Literal["static"] | None
MacBudget = Annotated[_Budget, BeforeValidator(parse_budget), PlainSerializer(_dump_budget)]
"""Cost that learned ratios may reach: see `LearnedRatio.budget`."""


class LearnedRatio(Value):
    """A ratio that is learned during training.

    Attributes:
        method: learning method.
        per: whether the layer has one ratio, or one for every image.
        grain: number of channels that the learned size is a multiple of, for efficient kernels.
        budget: multiply-accumulates after learning. Below 1: share of the cost of the layers with
            learned ratios as dense 3x3 convolutions. A whole number: cost of the whole network.
            `static`: cost of the `start` ratios. Not set: no limit.
        start: ratio that learning starts from.
    """

    method: LearningMethod = "threshold"
    per: Granularity = "layer"
    grain: int = Field(default=4, ge=1, le=65_536)
    budget: MacBudget = None
    start: Share = Field(default=Fraction(1, 4), gt=0, lt=1)

    @property
    def shared_settings(self) -> tuple[LearningMethod, Granularity, Fraction | int | str | None]:
        """Settings that all learned ratios of one network share."""
        return self.method, self.per, self.budget

    def __str__(self) -> str:
        stated = self.model_dump(mode="json", exclude_defaults=True)
        settings = ", ".join(f"{key} {value}" for key, value in stated.items())
        return f"learned ({settings})" if settings else "learned"


class LearningSettings(NamedTuple):
    """How the ratios of a built block are learned.

    Attributes:
        parts: positions of the parts with a learned size.
        grain: number of channels that each learned size is a multiple of.
        method: learning method.
        per: whether the layer has one size, or one for every image.
        budget: as `LearnedRatio.budget`, written as text.
    """

    parts: tuple[int, ...]
    grain: int
    method: LearningMethod
    per: Granularity
    budget: str | None


def parse_ratio(value: object) -> Fraction | LearnedRatio | None:
    """Parse a share above 0 and below 1, or `{learned: {...}}`.

    Raises:
        ValueError: The value is neither.
    """
    if value is None or isinstance(value, LearnedRatio):
        return value
    if isinstance(value, Mapping):
        if set(value) != {"learned"}:
            expected = "expected a share such as 1/4 or {learned: {}}"
            raise ValueError(f"{expected}, got {quote(value)}")
        terms = {} if value["learned"] is None else value["learned"]
        if not isinstance(terms, Mapping | LearnedRatio):
            raise ValueError(
                f"expected settings such as {{learned: {{budget: 1/4}}}}, got {quote(value)}"
            )
        return LearnedRatio.model_validate(terms)
    share = parse_fraction(value)
    if not 0 < share < 1:
        raise ValueError(f"expected a share between 0 and 1 such as 1/4, got {quote(value)}")
    return share


def dump_ratio(ratio: Fraction | LearnedRatio | None) -> Any:
    """Return plain data for `parse_ratio`, with explicitly set fields only.

    A start that is not set is taken from the base again.
    """
    if isinstance(ratio, LearnedRatio):
        return {"learned": ratio.model_dump(mode="json", exclude_unset=True)}
    return None if ratio is None else str(ratio)


Ratio = Annotated[
    Fraction | LearnedRatio, BeforeValidator(parse_ratio), PlainSerializer(dump_ratio)
]
"""A share of the channels, written `1/4` or `{learned: {budget: 1/4}}`."""


def learned_ratio_conflict(ratios: Iterable[LearnedRatio]) -> str | None:
    """Return why these ratios cannot be learned in one network, or None if they can."""
    terms = {str(ratio.shared_settings): ratio for ratio in ratios}
    if len(terms) < 2:
        return None
    stated = " and ".join(map(str, terms.values()))
    return f"learned ratios of one network must have the same method, per and budget, got {stated}"


def start_ratio(ratio: Fraction | LearnedRatio | None) -> Fraction:
    """Return a part's share before anything is learned; 0 for the last part of a block."""
    if isinstance(ratio, LearnedRatio):
        return ratio.start
    return ratio or Fraction(0)


def fill_start_ratios(ratios: Sequence[Ratio], base: Sequence[Ratio]) -> tuple[Ratio, ...]:
    """Return the ratios; learned ones without a start begin at the base's ratio."""
    filled = list(ratios)
    for index, (ratio, other) in enumerate(zip(ratios, base, strict=False)):
        if isinstance(ratio, LearnedRatio) and "start" not in ratio.model_fields_set:
            filled[index] = ratio.model_copy(update={"start": start_ratio(other)})
    return tuple(filled)
