"""Cost formulas, cost constraints, and networks matched in cost. Without torch."""
