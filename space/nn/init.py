"""Initial weights, drawn separately for each parameter.

Two networks with the same seed have the same initial value for each parameter that has the same
name and shape in both.
"""

import hashlib

import torch
from torch import Tensor, nn

from partialnas.space.nn.attention import PositionBias

WEIGHT_STD = 0.02


def initialize(network: nn.Module, seed: int) -> None:
    """Initialize the weights of a network in place, each parameter from its own generator.

    Weights of convolutions and linear layers are normal with std 0.02. Biases and position tables
    are 0. Norms have weight 1, bias 0 and fresh running statistics. The result does not depend on
    the device or the memory format of the network.
    """
    for name, module in network.named_modules():
        match module:
            case nn.Conv2d() | nn.Linear():
                initialize_layer(module, name, seed)
            case nn.BatchNorm2d() | nn.LayerNorm():
                module.reset_parameters()
            case PositionBias():
                nn.init.zeros_(module.table)


def initialize_layer(layer: nn.Conv2d | nn.Linear, name: str, seed: int) -> None:
    """Initialize the weights of the layer called `name`; its bias becomes 0."""
    if layer.weight.is_meta:  # there are no values, and drawing them takes seconds
        return
    with torch.no_grad():
        layer.weight.copy_(_normal(layer.weight.shape, f"{name}.weight", seed))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def fresh_seed() -> int:
    """Return a seed from torch's global generator, different at every call."""
    return int(torch.randint(2**62, (), device="cpu"))


def _normal(shape: torch.Size, name: str, seed: int) -> Tensor:
    # Truncation at +-2, a hundred standard deviations away, would have no effect.
    key = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8]))
    return torch.randn(shape, generator=generator, device="cpu") * WEIGHT_STD
