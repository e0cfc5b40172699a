"""The optimizer of a recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from partialnas.runs.config.recipe import Recipe

TENSOR_RATE_OPTIMIZERS = ("adamw", "sgd")
"""Fused optimizers, which read their learning rate from the device; others need it on the host."""


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe, created by timm and fused if possible.

    Weight decay applies only to the weights of convolutions and linear layers: not to biases, norms
    and parameters that the network names in `no_weight_decay()`, such as position tables.

    `muon` flattens the weight of a convolution to a matrix (output channels x the rest). timm gives
    AdamW what is no such matrix: biases, norms, depthwise convolutions and matrices with a side
    below 4. The classifier and the parameters of `no_weight_decay()` are left to AdamW as well, as
    Muon's author advises (https://kellerjordan.github.io/posts/muon/).
    """
    options: dict[str, Any] = {"fused": True} if recipe.optimizer in TENSOR_RATE_OPTIMIZERS else {}
    if recipe.optimizer == "muon":
        options = {
            "fallback_list": _classifier_parameters(network),
            "fallback_no_weight_decay": True,
        }
    return create_optimizer_v2(
        network, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, **options
    )


def _classifier_parameters(network: nn.Module) -> list[str]:
    """Return the names of the parameters of the layer of the logits, if the network names it."""
    get_classifier = getattr(network, "get_classifier", None)
    layers = get_classifier() if callable(get_classifier) else ()
    several = layers if isinstance(layers, tuple | list) else (layers,)
    modules = [layer for layer in several if isinstance(layer, nn.Module)]
    final = {id(value) for module in modules for value in module.parameters()}
    return [name for name, value in network.named_parameters() if id(value) in final]


@contextmanager
def capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let a step of a fused optimizer be captured; torch refuses it without this setting.

    Gradients are freed, because those of the graph are elsewhere.
    """
    optimizer.zero_grad(set_to_none=True)
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False
