"""CUDA graphs of training steps and evaluation batches: which trainings have them, and replay.

After a capture that fails by what it captures, the process cannot use the device any more. Whether
there is a graph is therefore decided by rule, never by trial.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.training.optimizer import TENSOR_RATE_OPTIMIZERS
from partialnas.space.errors import DeviceFaultError, describe_error
from partialnas.space.nn.dpconv import InputDependentMixer

_WARM_UP_CALLS = 3
_MEMORY_MARGIN = 2.5  # a graph keeps its memory while other steps and evaluations need theirs
_STATIC_PACKAGES = ("torch.nn.", "timm.layers.", "partialnas.space.nn.")
_STATIC_TIMM_MODELS = (
    *("_efficientnet_blocks", "convnext", "efficientnet", "fasternet", "mobilenetv3"),
    *("regnet", "resnet"),
)
"""Files of timm whose models compute the same operations for all inputs."""


def supports_graphs(network: nn.Module, recipe: Recipe, micro_batches: int = 1) -> bool:
    """Return whether the steps of a training can be captured as a graph.

    They cannot if they decide on the host: by the scale of float16's gradients, by a rate that the
    optimizer reads there, by the sizes that the images of a batch have, or in modules that are not
    known to be static, such as a user's.
    """
    return (
        micro_batches == 1
        and recipe.precision != "float16"
        and recipe.optimizer in TENSOR_RATE_OPTIMIZERS
        and all(map(_is_static, network.modules()))
    )


def _is_static(module: nn.Module) -> bool:
    if isinstance(module, InputDependentMixer) or getattr(module, "grad_checkpointing", False):
        return False
    if getattr(module, "momentum", 0.0) is None:  # a batch norm that counts its steps on the host
        return False
    source = type(module).__module__ + "."
    timm_models = tuple(f"timm.models.{name}." for name in _STATIC_TIMM_MODELS)
    return source.startswith(_STATIC_PACKAGES + timm_models)


class StepGraph:
    """A function that is captured after its first calls, and then replayed as a CUDA graph.

    The first calls warm up libraries on the stream of the capture. They run the function itself, so
    that no state has to be restored. On a CPU all calls do, and on a GPU that has too little memory
    for a second set of intermediate results.

    Running out of memory does not end a capture: torch's allocator asks CUDA for memory in a mode
    that captures permit (`CUDACachingAllocator.cpp`), and what was captured has not run. All calls
    run the function then, too.

    Args:
        device: device of the function's tensors.
        prepare: context of the capture, and of the decision whether there is memory for it.
    """

    def __init__(
        self,
        device: torch.device,
        prepare: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._device, self._prepare = device, prepare
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, function: Callable[[], None]) -> None:
        """Run a function on the current stream, which on a GPU is a side stream.

        Args:
            function: the same function in all calls, of tensors that stay where they are. Its
                results are written to such tensors, too. It is not kept: a method would keep its
                object, which keeps this graph, until the garbage collector runs.

        Raises:
            DeviceFaultError: The graph cannot be captured. The process cannot use the device any
                more.
        """
        is_warm = self._device.type == "cuda" and self._calls == _WARM_UP_CALLS
        if is_warm and self._graph is None:
            with self._prepare():
                if _has_memory(self._device):
                    self._graph = self._capture(function)
        if self._graph is not None:
            self._graph.replay()
        else:
            self._calls += 1
            function()

    def _capture(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(self._device)
        mode = "thread_local"  # other threads may do what a capture forbids, such as allocate
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode=mode):
                function()
        except torch.OutOfMemoryError:
            return None
        except Exception as error:
            fault = f"a CUDA graph cannot be captured ({describe_error(error)})"
            raise DeviceFaultError(str(self._device), fault) from error
        return graph


def _has_memory(device: torch.device) -> bool:
    """Return whether a capture finds as much memory as the process has used at its peak.

    What other graphs reserve is not free, although none of it may be allocated at this time.
    """
    needed = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction(device) * total
    return _MEMORY_MARGIN * needed < min(free, share - torch.cuda.memory_reserved(device))
