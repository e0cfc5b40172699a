"""Forward passes compiled by `torch.compile` for the device at hand."""

from types import FunctionType

import torch
from torch import Tensor, nn

from partialnas.runs.measure.interleaved_timing import Forward
from partialnas.space.errors import UserError


def compile_forward(name: str, module: nn.Module, images: Tensor) -> Forward:
    """Return a compiled forward pass; call it once before timing, which compiles it.

    The whole network becomes one graph. A network that cannot be compiled as a whole is refused
    instead of falling back silently to PyTorch's operators.

    Args:
        name: name of the network for messages.
        module: network in evaluation mode.
        images: input of every forward pass.
    """

    def forward() -> object:
        return module(images)

    # torch caches compiled code by code object, and limits the cache of each: give every network
    # a code object of its own, however many this process compiles
    function = FunctionType(forward.__code__.replace(), globals(), closure=forward.__closure__)
    compiled: Forward = torch.compile(function, fullgraph=True, dynamic=False)

    def run() -> object:
        try:
            return compiled()
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{name} cannot be compiled as a whole ({type(error).__name__}: {reason}): torch."
                "compile needs a C++ compiler and a network without data-dependent branches; "
                "measure it with runtime eager"
            ) from error

    return run
