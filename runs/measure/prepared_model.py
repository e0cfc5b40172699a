"""Preparation of networks for timing: build in a form on the CPU, load onto the device and run."""

import math
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from partialnas.runs.config.protocol import Form, Protocol
from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import Task
from partialnas.runs.devices.cuda_graph import waits_for_gpu
from partialnas.runs.devices.device import device_fault, is_out_of_memory
from partialnas.runs.devices.precision import DTYPES, precision_settings
from partialnas.runs.measure.fuse_timm import UnfusableError, fuse_model
from partialnas.runs.measure.interleaved_timing import Forward
from partialnas.runs.measure.torch_compile import compile_forward
from partialnas.runs.records.subject import Subject, subject_digest, subject_name
from partialnas.runs.system.files import TrialWeights
from partialnas.runs.trials.build import build_network
from partialnas.runs.trials.checkpoint import load_weights
from partialnas.space.deploy.fuse import deploy
from partialnas.space.errors import DeviceFaultError, MachineError, UserError
from partialnas.space.nn.dpconv import InputDependentMixer
from partialnas.space.nn.network import Network

_MAX_INPUTS = 16
_NO_MEMORY = re.compile("out of memory|allocate memory")
"""Out of memory in the message of a library that wraps torch's error, such as a compiler's."""


@dataclass(frozen=True)
class PreparedModel:
    """A network that is ready to run on its device.

    Attributes:
        digest: digest of the subject.
        name: name of the subject.
        form: form of the network.
        passes: the forward pass on each of the inputs; call them within `torch_settings`.
        peak_memory_bytes: peak GPU memory of one forward pass in bytes, weights included; None on
            a CPU.
        capture_obstacle: why the pass cannot be captured as a CUDA graph, or None if it can be, or
            need not be.
    """

    digest: str
    name: str
    form: Form
    passes: tuple[Forward, ...]
    peak_memory_bytes: int | None
    capture_obstacle: str | None


class TimingInputs(NamedTuple):
    """Data and weights for timing a network with a speed that depends on them.

    Attributes:
        splits: splits with the validation images to run on.
        weights: weights of a finished trial (see
            `partialnas.runs.trials.checkpoint.save_weights`), or None for random weights.
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


class TimingModel:
    """A network for timing: built on the CPU, moved to the device when it is first needed there.

    Weights and images are random unless `trained` is given.

    Args:
        subject: the network.
        task: task that gives the shape of the images.
        protocol: measurement settings.
        device: device of the protocol.
        trained: weights and images, for networks with a speed that depends on them.

    Raises:
        UserError: it cannot be built for the task or cannot run on its images.
        MachineError: the machine is out of memory.
    """

    def __init__(
        self,
        subject: Subject,
        task: Task,
        protocol: Protocol,
        device: torch.device,
        trained: TimingInputs | None = None,
    ) -> None:
        self._subject, self._task, self._protocol = subject, task, protocol
        self._device = device
        dtype = DTYPES[protocol.precision]
        self._prepared: PreparedModel | None = None
        with self._errors(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            images = _images(task, protocol.batch_size, 0, trained)
            network = build_network(subject, task)
            if trained is not None and trained.weights is not None:
                load_weights(trained.weights, network, trained.splits)
            module, self._form = convert_to_form(network, protocol.form, images[:2])
            # the preferred layout of convolutions: up to a quarter faster, rarely slightly slower
            self._module = module.to(dtype).to(memory_format=torch.channels_last)
            further = range(1, _num_inputs(images.numel() * dtype.itemsize, device))
            inputs = (_images(task, protocol.batch_size, i, trained) for i in further)
            self._inputs = [batch.to(dtype) for batch in (images, *inputs)]

    def load(self) -> PreparedModel:
        """Return the network on the device, which it is moved to and run on in the first call.

        There it is compiled, and cuDNN chooses its algorithms; so nothing else may use the device
        (see `exclusive_access`). Call it within `torch_settings`.

        Raises:
            UserError: it cannot run on the images of the task.
            MachineError: the device is out of memory.
            DeviceFaultError: the device failed.
        """
        if self._prepared is None:
            with self._errors():
                self._prepared = self._load()
        return self._prepared

    def _load(self) -> PreparedModel:
        name, protocol, device = subject_name(self._subject), self._protocol, self._device
        on_gpu = device.type == "cuda"
        if on_gpu:
            _initialize_libraries(device, self._inputs[0].dtype)
        allocated = torch.cuda.memory_allocated(device) if on_gpu else 0
        with torch.inference_mode(mode=False):  # parameters stay ordinary tensors
            module, first = self._module.to(device), self._inputs[0].to(device)
        run = compile_forward(name, module) if protocol.runtime == "compiled" else module
        peak = _peak_memory(partial(run, first), device)
        inputs = [first, *(batch.to(device) for batch in self._inputs[1:])]
        passes = tuple(partial(run, batch) for batch in inputs)
        is_captured = on_gpu and protocol.runtime != "eager"
        return PreparedModel(
            digest=subject_digest(self._subject),
            name=name,
            form=self._form,
            passes=passes,
            peak_memory_bytes=None if peak is None else peak - allocated,
            capture_obstacle=_capture_obstacle(module, passes[0]) if is_captured else None,
        )

    def _errors(self) -> AbstractContextManager[None]:
        return translated_errors(subject_name(self._subject), self._task, self._protocol)


def _initialize_libraries(device: torch.device, dtype: torch.dtype) -> None:
    """Multiply two numbers, so that cuBLAS has the workspace that it keeps in this process."""
    number = torch.zeros(1, 1, dtype=dtype).to(device)
    nn.functional.linear(number, number)


def _capture_obstacle(module: nn.Module, forward: Forward) -> str | None:
    if any(isinstance(child, InputDependentMixer) for child in module.modules()):
        return "its ratios depend on the input"
    return "it waits for results of the GPU" if waits_for_gpu(forward) else None


def _num_inputs(image_bytes: int, device: torch.device) -> int:
    """Return the number of inputs that passes take turns at: on a CPU one, as in a tight loop.

    On a GPU they exceed the L2 cache together, up to a limit, so that each pass reads its images
    from memory, as in use.
    """
    if device.type == "cpu":
        return 1
    cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    return min(1 + math.ceil(cache_bytes / image_bytes), _MAX_INPUTS)


def _images(task: Task, count: int, number: int, trained: TimingInputs | None) -> Tensor:
    """Return random images, or the batch of a number from the validation split.

    Images are repeated if there are too few.
    """
    if trained is None:
        images = torch.randn(count, task.channels, task.resolution, task.resolution)
    else:
        splits = trained.splits
        indices = np.arange(number * count, (number + 1) * count) % len(splits.val_y)
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
def translated_errors(name: str, task: Task, protocol: Protocol) -> Iterator[None]:
    """Raise errors of torch as errors that name the network, the input and a remedy."""
    try:
        yield
    except (UserError, MachineError):
        raise
    except Exception as error:  # a model of timm can raise any kind
        batch = (
            f"{protocol.batch_size} images of {task.channels}x{task.resolution}x{task.resolution}"
        )
        if is_out_of_memory(error) or _NO_MEMORY.search(str(error)):
            raise MachineError(
                f"{protocol.device} is out of memory for {name} on {batch}: measure with a "
                "smaller batch_size or resolution"
            ) from error
        if fault := device_fault(error, protocol.device):
            raise DeviceFaultError(protocol.device, fault) from error
        raise UserError(
            f"{name} cannot run on {batch} in {protocol.precision} "
            f"({type(error).__name__}: {error})"
        ) from error
