"""Data sets: reading, splitting and augmenting them."""
