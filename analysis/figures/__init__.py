"""Figures by name that look at one study: curves, importance, convergence."""
