"""Axes of a search space, and how chosen levels are decoded into an architecture."""
