"""Pareto fronts: table, figure and caption."""
