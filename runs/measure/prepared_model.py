"""Networks made ready to be measured: built, in their form, on the device, run once."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from partialnas.runs.config.protocol import Form, Protocol
from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import Task
from partialnas.runs.measure.fuse_timm import UnfusableError, fuse_model
from partialnas.runs.measure.interleaved_timing import Forward
from partialnas.runs.measure.torch_compile import compile_forward
from partialnas.runs.records.subject import Subject, subject_digest, subject_name
from partialnas.runs.training.build import build_network
from partialnas.runs.training.checkpoint import load_weights
from partialnas.space.deploy.fuse import deploy
from partialnas.space.errors import MachineError, UserError
from partialnas.space.nn.network import Network

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class PreparedModel:
    """A network that is ready to run.

    Attributes:
        digest: of its subject.
        name: of its subject.
        form: the form it is in.
        forward: runs it on random images; call it within `torch_settings`.
        peak_memory_bytes: largest GPU memory in use for one forward pass, weights included.
    """

    digest: str
    name: str
    form: Form
    forward: Forward
    peak_memory_bytes: int | None


class TimingInputs(NamedTuple):
    """What a network is timed with whose speed depends on its weights and images.

    Attributes:
        splits: whose validation images it runs on.
        weights: of a finished trial (see `partialnas.runs.training.checkpoint.save_weights`);
            random ones if None.
    """

    splits: Splits
    weights: Path | None


@contextmanager
def torch_settings(protocol: Protocol, device: torch.device) -> Iterator[None]:
    """Torch as the protocol asks for; afterwards as before."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    torch.set_num_threads(protocol.threads)
    torch.backends.cudnn.benchmark = True
    chosen = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    try:
        with chosen, torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark


def prepare_for_timing(
    subject: Subject,
    task: Task,
    protocol: Protocol,
    device: torch.device,
    trained: TimingInputs | None = None,
) -> PreparedModel:
    """Builds a network in the form that the protocol asks for and runs it once.

    With random weights on random images, unless it is `trained`.

    Raises:
        UserError: it cannot be built for the task, or cannot run on its images.
        MachineError: the device is out of memory.
    """
    name = subject_name(subject)
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    dtype = _PRECISIONS[protocol.precision]
    with _explained(name, task, protocol), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        images = _images(task, protocol.batch_size, trained)
        network = build_network(subject, task)
        if trained is not None and trained.weights is not None:
            load_weights(trained.weights, network)
        module, form = convert_to_form(network, protocol.form, images[:2])
        # the layout that convolutions prefer: up to a quarter faster, seldom a little slower
        module = module.to(device, dtype).to(memory_format=torch.channels_last)
        images = images.to(device, dtype)
        forward = _forward(name, module, images, protocol)
        with torch_settings(protocol, device):
            peak = _peak_memory(forward, device)
    memory = None if peak is None else peak - held
    return PreparedModel(subject_digest(subject), name, form, forward, memory)


def _forward(name: str, module: nn.Module, images: Tensor, protocol: Protocol) -> Forward:
    if protocol.runtime == "compiled":
        return compile_forward(name, module, images)
    return lambda: module(images)


def _images(task: Task, count: int, trained: TimingInputs | None) -> Tensor:
    """Random images, or as many of the validation split, over and over if need be."""
    if trained is None:
        images = torch.randn(count, task.channels, task.resolution, task.resolution)
    else:
        splits = trained.splits
        which = np.arange(count) % len(splits.val_y)
        pool = DeviceSplit(splits.val_x[which], splits.val_y[which], splits, 0, torch.device("cpu"))
        images = next(iter(pool.sequential_batches(count)))[0]
    return images.contiguous(memory_format=torch.channels_last)


def convert_to_form(network: nn.Module, form: Form, images: Tensor) -> tuple[nn.Module, Form]:
    """The network in the form asked for, or as near to it as it comes."""
    network = network.eval().requires_grad_(False)
    if form == "training":
        return network, "training"
    if isinstance(network, Network):
        return deploy(network), "deploy"
    try:
        return fuse_model(network, images), "deploy"
    except UnfusableError:
        return network, "training"


def _peak_memory(forward: Forward, device: torch.device) -> int | None:
    """Runs the network twice; on a GPU the memory that the second pass held at its peak."""
    forward()
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    forward()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


@contextmanager
def _explained(name: str, task: Task, protocol: Protocol) -> Iterator[None]:
    """Says of what torch raises which network it is about and what would help."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        batch = (
            f"{protocol.batch_size} images of {task.channels}x{task.resolution}x{task.resolution}"
        )
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise MachineError(
                f"{protocol.device} has not the memory for {name} on {batch}: "
                "measure with a smaller batch_size or resolution"
            ) from error
        raise UserError(f"{name} cannot run on {batch} in {protocol.precision}: {error}") from error
