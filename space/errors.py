"""The two errors that a reader meets; everything else is a defect of partialnas."""


class UserError(Exception):
    """A mistake in what was asked: says what was wrong, where, and what would be right (exit 2)."""


class MachineError(Exception):
    """A machine that cannot do what is right to ask: disk, device, permissions (exit 1)."""
