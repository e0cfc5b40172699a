"""partialnas."""
