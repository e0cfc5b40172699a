"""Devices by their names."""

import torch

from partialnas.space.errors import MachineError, UserError

_NO_MEMORY = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "posix_memalign",
    "could not create a primitive",
)
"""What torch, in a RuntimeError, says of a processor's memory that is used up.

The last is oneDNN's, which does not say more; for lack of memory is when networks that it can run
come to it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the device or of the machine was too small."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _NO_MEMORY)


def count_gpus() -> int:
    """Return the number of GPUs that PyTorch can use on this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def torch_device(name: str) -> torch.device:
    """The device that `cpu`, `cuda` or `cuda:1` names; a GPU always with its number.

    Raises:
        UserError: no such kind of device.
        MachineError: this machine does not have it.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device: expected cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MachineError(
            f"device: there is no {name} on this machine, torch sees {torch.cuda.device_count()} "
            "CUDA devices; choose one of them or cpu"
        )
    return device if device.type == "cpu" else torch.device("cuda", device.index or 0)
