"""Values: frozen, validated plain data, their digests, and how their mistakes are told."""

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    PlainSerializer,
    ValidationError,
)
from pydantic_core import CoreSchema

from partialnas.space.errors import UserError
from partialnas.space.validation import strict_numbers, validation_messages


class Value(BaseModel):
    """Base of all values: immutable, compared by content, unknown keys refused.

    Where a whole number is asked for, `true` and `1.0` are refused; where a number is, `true` is.

    Attributes:
        shorthands: keys that are read before the fields, such as a preset's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    shorthands: ClassVar[tuple[str, ...]] = ()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields replaced; what was derived from the old ones is derived anew."""
        copy = super().model_copy(update=update, deep=deep)
        for derived in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[derived]
        return copy

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema: CoreSchema = strict_numbers(handler(source))
        return schema


def parse_fraction(value: object) -> Fraction:
    """The exact fraction that `1/4`, `0.25`, `2` or a `Fraction` stands for.

    Raises:
        ValueError: the value is not a finite number or a quotient of whole numbers.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a fraction such as 1/4 or 0.25, got {value!r}")
    try:
        return Fraction(str(value).replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"expected a fraction such as 1/4 or 0.25, got {value!r}") from None


Share = Annotated[Fraction, BeforeValidator(parse_fraction), PlainSerializer(str)]
"""An exact fraction, written `1/4` in JSON and YAML."""


def canonical_json(data: Any) -> str:
    """JSON with sorted keys and no spaces: equal data give equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(data: Any) -> str:
    """The identity of plain data: the first 16 hex digits of the SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()[:16]


Model = TypeVar("Model", bound=Value)


def validate_as(model: type[Model], data: Any, what: str) -> Model:
    """The value that plain data describe.

    Raises:
        UserError: they do not; `what` was to be read, and every mistake has its path.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = "\n  ".join(validation_messages(error, model=model))
        raise UserError(f"{what}:\n  {lines}") from None
