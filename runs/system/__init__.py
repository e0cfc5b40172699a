"""The machine: devices, locks, files, random seeds, the environment of a run."""
