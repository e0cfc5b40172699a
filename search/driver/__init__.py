"""The scheduler of a study: candidates, successive halving, budgets."""
