"""Operators that a training step launches on its device, with its copies to the device and waits.

Counted without a GPU, on a simulated device: operators of PyTorch that are no views, per step, for
kinds of networks, recipes and optimizers. A small network on a GPU spends its time on launching
them. Batched operators (`_foreach_…`) and fused optimizers count as one.
`python benchmarks/launches.py --help`.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.simulated_device import SIM, Counts, simulated_device

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.subject import Subject, parse_subject
from partialnas.runs.training.loop import Training
from partialnas.runs.trials.build import build_network
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import preset

TASK = Task(data="random", resolution=32, channels=3, classes=10)
STEPS, BATCH_SIZE, EPOCHS = 3, 4, 10
"""Steps of an epoch, images of a step, and epochs of the schedule."""

SMALL: dict[str, Any] = {"stem_stride": 2, "width": 16, "depths": (1, 1, 2, 1), "head_width": 256}
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "3 parts": {"parts": 3, "attention": "spatial"},
    "channel": {"attention": "channel"},
    "self": {"attention": "self"},
    "pat_sp": {"pat_sp": True},
    "rich": {"attention": {"channel": "stages 1-3", "self": "stage 4"}, "pat_sp": True},
    "threshold": {"ratio": {"learned": {"budget": "1/4"}}},
    "gates": {"ratio": {"learned": {"budget": "1/4", "method": "gates"}}},
    "input": {"ratio": {"learned": {"budget": "1/4", "per": "input"}}},
}
"""Settings of small networks by kind."""

OTHERS = ("fasternet_t0", "partialnet_t0", "timm:test_resnet")
"""Other networks: presets and a model of timm."""

RECIPES: dict[str, dict[str, Any]] = {
    "short": {},
    "clip_grad": {"clip_grad": 1.0},
    "ema": {"ema": 0.9},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "flip": {"flip": True},
    "drop_path": {"drop_path": 0.1},
    "dropout": {"dropout": 0.0},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    **{name: {"optimizer": name} for name in ("sgd", "nadamw", "lamb", "lion", "muon")},
    "all": {
        **{"clip_grad": 1.0, "ema": 0.9, "mixup": 0.2, "cutmix": 1.0, "flip": True},
        **{"drop_path": 0.1, "precision": "bfloat16"},
    },
}
"""Settings of recipes by name."""


class Step(NamedTuple):
    """What one training step gives to its device: the largest numbers of several steps.

    Attributes:
        launches: operators with work for the device.
        copies: copies to the device, by place.
        waits: operators that the host waits for, by place.
    """

    launches: int
    copies: Counter[str]
    waits: Counter[str]


def make_subject(name: str) -> Subject:
    """Return the network of a name in `NETWORKS`, of a preset, or of `timm:NAME`."""
    if name in NETWORKS:
        return Plan.model_validate(SMALL | NETWORKS[name]).architecture()
    return parse_subject(name) if name.startswith("timm:") else preset(name)


def random_splits() -> Splits:
    """Return random images: `STEPS` batches for training, two for validation and two for test."""
    generator = np.random.default_rng(0)
    arrays: list[Any] = []
    for batches in (STEPS, 2, 2):
        size = batches * BATCH_SIZE
        shape = (size, TASK.channels, TASK.resolution, TASK.resolution)
        arrays += [generator.integers(0, 256, shape, dtype=np.uint8), np.arange(size) % 10]
    return Splits(*arrays, np.full(3, 0.5, np.float32), np.full(3, 0.3, np.float32))


def start_training(network: str, settings: Mapping[str, Any], device: str) -> Training:
    """Return a training of a network with random images at its start, with the steps of a GPU.

    Args:
        network: name of a network; see `make_subject`.
        settings: settings of the recipe that are not the defaults.
        device: `cpu`, `cuda`, or `sim` in a process with the simulated device.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = Recipe.model_validate({"batch_size": BATCH_SIZE, **settings})
    splits = DeviceSplits.from_splits(random_splits(), recipe, torch.device(device))
    module = build_network(make_subject(network), TASK, recipe)
    return Training(module, recipe, EPOCHS, 0, splits, by_counter=True)


def count_step(network: str, settings: Mapping[str, Any]) -> Step:
    """Train a network for an epoch on the simulated device, and return what a step gives to it.

    A step ends with the update of the weights. The first one also makes the state of the optimizer
    and does not count. The losses, which are checked every 50 steps, are not checked in between.
    See `start_training`.
    """
    device = simulated_device()
    training = start_training(network, settings, SIM)
    steps: list[Counts] = []

    def end_step(*_: object) -> None:
        steps.append(device.counts)
        device.counts = Counts()

    training.optimizer.register_step_post_hook(end_step)
    training.run_epoch()
    return Step(
        max(step.launches.total() for step in steps[1:]),
        reduce(or_, (step.copies for step in steps[1:])),
        reduce(or_, (step.waits for step in steps[1:])),
    )


def losses(network: str, settings: Mapping[str, Any], device: str) -> list[float]:
    """Train a network for two epochs with a pause in between, and return their training losses.

    See `start_training`.
    """
    first, second = (start_training(network, settings, device) for _ in range(2))
    first.run_epoch()
    second.load_state_dict(first.state_dict())
    second.run_epoch()
    return [row["train_nll"] for row in second.curve]


def main() -> None:
    """Print the counts of each network with the default recipe, and of each recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="plain", help="network of the table of recipes")
    parser.add_argument("--places", action="store_true", help="show where it copies and waits")
    options = parser.parse_args()
    rows = [(name, "short") for name in (*NETWORKS, *OTHERS)]
    rows += [(options.network, name) for name in RECIPES]
    print(f"{'network':20} {'recipe':12} {'launches':>8} {'copies':>8} {'waits':>8}")
    for network, recipe in rows:
        step = count_step(network, RECIPES[recipe])
        copies, waits = step.copies.total(), step.waits.total()
        print(f"{network:20} {recipe:12} {step.launches:8} {copies:8} {waits:8}", flush=True)
        if options.places:
            for kind, places in (("copy", step.copies), ("wait", step.waits)):
                for place, count in sorted(places.items()):
                    print(f"    {kind} {place}: {count}")


if __name__ == "__main__":
    main()
