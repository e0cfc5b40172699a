"""Chance, derived: every random number of a trial follows from its seed, the epoch and a purpose.

Nothing is carried from one epoch to the next, so that a trial continued at an epoch draws what the
uninterrupted one would have drawn.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, epoch: int, purpose: str) -> int:
    """A seed of 63 bits for one purpose in one epoch, unrelated to all others."""
    source = f"{purpose}/{seed}/{epoch}".encode()
    return int.from_bytes(hashlib.sha256(source).digest()[:8]) >> 1


def make_generator(seed: int, epoch: int, purpose: str) -> np.random.Generator:
    """A numpy generator for one purpose in one epoch."""
    return np.random.default_rng(derive_seed(seed, epoch, purpose))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's global generators of the CPU and `device`, and restores them afterwards."""
    if device.type == "cuda":
        with torch.cuda.device(device), torch.random.fork_rng([torch.cuda.current_device()]):
            torch.default_generator.manual_seed(seed)
            torch.cuda.manual_seed(seed)
            yield
    else:
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Lets torch use `count` threads of the CPU, and restores their number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
