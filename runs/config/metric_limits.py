"""Limits on trained and measured quantities, how far values exceed them, and what is undecided.

Search and analysis test limits with these functions, on values of one scale: means over seeds, and
speeds relative to the reference times the median of its timings (`ReferenceScale`).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from partialnas.space.cost.constraints import parse_suffix
from partialnas.space.values import Value


def _expand_suffix(raw: object) -> object:
    number = parse_suffix(raw) if isinstance(raw, str) else None
    return raw if number is None else float(number)


Bound = Annotated[
    Annotated[float, Field(allow_inf_nan=False)] | None, BeforeValidator(_expand_suffix)
]
"""A number; texts may have the suffixes of constraints, such as `300k` and `1.5G`."""


class Limit(Value):
    """Bounds of a quantity, both inclusive; at least one is given.

    Attributes:
        min: lower bound, written as `5.0`, `20e6` or `20M`.
        max: upper bound, written likewise.
    """

    min: Bound = None
    max: Bound = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("expected min, max or both, such as {max: 5.0}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min: expected at most max, {self.max:g}, got {self.min:g}")
        return self

    def excess(self, value: float) -> float:
        """Return how far a value exceeds the bounds, as a share of the violated bound.

        The result is at most 0 if the value satisfies the limit and infinite if it is not finite.
        Shares of different quantities can be added up. For a bound of 0 the distance itself is
        returned.
        """
        if not math.isfinite(value):
            return math.inf
        bounds = [(b, sign) for b, sign in ((self.min, -1.0), (self.max, 1.0)) if b is not None]
        return max(sign * (value - b) / (abs(b) or 1.0) for b, sign in bounds)

    def is_met(self, value: float) -> bool:
        """Return whether a value satisfies the limit."""
        return self.excess(value) <= 0

    def __str__(self) -> str:
        bounds = (("at least", self.min), ("at most", self.max))
        return ", ".join(f"{how} {bound:.12g}" for how, bound in bounds if bound is not None)


Verdict = Literal["yes", "no", "?"]
"""Whether a network is within limits; `?` if its values do not decide."""


class Reading(NamedTuple):
    """A value to compare with a limit, and how far it can be trusted.

    Attributes:
        value: the value; NaN if it is missing.
        low: lower end of its 95 % interval; NaN if unknown.
        high: upper end.
        is_marked: whether it is a noisy or disturbed timing.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    is_marked: bool = False


def within_limits(limits: Mapping[str, Limit], readings: Mapping[str, Reading]) -> Verdict:
    """Return whether readings are within the limits: `yes`, `no`, or `?` for undecided.

    A limit is undecided if the interval of the reading contains one of its bounds, if the reading
    is marked, or if it is missing. One limit that is surely violated makes `no`. Searches and
    fronts do not wait for a decision: they go by the value itself (see `limit_excess`).
    """
    verdicts = [_verdict(limit, readings[name]) for name, limit in limits.items()]
    return "no" if "no" in verdicts else "?" if "?" in verdicts else "yes"


def _verdict(limit: Limit, reading: Reading) -> Verdict:
    if reading.is_marked or not math.isfinite(reading.value):
        return "?"
    ends = [end for end in reading[:3] if math.isfinite(end)]
    if all(map(limit.is_met, ends)):
        return "yes"
    above = limit.max is not None and min(ends) > limit.max
    below = limit.min is not None and max(ends) < limit.min
    return "no" if above or below else "?"


def limit_excess(limits: Mapping[str, Limit], values: Mapping[str, float]) -> dict[str, float]:
    """Return the excess over each limit (see `Limit.excess`); infinite for a missing value."""
    return {name: limit.excess(values.get(name, math.nan)) for name, limit in limits.items()}


def total_violation(excess: Mapping[str, float]) -> float:
    """Return the sum of positive excesses; 0 if all limits are satisfied."""
    return sum(max(0.0, value) for value in excess.values())
