"""Constraints on the parameters and multiply-accumulates of a network, checked by formula."""

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from partialnas.space.cost.formulas import Cost
from partialnas.space.validation import MAX_INTEGER, quote
from partialnas.space.values import Value

_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_QUANTITY = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?)\s*([kMG]?)\s*")


def parse_suffix(raw: object) -> Fraction | None:
    """Return the number of a text such as `1.5G`, `20e6` or `300k`, or None if it is none."""
    match = None if isinstance(raw, bool) else _QUANTITY.fullmatch(str(raw))
    return Fraction(match[1]) * _SUFFIXES[match[2]] if match else None


def parse_count(raw: object) -> int:
    """Parse a whole number written as `20000000`, `20e6`, `20M` or `1.5G`.

    Raises:
        ValueError: The value is none of these, or not whole.
    """
    number = parse_suffix(raw)
    if number is None or number.denominator != 1 or number > MAX_INTEGER:
        raise ValueError(f"expected a whole number such as 20000000, 20e6 or 20M, got {quote(raw)}")
    return int(number)


_DIGITS, _MAX_DIGITS = 4, 17
"""Significant digits of a count in messages; more if two counts would read the same."""

_EXACT_DIGITS = 15
"""Significant digits that show a bound as it was written."""


def format_count(number: int, digits: int = _DIGITS) -> str:
    """Return a count with a suffix, such as `21.3M`."""
    for suffix in ("G", "M", "k"):
        if number >= _SUFFIXES[suffix]:
            return f"{number / _SUFFIXES[suffix]:.{digits}g}{suffix}"
    return str(number)


def _digits_apart(numbers: Iterable[int]) -> int:
    """Return the number of significant digits with which different counts read differently."""
    different = {*numbers}
    for digits in range(_DIGITS, _MAX_DIGITS):
        if len({format_count(number, digits) for number in different}) == len(different):
            return digits
    return _MAX_DIGITS


Quantity = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]
"""A count, written as `20M`, `20e6` or in full."""


class Bounds(Value):
    """Inclusive bounds of a count; at least one of them is stated.

    Attributes:
        min: lower bound, written as `20M`, `20e6` or in full.
        max: upper bound, written likewise.
    """

    min: Quantity | None = None
    max: Quantity | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("expected min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is greater than max {self.max}")
        return self

    def distances(self, number: int) -> tuple[float, ...]:
        """Return the relative distance beyond each stated bound; 0 or less if it is met."""
        low = () if self.min is None else (1 - number / self.min,)
        high = () if self.max is None else (number / self.max - 1,)
        return low + high

    def violation_text(self, number: int) -> str:
        """Describe a count next to the bounds, with enough digits to tell them apart."""
        stated = [bound for bound in (self.min, self.max) if bound is not None]
        digits = _digits_apart([number, *stated])
        low = [] if self.min is None else [f"at least {format_count(self.min, digits)}"]
        high = [] if self.max is None else [f"at most {format_count(self.max, digits)}"]
        return f"{format_count(number, digits)}, expected {' and '.join(low + high)}"

    def comparisons(self) -> Iterator[str]:
        """Yield each stated bound with its sign, such as `<= 500k`."""
        for sign, bound in ((">=", self.min), ("<=", self.max)):
            if bound is not None:
                yield f"{sign} {format_count(bound, _EXACT_DIGITS)}"


class Constraints(Value):
    """Bounds on parameters and multiply-accumulates.

    Attributes:
        params: bounds on parameters.
        macs: bounds on multiply-accumulates for one image of the task, as fvcore counts them.
    """

    params: Bounds | None = None
    macs: Bounds | None = None

    def stated(self) -> Iterator[tuple[str, Bounds]]:
        """Yield the name and bounds of each bounded quantity."""
        for name in type(self).model_fields:
            bounds = getattr(self, name)
            if bounds is not None:
                yield name, bounds

    def distances(self, cost: Cost) -> tuple[float, ...]:
        """Return the relative distance of a cost beyond each stated bound; 0 or less if met."""
        pairs = ((bounds, getattr(cost, name)) for name, bounds in self.stated())
        return tuple(distance for bounds, number in pairs for distance in bounds.distances(number))

    def total_violation(self, cost: Cost) -> float:
        """Return the sum of the relative violations of all bounds; 0 if all are met."""
        return sum(max(0.0, distance) for distance in self.distances(cost))

    def violations(self, cost: Cost) -> list[str]:
        """Return a message for each quantity outside its bounds."""
        return [
            f"{name} {bounds.violation_text(getattr(cost, name))}"
            for name, bounds in self.stated()
            if max(bounds.distances(getattr(cost, name))) > 0
        ]

    def __str__(self) -> str:
        pairs = ((name, text) for name, bounds in self.stated() for text in bounds.comparisons())
        return " and ".join(f"{name} {text}" for name, text in pairs)

    @model_serializer(mode="plain")
    def _as_stated(self) -> dict[str, dict[str, int]]:
        return {name: bounds.model_dump(exclude_none=True) for name, bounds in self.stated()}
