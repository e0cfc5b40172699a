"""Exponential moving average of the weights of a network during training."""

from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn


class WeightAverage:
    """The average of timm's `ModelEmaV3` with warm-up, updated without decisions in Python.

    Floating-point weights and buffers are averaged, others copied.

    Args:
        network: network on its device; the average begins as its copy.
        decay: largest decay.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._average = ModelEmaV3(network, decay=decay, use_warmup=True)
        pairs = _common_tensors(self.module, network)
        self._floats = _unzipped([pair for pair in pairs if pair[0].is_floating_point()])
        self._others = _unzipped([pair for pair in pairs if not pair[0].is_floating_point()])

    @property
    def module(self) -> nn.Module:
        """The network with the averaged weights, in evaluation mode."""
        module: nn.Module = self._average.module
        return module

    def share(self, step: int) -> float:
        """Return the share of the new weights after a step, counted from 0."""
        return 1.0 - self._average.get_decay(step + 1)

    @torch.no_grad()
    def update(self, share: float | Tensor) -> None:
        """Move the average towards the weights by a share, a scalar of the host or the device."""
        average, weights = self._floats
        if average[0].device.type == "cpu":
            torch._foreach_lerp_(average, weights, float(share))
        else:  # no multi-tensor kernel takes its weight from the device
            difference = torch._foreach_sub(weights, average)
            torch._foreach_mul_(difference, share)
            torch._foreach_add_(average, difference)
        if self._others[0]:
            torch._foreach_copy_(*self._others)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights, as `ModelEmaV3` names them."""
        state: dict[str, Any] = self._average.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self._average.load_state_dict(state)


def _common_tensors(first: nn.Module, second: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of the stored tensors of two equal networks; extra states are copies."""
    theirs = second.state_dict()
    return [
        (value, theirs[name])
        for name, value in first.state_dict().items()
        if isinstance(value, Tensor) and not name.endswith("_extra_state")
    ]


def _unzipped(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [first for first, _ in pairs], [second for _, second in pairs]
