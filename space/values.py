"""Values: frozen, validated plain data, their digests, and how their mistakes are told."""

import hashlib
import json
from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from partialnas.space.errors import UserError


class Value(BaseModel):
    """Base of all values: immutable, compared by content, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


def checked(model: type[Model], data: Any, what: str) -> Model:
    """The value that plain data describe.

    Raises:
        UserError: they do not; `what` was to be read, and every mistake has its path.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = "\n  ".join(dict.fromkeys(mistakes(error)))
        raise UserError(f"{what}:\n  {lines}") from None


def mistakes(error: ValidationError, at: str = "") -> list[str]:
    """One line per mistake: the path of the key, what was wrong, what was found there."""
    errors = [dict(e) for e in error.errors(include_url=False)]
    return [_line(e, at) for e in errors if not _follows(e, errors)]


def _follows(error: dict[str, Any], errors: list[dict[str, Any]]) -> bool:
    """Whether a list is only too short because one of its own items was refused."""
    loc = error["loc"]
    inside = [e for e in errors if len(e["loc"]) > len(loc) and e["loc"][: len(loc)] == loc]
    return error["type"] == "too_short" and bool(inside)


def _line(error: dict[str, Any], at: str) -> str:
    path = join_path([at, *error["loc"]])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key"
    if error["type"] == "missing":
        return f"{path}: missing"
    if error["type"] in ("value_error", "assertion_error"):
        return f"{path}: {message}" if path else message
    return f"{path}: {message[:1].lower()}{message[1:]}, got {error['input']!r}"


def join_path(keys: Iterable[str | int]) -> str:
    """`stages[2].blocks[0].op` from its keys and positions."""
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        elif key != "":
            path += f".{key}" if path else str(key)
    return path
