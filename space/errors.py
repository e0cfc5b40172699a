"""Errors that are reported to the user without a traceback, and text that is safe to show."""

import errno
import re
import unicodedata
from pathlib import Path
from typing import Literal, Self

_JOINERS = "\u200c\u200d"
"""Zero-width characters that emoji and scripts such as Persian are spelled with."""

_NOT_IN_MARKUP = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
"""Control characters without a meaning, and noncharacters."""


class _ReportedError(Exception):
    """An error whose message says everything; notebooks show it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {printable_message(str(self))}"]


class UserError(_ReportedError):
    """Invalid input. The message says what is wrong, where, and what to do (exit code 2)."""


class MachineError(_ReportedError):
    """Failure of the machine on valid input: disk, device, permissions (exit code 1)."""


class DeviceFaultError(MachineError):
    """Fault of a device while a network ran on it, such as a failed assertion of a kernel.

    The process cannot use the device any more. A fresh process can: it tries the network again, and
    after several such faults the network has failed.

    Args:
        device: device, such as `cuda:1`.
        fault: fault in CUDA's words.
    """

    def __init__(self, device: str, fault: str) -> None:
        super().__init__(
            f"device {device} failed: {fault}; this process cannot use it any more. Run the same "
            "command again to resume"
        )
        self.device, self.fault = device, fault

    @property
    def reason(self) -> str:
        """Reason in the record of a trial that ends with this fault."""
        return f"device fault: {self.fault}"

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.device, self.fault)


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
    breaks, undecodable bytes and marks that reverse the direction of text are escaped, too; spaces
    of any width and emoji are not (see `is_printable`).

    Args:
        text: text to show.
        layout: control characters that are kept, such as the line breaks of a message.
    """
    return "".join(
        char if _is_shown(char) or char in layout else char.encode("unicode_escape").decode()
        for char in str(text)
    )


def printable_message(text: str) -> str:
    """Return a message that is safe to show; its line breaks and tabs stay as they are."""
    return text if text.isprintable() else printable(text, layout="\n\t")


def is_printable(text: str) -> bool:
    """Return whether `printable` leaves a text as it is."""
    return all(map(_is_shown, text))


def _is_shown(char: str) -> bool:
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"


def markup_text(text: str) -> str:
    """Return XML or HTML with escape sequences in place of characters that neither may have."""
    return _NOT_IN_MARKUP.sub(lambda match: printable(match[0]), text)


def storable_text(text: str) -> str:
    """Return a text with escape sequences in place of what UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class TrialEndedError(Exception):
    """Raised to end a trial early; `state` and `reason` go to its record."""

    def __init__(self, state: Literal["failed", "timeout"], reason: str) -> None:
        super().__init__(reason)
        self.state: Literal["failed", "timeout"] = state
        self.reason = reason
