"""Forward passes compiled by `torch.compile` for the device at hand."""

from collections.abc import Callable
from types import FunctionType

import torch
from torch import Tensor, nn

from partialnas.space.errors import UserError


def compile_forward(name: str, module: nn.Module) -> Callable[[Tensor], object]:
    """Return a compiled forward pass; call it once before timing, which compiles it.

    The whole network becomes one graph. A network that cannot be compiled as a whole is refused
    instead of falling back silently to PyTorch's operators.

    Args:
        name: name of the network for messages.
        module: network in evaluation mode; its images always have one shape.
    """

    def forward(images: Tensor) -> object:
        return module(images)

    # torch caches compiled code by code object, and limits the cache of each: give every network
    # a code object of its own, however many this process compiles
    function = FunctionType(forward.__code__.replace(), globals(), closure=forward.__closure__)
    compiled: Callable[[Tensor], object] = torch.compile(function, fullgraph=True, dynamic=False)

    def run(images: Tensor) -> object:
        try:
            return compiled(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{name} cannot be compiled as a whole ({type(error).__name__}: {reason}): torch."
                "compile needs a C++ compiler and a network without data-dependent branches; "
                "measure it with runtime eager"
            ) from error

    return run
