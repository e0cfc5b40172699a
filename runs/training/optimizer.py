"""The optimizer of a recipe."""

from typing import Any

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from partialnas.runs.config.recipe import Recipe

_FUSED = ("adamw", "sgd")


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe, created by timm and fused if possible.

    Weight decay applies only to the weights of convolutions and linear layers: not to biases, norms
    and parameters that the network names in `no_weight_decay()`, such as position tables.
    """
    fused: dict[str, Any] = {"fused": True} if recipe.optimizer in _FUSED else {}
    return create_optimizer_v2(
        network, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, **fused
    )
