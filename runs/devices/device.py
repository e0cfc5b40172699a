"""PyTorch devices: lookup by name, number of GPUs, what their errors mean."""

from contextlib import suppress

import torch

from partialnas.space.errors import MachineError, UserError

NO_ENGINE = "unable to find an engine"
"""Part of torch's message when cuDNN cannot run a convolution.

Usually no algorithm gets the memory it needs: torch tries one after the other and passes over those
that run out of memory (`Conv_v8.cpp`). An operation that cuDNN does not support has the same
message.
"""

_NO_MEMORY = (
    *("DefaultCPUAllocator", "std::bad_alloc", "posix_memalign", "could not create a primitive"),
    *("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
    *("CUSOLVER_STATUS_ALLOC_FAILED", "Unable to find a valid cuDNN algorithm", NO_ENGINE),
)
"""Parts of torch's messages when a device runs out of memory, besides its own class of errors.

"could not create a primitive" is oneDNN's only message; networks that it can run fail with it for
lack of memory.
"""

_CONTEXT_BYTES = 2**29
"""Memory that CUDA takes in each process, beside torch's allocator: context and kernels."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device or the machine ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _NO_MEMORY)


def device_fault(error: BaseException, device: str) -> str | None:
    """Return the fault of a device that an error shows, in CUDA's words, or None for another error.

    After a fault every call fails, each library with a message of its own, so a GPU is also asked.

    Args:
        error: error that is not about memory.
        device: device that the network ran on.
    """
    if not isinstance(error, torch.AcceleratorError):
        if not device.startswith("cuda"):
            return None
        try:
            torch.cuda.synchronize(device)
            return None
        except torch.AcceleratorError as fault:
            error = fault
    first_line = str(error).partition("\n")[0]
    return first_line.removeprefix("CUDA error: ").strip() or "unknown error"


def wait_for_device(device: torch.device) -> None:
    """Wait for all work on a device, which may be far behind the host.

    A fault of the device ends the wait, and is raised by what uses the device next.
    """
    if device.type == "cuda":
        with suppress(torch.AcceleratorError):
            torch.cuda.synchronize(device)


def count_gpus() -> int:
    """Return the number of GPUs that PyTorch can use on this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def limit_memory(device: str, share: float) -> None:
    """Limit the memory that torch allocates on a GPU to a share, less what CUDA itself takes.

    An allocation beyond the limit is out of memory, whatever other processes have allocated.

    Args:
        device: `cuda` or, for example, `cuda:1`; nothing is limited on a CPU.
        share: share of the GPU's memory, above 0 and at most 1.
    """
    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(device).total_memory
        fraction = max(share - _CONTEXT_BYTES / total, share / 2)
        torch.cuda.set_per_process_memory_fraction(fraction, device)


def torch_device(name: str) -> torch.device:
    """Return the device named `cpu`, `cuda` or, for example, `cuda:1`; a GPU with its index.

    Raises:
        UserError: the name is invalid.
        MachineError: this machine has no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device: expected cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MachineError(
            f"device: there is no {name} on this machine (PyTorch finds "
            f"{torch.cuda.device_count()} CUDA devices); choose one of them or cpu"
        )
    return device if device.type == "cpu" else torch.device("cuda", device.index or 0)
