"""Samplers that propose architectures: Optuna's, evolutionary and surrogate-assisted ones."""
