"""How trials run and are measured: recipes, protocols, limits, quantities. Without torch."""
