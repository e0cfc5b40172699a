"""The device that the acceptance runs on, with its networks, images and sizes."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record
from partialnas.runs.training.loop import Training
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.split_cache import SPLIT_CACHE
from partialnas.runs.trials.trial import run_job
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.nn.init import initialize
from partialnas.space.nn.network import Network

TASK = Task(data="lines", resolution=32, channels=3, classes=10)
SMALL: dict[str, Any] = {"stem_stride": 2, "width": 16, "depths": (1, 1, 2, 1), "head_width": 256}
RICH_SETTINGS: dict[str, Any] = {
    "attention": {"channel": "stages 1-3", "self": "stage 4"},
    "pat_sp": True,
}
LEARNED_RATIOS: dict[str, dict[str, Any]] = {
    "threshold": {"budget": "1/4"},
    "gates": {"budget": "1/4", "method": "gates"},
    "input": {"budget": "1/4", "per": "input"},
}


def small(**settings: Any) -> Architecture:
    """Return a network of width 16 and depths 1-1-2-1 with changed settings."""
    return Plan.model_validate(SMALL | settings).architecture()


PLAIN, RICH = small(), small(**RICH_SETTINGS)
LEARNED = {name: small(ratio={"learned": value}) for name, value in LEARNED_RATIOS.items()}


@dataclass
class Machine:
    """The device under test, and sizes that suit it.

    Attributes:
        device: `cuda`, or `cpu` for a dry run.
        images: training images.
        batch_size: images per step.
        seconds: time limit of a measurement in seconds.
        repetitions: networks, precisions and seeds that a part repeats at most.
    """

    device: str
    images: int = field(init=False)
    batch_size: int = field(init=False)
    seconds: float = field(init=False)
    repetitions: int = field(init=False)

    def __post_init__(self) -> None:
        sizes = (45_000, 512, 4.0, 8) if self.is_gpu else (64, 16, 0.2, 2)
        self.images, self.batch_size, self.seconds, self.repetitions = sizes

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"

    @cached_property
    def splits(self) -> Splits:
        """Images with a white line whose place and color tell the class."""
        generator = np.random.default_rng(0)
        arrays: list[Any] = []
        for count in (self.images, self.images // 9, self.images // 9):
            y = np.arange(count) % TASK.classes
            x = generator.integers(0, 96, (count, 3, 32, 32), dtype=np.uint8)
            x[np.arange(count), y % 3, 3 * y] = 255
            arrays += [x, y]
        return Splits(*arrays, np.full(3, 0.2, np.float32), np.full(3, 0.15, np.float32))

    def recipe(self, **settings: Any) -> Recipe:
        """Return a recipe with this machine's batch size."""
        return Recipe.model_validate({"batch_size": self.batch_size, **settings})

    def run(
        self,
        network: Architecture,
        epochs: int = 1,
        seeds: tuple[int, ...] = (0,),
        lanes: int = 1,
        **settings: Any,
    ) -> list[Record]:
        """Train a network with each of these seeds, and return their records."""
        recipe = self.recipe(**settings)
        job = Job(subject=network, task=TASK, recipe=recipe, fidelity=epochs, seeds=seeds)
        return run_job(job, Context(device=self.device, splits=self.splits, lanes=lanes))

    def training(self, network: Architecture, epochs: int, **settings: Any) -> Training:
        """Return a training at its start."""
        recipe = self.recipe(**settings)
        module = Network(network, TASK.channels, TASK.classes)
        initialize(module, 0)
        data = SPLIT_CACHE.get(self.splits, recipe, torch.device(self.device))
        return Training(module, recipe, epochs, 0, data)

    def protocol(self, **settings: Any) -> Protocol:
        """Return a protocol of measurements."""
        common = {"device": self.device, "max_seconds": self.seconds}
        size = 256 if self.is_gpu else 8
        return Protocol.model_validate({**common, "batch_size": size, **settings})

    def wait(self) -> None:
        """Wait for the device."""
        if self.is_gpu:
            torch.cuda.synchronize()
