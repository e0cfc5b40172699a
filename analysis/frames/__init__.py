"""Ledgers as tables: trials, timings, seed means, feasibility."""
