"""What a recipe's words for the optimiser stand for."""

from typing import Any

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from partialnas.runs.config.recipe import Recipe

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


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives all parameters the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
