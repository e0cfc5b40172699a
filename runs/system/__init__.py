"""Devices, locks, files, random seeds and the environment of a run."""
