"""PyTorch devices: lookup by name, number of GPUs, detection of out-of-memory errors."""

import torch

from partialnas.space.errors import MachineError, UserError

_NO_MEMORY = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "posix_memalign",
    "could not create a primitive",
)
"""Parts of torch's messages when a CPU runs out of memory.

The last one is oneDNN's only message; networks that it can run fail with it for lack of memory.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device or the machine ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _NO_MEMORY)


def count_gpus() -> int:
    """Return the number of GPUs that PyTorch can use on this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


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
