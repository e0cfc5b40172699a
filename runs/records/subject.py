"""Subjects: what is trained and measured, one of our architectures or a model of timm."""

import json
import re
from typing import Any, TypeAlias

from pydantic import field_validator

from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError
from partialnas.space.values import Value, digest, validate_as

_PREFIX = "timm:"


class TimmModel(Value):
    """A model of timm, trained from scratch, as a baseline or an arm.

    Attributes:
        timm: its name in timm's registry. Whether timm has it is for `check_subject` to say, which
            takes importing timm.
    """

    timm: str

    @field_validator("timm")
    @classmethod
    def _names_an_architecture(cls, name: str) -> str:
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ValueError(
                f"{name!r} is no name of an architecture such as resnet18 (without the tag of "
                "pretrained weights: networks are trained from scratch)"
            )
        return name


Subject: TypeAlias = Architecture | TimmModel


def parse_subject(data: Any) -> Subject:
    """The subject that `data` stand for.

    Args:
        data: `timm:NAME`, or plain data as `subject_data` gives them: `{"timm": NAME}` or those of
            an architecture; a subject stands for itself.

    Raises:
        UserError: `data` are none of these; names the path of every mistake.
    """
    if isinstance(data, Architecture | TimmModel):
        return data
    if isinstance(data, str) and data.startswith(_PREFIX):
        data = {"timm": data.removeprefix(_PREFIX)}
    if isinstance(data, dict) and "timm" in data:
        return validate_as(TimmModel, data, "not a timm model")
    if isinstance(data, dict):
        return Architecture.from_data(data)
    raise UserError(f"expected timm:NAME or an architecture, got {data!r}")


def subject_data(subject: Subject) -> dict[str, Any]:
    """Plain data that `parse_subject` reads back to an equal subject."""
    plain: dict[str, Any] = json.loads(subject.model_dump_json())
    return plain


def subject_digest(subject: Subject) -> str:
    """Identity of the network that is built, 16 hex digits."""
    return subject.digest if isinstance(subject, Architecture) else digest(subject_data(subject))


def subject_name(subject: Subject) -> str:
    """What people call it: the architecture's name (its digest if it has none), `timm:NAME`."""
    if isinstance(subject, TimmModel):
        return _PREFIX + subject.timm
    return subject.name or subject.digest
