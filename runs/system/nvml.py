"""NVML, the library of NVIDIA's driver: handles and UUIDs of GPUs, without a CUDA context.

PyTorch creates a CUDA context to answer the same questions, which takes half a GB of the GPU's
memory and is refused while another process holds a GPU in exclusive mode.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

Handle = Any
"""A GPU, or a MIG instance of one, as NVML's functions expect it."""


@cache
def load_nvml() -> ModuleType | None:
    """Return the module `pynvml`, initialized; None if the package or the driver is missing.

    NVML stays initialized until the process ends.
    """
    try:
        library = import_module("pynvml")
        library.nvmlInit()
    except Exception:  # ImportError, NVMLError, or an error of a package of the same name
        return None
    return library


def visible_device(index: int) -> str | None:
    """Return the entry of CUDA_VISIBLE_DEVICES for `cuda:index`, or None if there is no entry.

    Entries are indices or UUIDs. Without the variable, the entry is the index itself.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    if not visible:
        return str(index)
    entries = [entry.strip() for entry in visible.split(",")]
    return (entries[index] or None) if index < len(entries) else None


def gpu_handle(index: int) -> Handle | None:
    """Return NVML's handle of the device that PyTorch calls `cuda:index`, or None if unknown.

    If a GPU is divided into MIG instances, the handle is that of the instance. It is unknown
    without NVML, and if CUDA numbers GPUs of several models by speed (CUDA_DEVICE_ORDER), which
    NVML does not tell.
    """
    nvml, entry = load_nvml(), visible_device(index)
    if nvml is None or entry is None:
        return None
    with suppress(nvml.NVMLError):
        matching = [*_matching(nvml, entry)]
        if len(matching) == 1:  # of a divided GPU, CUDA opens the first instance
            return next(_instances(nvml, matching[0]), matching[0])
    return None


def gpu_uuid(index: int) -> str | None:
    """Return the UUID of `cuda:index`, such as `GPU-...` or `MIG-...`, or None if unknown."""
    nvml, handle = load_nvml(), gpu_handle(index)
    if nvml is None or handle is None:
        return None
    with suppress(nvml.NVMLError):
        return str(nvml.nvmlDeviceGetUUID(handle))
    return None


def gpu_facts() -> dict[str, str]:
    """Return facts about the GPUs of this machine; empty if NVML finds none.

    The keys are `gpus` (their models, such as `2 x NVIDIA H200`), `compute_capability` and
    `driver` (its version).
    """
    if (nvml := load_nvml()) is None:
        return {}
    with suppress(nvml.NVMLError):
        if gpus := _gpus(nvml):
            names = Counter(nvml.nvmlDeviceGetName(gpu) for gpu in gpus)
            capabilities = {nvml.nvmlDeviceGetCudaComputeCapability(gpu) for gpu in gpus}
            return {
                "gpus": ", ".join(f"{n} x {k}" if n > 1 else k for k, n in sorted(names.items())),
                "compute_capability": ", ".join(f"{a}.{b}" for a, b in sorted(capabilities)),
                "driver": nvml.nvmlSystemGetDriverVersion(),
            }
    return {}


def _gpus(nvml: ModuleType) -> list[Handle]:
    """Return the handles of the GPUs, in the order of their PCI addresses."""
    return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]


def _matching(nvml: ModuleType, entry: str) -> Iterator[Handle]:
    """Yield the GPUs, or MIG instances, that an index or the start of a UUID stands for."""
    gpus = _gpus(nvml)
    if entry.isdecimal():
        by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        if by_bus or len({nvml.nvmlDeviceGetName(gpu) for gpu in gpus}) == 1:
            yield from gpus[int(entry) : int(entry) + 1]
        return
    for gpu in gpus:
        handles = gpu, *_instances(nvml, gpu)
        yield from (
            handle for handle in handles if nvml.nvmlDeviceGetUUID(handle).startswith(entry)
        )


def _instances(nvml: ModuleType, gpu: Handle) -> Iterator[Handle]:
    """Yield the MIG instances of a GPU; none if it is not divided."""
    with suppress(nvml.NVMLError):  # raised by GPUs that cannot be divided
        if nvml.nvmlDeviceGetMigMode(gpu)[0] == nvml.NVML_DEVICE_MIG_DISABLE:
            return
        for i in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            with suppress(nvml.NVMLError):  # raised for numbers without an instance
                yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, i)
