"""The place of one of several trainings in a process: its random state and its stream."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import torch


class Lane:
    """State that dropout and drop path of one training draw from, and its stream on a GPU.

    Graphs that are captured in a lane draw from its state, too, and `seed` holds for them.

    Args:
        device: device of the training.
        number: number of the lane, from 0. Lanes of one number share a stream: libraries keep a
            workspace for each stream as long as the process lives.
    """

    def __init__(self, device: torch.device, number: int = 0) -> None:
        self._cpu = torch.Generator()
        self._stream = self._gpu = None
        if device.type == "cuda":
            self._gpu = torch.Generator(device)
            self._stream = _side_stream(device, number)

    def seed(self, seed: int) -> None:
        """Start the random state anew."""
        self._cpu.manual_seed(seed)
        if self._gpu is not None:
            self._gpu.manual_seed(seed)

    def wait_for_caller(self) -> None:
        """Let later work of the lane begin after the caller's work on the device."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    def stream(self) -> torch.cuda.StreamContext | nullcontext[None]:
        """Return a context in which work on the device belongs to the lane."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Run on the lane's stream and draw from its state; restore both afterwards."""
        before = torch.get_rng_state()
        torch.set_rng_state(self._cpu.get_state())
        try:
            with self.stream(), self._gpu_state():
                yield
        finally:
            self._cpu.set_state(torch.get_rng_state())
            torch.set_rng_state(before)

    @contextmanager
    def _gpu_state(self) -> Iterator[None]:
        if self._gpu is None:
            yield
            return
        default = torch.cuda.default_generators[self._gpu.device.index]
        before = default.graphsafe_get_state()
        default.graphsafe_set_state(self._gpu.graphsafe_get_state())
        try:
            yield
        finally:
            default.graphsafe_set_state(before)


@cache
def _side_stream(device: torch.device, number: int) -> torch.cuda.Stream:  # noqa: ARG001
    return torch.cuda.Stream(device)
