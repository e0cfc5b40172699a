"""Reproducible trials: seeds for each purpose, and deterministic kernels.

Random numbers depend on a trial's seed, the epoch and a purpose. No state is carried from one epoch
to the next, so that a resumed trial draws the same numbers as an uninterrupted one.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from partialnas.space.errors import UserError

_CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
_CUBLAS_WORKSPACES = (":4096:8", ":16:8")
"""Workspaces with which cuBLAS is deterministic; it reads the variable once, when CUDA starts."""


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


@contextmanager
def kernel_selection(
    device: torch.device, *, deterministic: bool, cudnn_benchmark: bool
) -> Iterator[None]:
    """Set how torch and its libraries choose kernels, and restore the choice afterwards.

    The settings belong to the process, not to a thread. An operation without a deterministic kernel
    raises a `RuntimeError` that names it.

    Args:
        device: device of the training.
        deterministic: use only kernels that repeat their result bit for bit.
        cudnn_benchmark: let cuDNN time its algorithms for each new shape of a convolution.

    Raises:
        UserError: deterministic kernels are requested after CUDA has started without them.
    """
    if deterministic and device.type == "cuda":
        _set_cublas_workspace()
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    mode = torch.get_deterministic_debug_mode()
    cudnn.deterministic, cudnn.benchmark = deterministic, cudnn_benchmark
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        torch.set_deterministic_debug_mode(mode)


def prepare_cublas() -> None:
    """Let recipes ask for deterministic kernels after CUDA has started in this process.

    Call it before that. cuBLAS then has a workspace of 32 MiB for each stream, the size that torch
    chooses on Hopper anyway; earlier GPUs get 8 MiB otherwise. A value of the user stays.
    """
    os.environ.setdefault(_CUBLAS_VARIABLE, _CUBLAS_WORKSPACES[0])


def _set_cublas_workspace() -> None:
    if os.environ.get(_CUBLAS_VARIABLE) in _CUBLAS_WORKSPACES:
        return
    if torch.cuda.is_initialized():
        raise UserError(
            f"recipe.deterministic: CUDA has started in this process without {_CUBLAS_VARIABLE}; "
            f"set {_CUBLAS_VARIABLE}={_CUBLAS_WORKSPACES[0]} in the environment and start again"
        )
    os.environ[_CUBLAS_VARIABLE] = _CUBLAS_WORKSPACES[0]
