"""Samplers that propose architectures: Optuna's and our own."""
