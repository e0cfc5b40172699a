"""Learned ratios: tables, plots and checks."""
