"""Resolve the names in a study to the objects that a run needs."""
