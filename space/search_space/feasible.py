"""Which architectures of a space satisfy its constraints."""

_NO_COST = 1e6
"""Further from the constraints than any network whose cost can be told."""
