"""Captions of figures and tables in three lengths: full, short or none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from partialnas.space.errors import UserError
from partialnas.space.validation import suggest

CaptionLength = Literal["full", "short", "none"]


@dataclass(frozen=True)
class Caption:
    """The sentences of a caption; empty ones are left out.

    Attributes:
        brief: what is shown, with the meaning of its marks, bars and intervals.
        details: what checklists of conferences ask for besides: method, device, compute.
    """

    brief: Sequence[str]
    details: Sequence[str] = ()

    def text(self, length: CaptionLength = "full") -> str:
        """Return the caption in a length; `none` is an empty text."""
        sentences = {"full": (*self.brief, *self.details), "short": (*self.brief,), "none": ()}
        return " ".join(filter(None, sentences[length]))

    def plus(self, *marks: str) -> "Caption":
        """Return the caption with the meaning of further marks."""
        return replace(self, brief=(*self.brief, *marks))


def check_caption_length(length: str) -> None:
    """Check that a length of captions exists.

    Raises:
        UserError: the length is unknown.
    """
    if length not in get_args(CaptionLength):
        raise UserError(f"unknown caption {length!r}; {suggest(length, get_args(CaptionLength))}")
