"""Looking at a network without changing it: evaluation mode for a while, an image to show it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from partialnas.space.arch.input_spec import InputSpec


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode while the context lasts; afterwards every module is in its mode of before."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def blank_images(network: nn.Module, input_spec: InputSpec, batch: int = 1) -> Tensor:
    """N x C x H x W zeros, where the network is and in its precision."""
    return next(network.parameters()).new_zeros(batch, *input_spec.image_shape)
