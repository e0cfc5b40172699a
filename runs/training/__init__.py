"""The training of one trial, from job to record."""
