"""A stand-in for torch.cuda: one GPU whose tensors stay on the CPU, with CUDA's rules of capture.

It shows which calls a measurement makes, in which order and on which stream, what is captured, and
how much memory is counted. Times and numbers are those of the CPU.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch

WORKSPACE_BYTES = 32 << 20
"""What cuBLAS keeps for each stream that it has multiplied matrices on."""

_CAPTURING = "operation not permitted when stream is capturing"
_SYNCHRONIZING = "called a synchronizing CUDA operation"
_READERS = ("item", "tolist", "nonzero", "__bool__", "__int__", "__float__")


class FakeCuda:
    """State of the stand-in.

    Attributes:
        streams: streams that were created.
        captures: each captured graph, and the stream of its capture.
        replays: graphs in the order of their replays.
        failure: error that the next capture raises in the place of its passes.
        allocated: bytes of tensors and workspaces.
        reserved: bytes that graphs keep for their replays.
        free: bytes that are free.
    """

    def __init__(self) -> None:
        self.default = self.current = FakeStream("default")
        self.streams: list[FakeStream] = []
        self.captures: list[tuple[Any, FakeStream]] = []
        self.replays: list[Any] = []
        self.failure: Exception | None = None
        self.sync_mode = 0
        self.allocated = self.peak = self.reserved = 0
        self.free = 1 << 30
        self.workspaces: set[FakeStream] = set()
        self.capturing = False

    def allocate(self, size: int) -> None:
        """Count a tensor that stays allocated."""
        self.allocated += size
        self.peak = max(self.peak, self.allocated)

    def wait(self) -> None:
        """Do what an operation does that waits for the GPU."""
        if self.capturing:
            raise RuntimeError(_CAPTURING)
        if self.sync_mode == 2:
            raise RuntimeError(_SYNCHRONIZING)

    def multiply(self) -> None:
        """Do what the first product of matrices on a stream does."""
        if self.current not in self.workspaces:
            self.workspaces.add(self.current)
            self.allocate(WORKSPACE_BYTES)

    def new_stream(self, *_: object) -> "FakeStream":
        """Create a stream."""
        self.streams.append(FakeStream(f"side {len(self.streams)}"))
        return self.streams[-1]

    @contextmanager
    def on_stream(self, stream: "FakeStream") -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(
        self,
        graph: "FakeGraph",
        pool: Any = None,
        stream: "FakeStream | None" = None,
        capture_error_mode: str = "global",
    ) -> Iterator[None]:
        """Record what runs inside; like torch, stay on the stream if the capture fails."""
        assert capture_error_mode in ("global", "thread_local", "relaxed")
        stream = stream or self.new_stream()
        before, self.current, self.capturing = self.current, stream, True
        if self.failure is not None:
            raise self.failure
        try:
            yield
        except torch.OutOfMemoryError:  # unlike other errors, it leaves the capture valid
            self.current, self.capturing = before, False
            raise
        self.current, self.capturing = before, False
        graph.pool_id = pool
        self.captures.append((graph, stream))


class FakeStream:
    """A stream; `FakeCuda.streams` lists those that were created."""

    def __init__(self, name: str) -> None:
        self.name = name

    def wait_stream(self, stream: "FakeStream") -> None:
        """Accept a dependency."""


class FakeGraph:
    """A captured graph; it computes nothing, but takes a millisecond as a small network does."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.pool_id = cuda, None

    def replay(self) -> None:
        """Count the replay."""
        self.cuda.replays.append(self)
        time.sleep(1e-3)

    def pool(self) -> "FakeGraph":
        """Return the identity of the graph's memory."""
        return self.pool_id or self


class FakeEvent:
    """An event with the host's clock."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.seconds = 0.0

    def record(self) -> None:
        """Take the time."""
        self.seconds = perf_counter()

    def synchronize(self) -> None:
        """Return at once."""

    def elapsed_time(self, end: "FakeEvent") -> float:
        """Return milliseconds; a replay takes no time, so at least a microsecond."""
        return max(1000 * (end.seconds - self.seconds), 1e-3)


def install_fake_cuda(patch: pytest.MonkeyPatch) -> FakeCuda:
    """Replace torch.cuda by the stand-in."""
    cuda = FakeCuda()

    properties = SimpleNamespace(uuid="0", L2_cache_size=48 << 10, multi_processor_count=1)
    functions: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "NVIDIA Stand-in",
        "get_device_properties": lambda *_: properties,
        "device": lambda *_: cuda.on_stream(cuda.current),
        "Stream": cuda.new_stream,
        "stream": cuda.on_stream,
        "current_stream": lambda *_: cuda.current,
        "Event": FakeEvent,
        "CUDAGraph": lambda: FakeGraph(cuda),
        "graph": cuda.graph,
        "synchronize": lambda *_: None,
        "memory_allocated": lambda *_: cuda.allocated,
        "memory_reserved": lambda *_: cuda.allocated + cuda.reserved,
        "empty_cache": lambda *_: None,
        "mem_get_info": lambda *_: (cuda.free, 1 << 30),
        "get_per_process_memory_fraction": lambda *_: 1.0,
        "max_memory_allocated": lambda *_: cuda.peak,
        "reset_peak_memory_stats": lambda *_: setattr(cuda, "peak", cuda.allocated),
        "get_sync_debug_mode": lambda: cuda.sync_mode,
        "set_sync_debug_mode": lambda mode: setattr(
            cuda, "sync_mode", {"default": 0, "warn": 1, "error": 2}.get(mode, mode)
        ),
    }
    for name, function in functions.items():
        patch.setattr(torch.cuda, name, function)
    _keep_tensors_on_the_cpu(cuda, patch)
    for reader in _READERS:
        patch.setattr(torch.Tensor, reader, _waiting(cuda, getattr(torch.Tensor, reader)))
    linear = torch.nn.functional.linear

    def multiplying(*arguments: Any, **named: Any) -> torch.Tensor:
        cuda.multiply()
        return linear(*arguments, **named)

    patch.setattr(torch.nn.functional, "linear", multiplying)
    return cuda


def _keep_tensors_on_the_cpu(cuda: FakeCuda, patch: pytest.MonkeyPatch) -> None:
    move = torch.Tensor.to

    def to(tensor: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        first, *others = arguments or (None,)
        if isinstance(first, torch.device) and first.type == "cuda":
            cuda.allocate(tensor.nbytes)
            return move(tensor, torch.device("cpu"), *others, **named)
        return move(tensor, *arguments, **named)

    patch.setattr(torch.Tensor, "to", to)


def _waiting(cuda: FakeCuda, read: Callable[..., Any]) -> Callable[..., Any]:
    def reading(*arguments: Any, **named: Any) -> Any:
        cuda.wait()
        return read(*arguments, **named)

    return reading
