"""Describe, measure and compare networks."""
