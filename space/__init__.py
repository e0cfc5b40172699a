"""What can be built: architecture values, axes, constraints, cost formulas, networks, presets.

Importing this package takes no torch; `partialnas.space.nn.network` and its neighbours do.
"""
