"""Learning-rate schedules: warm-up, then cosine, constant or linear decay."""

import math

import numpy as np
import torch
from torch import Tensor

from partialnas.runs.config.recipe import Recipe

_ONE_CYCLE_START = 25  # `one_cycle` starts at the peak over this


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of step `step` (from 0) of `steps`.

    After the warm-up, `one_cycle` and `cosine` decay to zero along half a cosine. The warm-up of
    `one_cycle` is half a cosine from a 25th of the peak; the other schedules rise linearly.
    `trapezoid` rises and falls linearly; it does not reach its peak if the two lines meet before.
    """
    if recipe.schedule == "trapezoid":
        fall = recipe.cool_down * steps
        risen, left = (step + 1) / (recipe.warmup_steps + 1), (steps - step) / fall
        return recipe.lr * min(risen, 1.0, left)
    warmup = recipe.warmup * steps
    if step < warmup:
        risen = (step + 1) / (warmup + 1)
        if recipe.schedule == "one_cycle":
            start = 1 / _ONE_CYCLE_START
            return recipe.lr * (start + (1 - start) * _half_cosine(risen))
        return recipe.lr * risen
    if recipe.schedule == "constant":
        return recipe.lr
    return recipe.lr * (1 - _half_cosine((step - warmup) / (steps - warmup)))


def _half_cosine(share: float) -> float:
    """Map 0..1 to 0..1 along half a cosine."""
    return (1 - math.cos(math.pi * share)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float | Tensor) -> None:
    """Set the learning rate of all parameters, rounded to float32.

    A rate in a tensor, which only some optimizers accept (see `TENSOR_RATE_OPTIMIZERS`), is a
    float32, too, so that both give the same weights.
    """
    if not isinstance(rate, Tensor):
        rate = float(np.float32(rate))
    for group in optimizer.param_groups:
        group["lr"] = rate
