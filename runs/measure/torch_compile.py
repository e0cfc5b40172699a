"""Networks as code that `torch.compile` generates for the device at hand."""

from types import FunctionType

import torch
from torch import Tensor, nn

from partialnas.runs.measure.interleaved_timing import Forward
from partialnas.space.errors import UserError


def compile_forward(name: str, module: nn.Module, images: Tensor) -> Forward:
    """A forward pass by generated code; call it once before it is timed, which generates it.

    The whole network becomes one graph: what cannot be compiled is refused instead of run by
    PyTorch's operators in silence.

    Args:
        name: of the network, for messages.
        module: in evaluation mode.
        images: that it always runs on.
    """

    def forward() -> object:
        return module(images)

    # torch keeps what it has compiled by code object, and only so much for each: one for each
    # network, whatever else this process has compiled
    own = FunctionType(forward.__code__.replace(), globals(), closure=forward.__closure__)
    generated: Forward = torch.compile(own, fullgraph=True, dynamic=False)

    def run() -> object:
        try:
            return generated()
        except torch._dynamo.exc.TorchDynamoException as error:
            told = str(error).strip().splitlines()[0]
            raise UserError(
                f"{name} cannot be compiled as a whole ({type(error).__name__}: {told}): torch."
                "compile needs a C++ compiler, and a network without branches on its data; measure "
                "it with runtime eager"
            ) from error

    return run
