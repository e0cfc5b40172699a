"""Errors that are reported to the user without a traceback."""


class UserError(Exception):
    """Invalid input. The message says what is wrong, where, and what to do (exit code 2)."""


class MachineError(Exception):
    """Failure of the machine on valid input: disk, device, permissions (exit code 1)."""
