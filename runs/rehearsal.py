"""Rehearsals: studies played with made-up results, and how everything tells them from real ones.

A rehearsal has a name of its own, so that whatever names its study says what it is. Takes no torch.
"""

SUFFIX = "-rehearsal"
"""How the name of every rehearsal ends, and of no other study."""

NOTICE = "Rehearsal: made-up results, nothing was trained or measured."
"""What captions and tables of a rehearsal say."""

_LONGEST = 64


def rehearsal_name(study: str) -> str:
    """The name of a study's rehearsal."""
    return study[: _LONGEST - len(SUFFIX)] + SUFFIX


def is_rehearsal(study: str) -> bool:
    """Whether a study of this name is a rehearsal."""
    return study.endswith(SUFFIX)
