"""Deterministic seeds: random numbers depend on a trial's seed, the epoch and a purpose.

No state is carried from one epoch to the next, so that a resumed trial draws the same numbers as an
uninterrupted one.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, epoch: int, purpose: str) -> int:
    """Return a seed of 63 bits for one purpose in one epoch."""
    source = f"{purpose}/{seed}/{epoch}".encode()
    return int.from_bytes(hashlib.sha256(source).digest()[:8]) >> 1


def make_generator(seed: int, epoch: int, purpose: str) -> np.random.Generator:
    """Return a NumPy generator for one purpose in one epoch."""
    return np.random.default_rng(derive_seed(seed, epoch, purpose))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators of the CPU and `device`, and restore them afterwards."""
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
    """Set the number of torch's CPU threads, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
