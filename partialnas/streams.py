"""Standard streams of the command line: open, and able to print any text."""

import codecs
import os
import sys
import unicodedata
from contextlib import suppress

_SUBSTITUTES = {
    "±": "+/-", "−": "-", "–": "-", "—": "-", "×": "x", "·": "*", "…": "...", "→": "->", "≤": "<=",
    "≥": ">=", "Δ": "d", "√": "sqrt", "“": '"', "”": '"', "‘": "'", "’": "'", "─": "-", "━": "-",
}  # fmt: skip
"""What a terminal shows whose encoding lacks these characters."""


def prepare_streams() -> None:
    """Open standard streams that the caller has closed, and let them print any character.

    A file must never get the number of a closed stream, because libraries print to that number.
    Characters that the encoding of a stream lacks are substituted.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    codecs.register_error("partialnas", _substitute)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            stream = os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8")
            setattr(sys, name, stream)
        if number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="partialnas")


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    if character in _SUBSTITUTES:
        return _SUBSTITUTES[character]
    decomposed = unicodedata.normalize("NFKD", character)
    return decomposed.encode("ascii", "ignore").decode() or "?"


def discard_output() -> None:
    """Send what is still unwritten to nowhere, after the output could not be written."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
