"""Statistics: linear models, multiple comparisons, rank correlation, dominance."""
