"""Limits on trained and measured quantities, and how far values exceed them."""

import math
from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from partialnas.space.values import Value


class Limit(Value):
    """Bounds of a quantity, both inclusive; at least one is given.

    Attributes:
        min: lower bound.
        max: upper bound.
    """

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)

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

    def __str__(self) -> str:
        bounds = (("at least", self.min), ("at most", self.max))
        return ", ".join(f"{how} {bound:g}" for how, bound in bounds if bound is not None)


def limit_excess(limits: Mapping[str, Limit], values: Mapping[str, float]) -> dict[str, float]:
    """Return the excess over each limit (see `Limit.excess`); infinite for a missing value."""
    return {name: limit.excess(values.get(name, math.nan)) for name, limit in limits.items()}


def total_violation(excess: Mapping[str, float]) -> float:
    """Return the sum of positive excesses; 0 if all limits are satisfied."""
    return sum(max(0.0, value) for value in excess.values())
