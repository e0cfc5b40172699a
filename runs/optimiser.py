"""What a recipe's words for the optimiser stand for."""

import math
from typing import Any

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from partialnas.runs.recipe import Recipe

_FUSED = ("adamw", "sgd")
_START = 25  # one_cycle begins at this fraction of its peak


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser, from timm, fused where it can be.

    Weight decay reaches the weights of convolutions and linear layers only: no bias, no norm and
    nothing that the network itself names in `no_weight_decay()`, such as position tables.
    """
    fused: dict[str, Any] = {"fused": True} if recipe.optimizer in _FUSED else {}
    return create_optimizer_v2(
        network, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, **fused
    )


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


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives all parameters the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
