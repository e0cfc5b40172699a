"""Recipes, measurement protocols, limits, quantities and recorded ablation designs."""
