"""Ablation designs: which arms to train, matched in cost."""
