"""Limits: bounds on what networks reach in training and on the device."""

import math
from typing import Self

from pydantic import Field, model_validator

from partialnas.space.values import Value


class Limit(Value):
    """The least and the most of a quantity, both allowed; at least one is stated.

    Attributes:
        min: the least.
        max: the most.
    """

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _least_is_below_most(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("expected min, max or both, such as {max: 5.0}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min: expected at most max, {self.max:g}, got {self.min:g}")
        return self

    def excess(self, value: float) -> float:
        """How far a value is outside, as a share of the bound; 0 or less where it is allowed.

        As shares, the limits on different quantities can be added up. A bound of 0 has no share:
        the distance itself stands for it.
        """
        bounds = ((self.min, -1.0), (self.max, 1.0))
        return max(
            sign * (value - bound) / (abs(bound) or 1.0)
            for bound, sign in bounds
            if bound is not None
        )

    def admits(self, value: float) -> bool:
        """Whether a value is allowed; one that is not known is not."""
        return math.isfinite(value) and self.excess(value) <= 0

    def __str__(self) -> str:
        bounds = (("at least", self.min), ("at most", self.max))
        return ", ".join(f"{how} {bound:g}" for how, bound in bounds if bound is not None)
