"""Base class of immutable validated values, exact fractions, and digests of plain data."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from partialnas.space.errors import UserError
from partialnas.space.validation import quote, strict_numbers, validation_messages


class Value(BaseModel):
    """Base of all values: immutable, compared by content, without unknown keys.

    Integer fields reject `true` and `1.0`; float fields reject `true`.

    Attributes:
        shorthands: keys accepted in plain data besides the fields, such as a preset's name.
        identity_fields: fields that `identity_data` always includes, or None for all fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    shorthands: ClassVar[tuple[str, ...]] = ()
    identity_fields: ClassVar[frozenset[str] | None] = None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields replaced and without cached properties."""
        copy = super().model_copy(update=update, deep=deep)
        for cached in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[cached]
        return copy

    def identity_data(
        self, *, exclude: Iterable[str] = (), by_alias: bool = False
    ) -> dict[str, Any]:
        """Return plain data for digests and comparisons.

        A field outside `identity_fields`, of this value or of one inside it, is left out while it
        has its default. So a field added to a class later changes no existing identity.

        Args:
            exclude: fields that are left out as well.
            by_alias: whether keys are the fields' aliases.
        """
        left_out = {**self._added_defaults(), **dict.fromkeys(exclude, True)}
        return self.model_dump(mode="json", by_alias=by_alias, exclude=left_out)

    def _added_defaults(self) -> dict[Any, Any]:
        """Return the fields that identities leave out, in the form of pydantic's `exclude`."""
        fields = type(self).model_fields
        original = fields.keys() if self.identity_fields is None else self.identity_fields
        left_out: dict[Any, Any] = {}
        for name, field in fields.items():
            value = getattr(self, name)
            if name not in original and value == field.get_default(call_default_factory=True):
                left_out[name] = True
            elif isinstance(value, _COMPOSITE) and (inner := _added_defaults_inside(value)):
                left_out[name] = inner
        return left_out

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        return strict_numbers(handler(source))


_COMPOSITE = (Value, tuple, list, dict)


def _added_defaults_inside(value: object) -> dict[Any, Any]:
    """Return what identities leave out of a value, or of the values in a tuple or dictionary."""
    if isinstance(value, Value):
        return value._added_defaults()
    items: Iterable[tuple[Any, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, tuple | list):
        items = enumerate(value)
    return {key: inner for key, item in items if (inner := _added_defaults_inside(item))}


_FRACTION = re.compile(r"[-+0-9./_]{1,200}([eE][-+]?[0-9]{1,3})?")
"""Fractions of a length that arithmetic handles quickly."""

_LARGEST_TERM = 10**90
"""Largest numerator or denominator, so that a fraction can be written and read again."""


def parse_fraction(value: object) -> Fraction:
    """Return the exact fraction given as `1/4`, `0.25`, `2` or a `Fraction`.

    Raises:
        ValueError: the value is not a finite number or a quotient of integers.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a fraction such as 1/4 or 0.25, got {quote(value)}")
    text = str(value).replace(" ", "")
    try:
        if not _FRACTION.fullmatch(text):
            raise ValueError
        fraction = Fraction(text)
        if max(abs(fraction.numerator), fraction.denominator) > _LARGEST_TERM:
            raise ValueError
        return fraction
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"expected a fraction such as 1/4 or 0.25, got {quote(value)}") from None


Share = Annotated[Fraction, BeforeValidator(parse_fraction), PlainSerializer(str)]
"""An exact fraction, written `1/4` in JSON and YAML."""


def canonical_json(data: Any) -> str:
    """Return JSON with sorted keys and no spaces, so that equal data give equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(data: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of plain data's canonical JSON."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()[:16]


Model = TypeVar("Model", bound=Value)


def validate_as(model: type[Model], data: Any, what: str) -> Model:
    """Return the value that plain data describe.

    Raises:
        UserError: The data are invalid. The message starts with `what` and lists every error with
            its path.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = "\n  ".join(validation_messages(error, model=model))
        raise UserError(f"{what}:\n  {lines}") from None
