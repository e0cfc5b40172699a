"""Ablation results: effects, tables and plots."""
