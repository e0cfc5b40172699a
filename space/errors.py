"""Errors that are reported to the user without a traceback, and text that is safe to show."""

import errno
import re
import unicodedata
from pathlib import Path

_JOINERS = "\u200c\u200d"
"""Zero-width characters that emoji and scripts such as Persian are spelled with."""

_NOT_IN_MARKUP = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
"""Control characters without a meaning, and noncharacters."""


class UserError(Exception):
    """Invalid input. The message says what is wrong, where, and what to do (exit code 2)."""


class MachineError(Exception):
    """Failure of the machine on valid input: disk, device, permissions (exit code 1)."""


def is_too_long(error: BaseException | None) -> bool:
    """Return whether a name or path of the user is longer than the file system allows."""
    return isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG


def describe_error(error: BaseException) -> str:
    """Return an exception's type and message on one line, in text that every file can hold."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # the message is a user's code, too
        message = "its message cannot be shown"
    return storable_text(f"{type(error).__name__}: {message}")


def printable(text: str | Path, *, layout: str = "") -> str:
    """Return a text with escape sequences in place of characters that control a terminal.

    Names of files, messages of users' functions and names in earlier ledgers may hold them. Line
    breaks, undecodable bytes and marks that reverse the direction of text are escaped, too.

    Args:
        text: text to show.
        layout: control characters that are kept, such as the line breaks of a message.
    """
    return "".join(
        char if char.isprintable() or char in layout else char.encode("unicode_escape").decode()
        for char in str(text)
    )


def printable_message(text: str) -> str:
    """Return a message that is safe to show; its lines, tabs, spaces and emoji stay as they are."""
    if text.isprintable():
        return text
    kept = {char for char in text if unicodedata.category(char) == "Zs"}
    return printable(text, layout="".join(kept) + "\n\t" + _JOINERS)


def markup_text(text: str) -> str:
    """Return XML or HTML with escape sequences in place of characters that neither may have."""
    return _NOT_IN_MARKUP.sub(lambda match: printable(match[0]), text)


def storable_text(text: str) -> str:
    """Return a text with escape sequences in place of what UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
