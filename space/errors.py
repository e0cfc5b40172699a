"""Errors that are reported to the user without a traceback."""


class UserError(Exception):
    """Invalid input. The message says what is wrong, where, and what to do (exit code 2)."""


class MachineError(Exception):
    """Failure of the machine on valid input: disk, device, permissions (exit code 1)."""


def describe_error(error: BaseException) -> str:
    """Return an exception's type and message on one line, in text that every file can hold."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # the message is a user's code, too
        message = "its message cannot be shown"
    return storable_text(f"{type(error).__name__}: {message}")


def storable_text(text: str) -> str:
    """Return a text with escape sequences in place of what UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
