"""partialnas.search."""
