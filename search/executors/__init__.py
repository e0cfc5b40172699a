"""Executors that run jobs: in this process, or in workers of Ray."""
