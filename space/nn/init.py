"""Initial weights, drawn for each parameter by itself.

Two networks with the same seed have the same weights wherever a parameter of the same name and
shape occurs in both, whatever else they are made of.
"""

import hashlib

import torch
from torch import Tensor, nn

from partialnas.space.nn.attention import PositionBias

WEIGHT_STD = 0.02


def initialize(network: nn.Module, seed: int) -> None:
    """Draws the weights of a network anew, each from its own generator.

    Weights of convolutions and linear layers are normal with std 0.02, biases 0, norms 1 and 0
    with fresh running statistics, position tables 0. The device and the memory format of the
    network do not matter.
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
    """Draws the weights of the layer called `name`; its bias becomes 0."""
    with torch.no_grad():
        layer.weight.copy_(_normal(layer.weight.shape, f"{name}.weight", seed))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def fresh_seed() -> int:
    """A seed from torch's global generator: follows `torch.manual_seed`, differs at every call."""
    return int(torch.randint(2**62, (), device="cpu"))


def _normal(shape: torch.Size, name: str, seed: int) -> Tensor:
    # A truncation at +-2, a hundred standard deviations away, would never take place.
    key = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8]))
    return torch.randn(shape, generator=generator, device="cpu") * WEIGHT_STD
