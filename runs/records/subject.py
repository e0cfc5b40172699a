"""Subjects: networks that can be trained and measured, as plain data."""

import json
import re
from typing import Any, TypeAlias

from pydantic import field_validator

from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError
from partialnas.space.validation import quote
from partialnas.space.values import Value, digest, validate_as

_PREFIX = "timm:"


class TimmModel(Value):
    """A model of timm, trained from scratch.

    Attributes:
        timm: name in timm's registry; `check_subject` checks that timm has it.
    """

    timm: str

    @field_validator("timm")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ValueError(
                f"expected an architecture such as resnet18, got {quote(name)} (without the tag of "
                "pretrained weights, because networks are trained from scratch)"
            )
        return name


Subject: TypeAlias = Architecture | TimmModel


def parse_subject(data: Any) -> Subject:
    """Return the subject that plain data describe.

    Args:
        data: `timm:NAME`, plain data from `subject_data`, or a subject, which is returned as it is.

    Raises:
        UserError: the data describe no subject; lists every mistake with its path.
    """
    if isinstance(data, Architecture | TimmModel):
        return data
    if isinstance(data, str) and data.startswith(_PREFIX):
        data = {"timm": data.removeprefix(_PREFIX)}
    if isinstance(data, dict) and "timm" in data:
        return validate_as(TimmModel, data, "not a timm model")
    if isinstance(data, dict):
        return Architecture.from_data(data)
    raise UserError(f"expected timm:NAME or an architecture, got {quote(data)}")


def subject_data(subject: Subject) -> dict[str, Any]:
    """Return plain data that `parse_subject` turns into an equal subject."""
    plain: dict[str, Any] = json.loads(subject.model_dump_json())
    return plain


def subject_digest(subject: Subject) -> str:
    """Return the identity of the built network, 16 hex digits."""
    return subject.digest if isinstance(subject, Architecture) else digest(subject_data(subject))


def subject_name(subject: Subject) -> str:
    """Return the architecture's name, its digest if it has no name, or `timm:NAME`."""
    if isinstance(subject, TimmModel):
        return _PREFIX + subject.timm
    return subject.name or subject.digest
