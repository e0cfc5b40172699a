"""Audits: how well short trainings rank networks."""
