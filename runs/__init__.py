"""partialnas.runs."""
