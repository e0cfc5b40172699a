"""Learning-rate schedule: warm-up, then half a cosine."""

import math

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.training.optimizer import _START


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of one of `steps` steps, counted from 0: a function of these alone.

    After the warm-up `one_cycle` and `cosine` fall to zero along half a cosine. The warm-up of
    `one_cycle` is half a cosine too, from a 25th of the peak; the others rise along a line.
    `trapezoid` rises and falls along lines, and where these meet before its peak it has none.
    """
    if recipe.schedule == "trapezoid":
        fall = recipe.cool_down * steps
        risen, left = (step + 1) / (recipe.warmup_steps + 1), (steps - step) / fall
        return recipe.lr * min(risen, 1.0, left)
    peak = recipe.warmup * steps
    if step < peak:
        risen = (step + 1) / (peak + 1)
        if recipe.schedule == "one_cycle":
            return recipe.lr * (1 / _START + (1 - 1 / _START) * _half_cosine(risen))
        return recipe.lr * risen
    if recipe.schedule == "constant":
        return recipe.lr
    return recipe.lr * (1 - _half_cosine((step - peak) / (steps - peak)))


def _half_cosine(share: float) -> float:
    """From 0 to 1, slowly at both ends."""
    return (1 - math.cos(math.pi * share)) / 2
