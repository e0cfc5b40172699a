"""Trials: from a job to records, by training or by a function of the user."""
