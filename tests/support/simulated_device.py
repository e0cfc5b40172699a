"""A simulated accelerator: tensors on a device `sim`, computed on the CPU, with counts of its work.

It shows without a GPU what a GPU would be given: whether all tensors are on one device, how many
operators the host launches, what it copies to the device, and where it waits for a result. It says
nothing about speed or precision: `torch.autocast` is accepted, and casts nothing.

The device is a Python backend of PyTorch. A process registers it once, before its first backward
pass, and cannot remove it. Tests therefore use it in a separate process, `simulated_process`.
"""

import multiprocessing
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.library import Library, fallthrough_kernel
from torch.optim import optimizer
from torch.utils import _foreach_utils, backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

SIM = "sim"
_ROOT = Path(__file__).parents[2]
_TRANSFERS = {"copy_", "_to_copy"}
_INDEXING = {"index", "index_put_", "_index_put_impl_"}
_WAITING = {
    *("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select"),
    *("_unique2", "unique_dim", "unique_consecutive"),
}
"""Operators that return only after the device has computed a result."""

_IDLE = {"_local_scalar_dense", "_unsafe_view", "is_same_size", "set_", "resize_"}
"""Operators without work for the device, besides views and allocations."""


@dataclass
class Counts:
    """Numbers of operators by name; of copies and waits by the place that causes them.

    Attributes:
        launches: operators with work for the device.
        copies: copies from the host to the device.
        waits: operators whose result the host waits for, copies to the host among them.
    """

    launches: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)


class SimulatedTensor(torch.Tensor):
    """A tensor on the simulated device; `raw` has its values, on the CPU."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type["SimulatedTensor"], raw: torch.Tensor) -> "SimulatedTensor":
        tensor: SimulatedTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(SIM, 0),
        )
        tensor.raw = raw
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return simulated_device().run(func, args, kwargs or {})

    def tolist(self) -> Any:
        """Return the values; torch's method refuses subclasses."""
        simulated_device().counts.waits[f"tolist at {_place()}"] += 1
        return self.raw.tolist()


class SimulatedDevice(TorchDispatchMode):
    """The device; as a mode it also sees operators without tensors, such as `torch.zeros`.

    Attributes:
        counts: what the device has been given; replace it to count anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operator on the CPU, and return its result on the device where it belongs.

        Raises:
            RuntimeError: The tensors are on different devices; scalars may be, as on a GPU.
        """
        name = func._schema.name.removeprefix("aten::")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        simulated = [tensor for tensor in tensors if isinstance(tensor, SimulatedTensor)]
        on_device = bool(simulated) and name != "_local_scalar_dense"
        if name == "copy_":
            on_device = isinstance(args[0], SimulatedTensor)
        if kwargs.get("device") is not None:
            on_device = torch.device(kwargs["device"]).type == SIM
            kwargs = kwargs | {"device": "cpu"}
        if simulated or on_device:
            host = [tensor for tensor in tensors if not isinstance(tensor, SimulatedTensor)]
            self._count(func, name, args, host, on_device=on_device)
        result = func(*_raw(args), **_raw(kwargs))
        changed = {id(tensor.raw): tensor for tensor in simulated}

        def on_sim(raw: torch.Tensor) -> torch.Tensor:
            return changed[id(raw)] if id(raw) in changed else SimulatedTensor(raw)

        return tree_map_only(torch.Tensor, on_sim, result) if on_device else result

    def _count(
        self, func: Any, name: str, args: Any, host: list[torch.Tensor], *, on_device: bool
    ) -> None:
        """Count an operator of the device; `host` are those of its tensors on the CPU."""
        counts = self.counts
        if name in _TRANSFERS and (host or not on_device):
            (counts.copies if on_device else counts.waits)[f"{name} at {_place()}"] += 1
            return
        launches = 1
        if name in _INDEXING:
            counts.copies.update(f"{name} at {_place()}" for _ in host)
        elif name.startswith("_foreach_"):
            launches = len(args[0]) if host else 1  # a GPU takes mixed lists tensor by tensor
        elif any(tensor.dim() for tensor in host):
            raise RuntimeError(f"{name}: tensors are on {SIM} and on the CPU, at {_place()}")
        if name in _WAITING or (name in _INDEXING and _has_mask(args[1])):
            counts.waits[f"{name} at {_place()}"] += 1
        allocates = name.startswith(("empty", "new_empty"))
        if not (func.is_view or allocates or name in _IDLE):
            counts.launches[name] += launches


def _raw(tree: Any) -> Any:
    return tree_map_only(SimulatedTensor, attrgetter("raw"), tree)


def _has_mask(indices: Any) -> bool:
    return any(isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in indices)


def _place() -> str:
    """Return file and line of the code of the project that runs; none does in a backward pass."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT) and not {"support", "site-packages"} & {*path.parts}:
            return f"{path.relative_to(_ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "backward"


class _Backend(backend_registration._DummyBackendModule):
    """The module `torch.sim`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class _HostGenerator(torch.Generator):
    """A generator of the CPU, for any device."""

    def __new__(cls, device: Any = "cpu") -> "_HostGenerator":  # noqa: ARG004
        return super().__new__(cls, "cpu")


@cache
def simulated_device() -> SimulatedDevice:
    """Return the device of this process, which is changed for good: see above."""
    backend_registration._setup_privateuseone_for_python_backend(SIM, backend_module=_Backend())
    device = SimulatedDevice()
    _register_kernels(device)
    # Subclasses have no inference tensors.
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else nullcontext()
    torch.Generator = _HostGenerator  # type: ignore[misc]
    for types in (_foreach_utils._foreach_supported_types, optimizer._foreach_supported_types):
        known: list[type] = types  # optimizers of a known type run what they run on a GPU
        known.append(SimulatedTensor)
    device.__enter__()
    return device


@cache
def _register_kernels(device: SimulatedDevice) -> tuple[Library, Library]:
    """Register what torch calls below all modes; the libraries must be kept."""
    aten, every_operator = Library("aten", "IMPL"), Library("_", "IMPL")

    def empty(size: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
        return SimulatedTensor(torch.empty(size, dtype=dtype))

    def empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> torch.Tensor:
        return SimulatedTensor(torch.empty_strided(size, stride, dtype=dtype))

    def copy_from(source: Any, target: Any, *_: Any) -> Any:
        return device.run(torch.ops.aten.copy_.default, (target, source), {})

    aten.impl("empty.memory_format", empty, "PrivateUse1")
    aten.impl("empty_strided", empty_strided, "PrivateUse1")
    aten.impl("_copy_from", copy_from, "PrivateUse1")
    every_operator.fallback(fallthrough_kernel, "AutocastPrivateUse1")
    return aten, every_operator


def simulated_process() -> ProcessPoolExecutor:
    """Return a process with the simulated device; it runs functions of importable modules."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=simulated_device)


def count_code(code: str) -> Counts:
    """Run code on `x`, a 2 x 3 tensor of the device of this process, and return its counts."""
    device = simulated_device()
    x = torch.ones(2, 3, device=SIM)
    device.counts = Counts()
    exec(code, {"torch": torch, "x": x})
    return device.counts
