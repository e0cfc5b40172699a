"""Preparation of networks for timing: build, convert to a form, move to the device, run once."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
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
from partialnas.runs.system.files import TrialWeights
from partialnas.runs.system.precision import DTYPES, precision_settings
from partialnas.runs.training.build import build_network
from partialnas.runs.training.checkpoint import load_weights
from partialnas.space.deploy.fuse import deploy
from partialnas.space.errors import MachineError, UserError
from partialnas.space.nn.network import Network


@dataclass(frozen=True)
class PreparedModel:
    """A network that is ready to run.

    Attributes:
        digest: digest of the subject.
        name: name of the subject.
        form: form of the network.
        forward: forward pass on random images; call it within `torch_settings`.
        peak_memory_bytes: peak GPU memory of one forward pass in bytes, weights included; None on
            a CPU.
    """

    digest: str
    name: str
    form: Form
    forward: Forward
    peak_memory_bytes: int | None


class TimingInputs(NamedTuple):
    """Data and weights for timing a network with a speed that depends on them.

    Attributes:
        splits: splits with the validation images to run on.
        weights: weights of a finished trial (see
            `partialnas.runs.training.checkpoint.save_weights`), or None for random weights.
    """

    splits: Splits
    weights: TrialWeights | None


@contextmanager
def torch_settings(protocol: Protocol, device: torch.device) -> Iterator[None]:
    """Apply the protocol's settings to torch, and restore the previous ones afterwards."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    torch.set_num_threads(protocol.threads)
    torch.backends.cudnn.benchmark = True
    on_device = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    try:
        with on_device, precision_settings(protocol.precision, device), torch.inference_mode():
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
    """Build a network in the protocol's form and run it once.

    Weights and images are random unless `trained` is given.

    Raises:
        UserError: it cannot be built for the task or cannot run on its images.
        MachineError: the device is out of memory.
    """
    name = subject_name(subject)
    allocated = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    dtype = DTYPES[protocol.precision]
    with _translate_errors(name, task, protocol), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        images = _images(task, protocol.batch_size, trained)
        network = build_network(subject, task)
        if trained is not None and trained.weights is not None:
            load_weights(trained.weights, network, trained.splits)
        module, form = convert_to_form(network, protocol.form, images[:2])
        # the preferred layout of convolutions: up to a quarter faster, rarely slightly slower
        module = module.to(device, dtype).to(memory_format=torch.channels_last)
        images = images.to(device, dtype)
        forward = _forward(name, module, images, protocol)
        with torch_settings(protocol, device):
            peak = _peak_memory(forward, device)
    memory = None if peak is None else peak - allocated
    return PreparedModel(subject_digest(subject), name, form, forward, memory)


def _forward(name: str, module: nn.Module, images: Tensor, protocol: Protocol) -> Forward:
    if protocol.runtime == "compiled":
        return compile_forward(name, module, images)
    return lambda: module(images)


def _images(task: Task, count: int, trained: TimingInputs | None) -> Tensor:
    """Return random images, or images of the validation split, repeated if there are too few."""
    if trained is None:
        images = torch.randn(count, task.channels, task.resolution, task.resolution)
    else:
        splits = trained.splits
        indices = np.arange(count) % len(splits.val_y)
        x, y = splits.val_x[indices], splits.val_y[indices]
        pool = DeviceSplit(x, y, splits, 0, torch.device("cpu"))
        images = next(iter(pool.sequential_batches(count)))[0]
    return images.contiguous(memory_format=torch.channels_last)


def convert_to_form(network: nn.Module, form: Form, images: Tensor) -> tuple[nn.Module, Form]:
    """Return the network in a form, and that form.

    A network without a deploy form is returned in its training form.
    """
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
    """Run a forward pass, and on a GPU a second one; return the second one's peak memory."""
    forward()
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    forward()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


@contextmanager
def _translate_errors(name: str, task: Task, protocol: Protocol) -> Iterator[None]:
    """Raise errors of torch as errors that name the network, the input and a remedy."""
    try:
        yield
    except (UserError, MachineError):
        raise
    except Exception as error:  # a model of timm can raise any kind
        batch = (
            f"{protocol.batch_size} images of {task.channels}x{task.resolution}x{task.resolution}"
        )
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise MachineError(
                f"{protocol.device} is out of memory for {name} on {batch}: measure with a "
                "smaller batch_size or resolution"
            ) from error
        raise UserError(
            f"{name} cannot run on {batch} in {protocol.precision} "
            f"({type(error).__name__}: {error})"
        ) from error
