"""DPConv: cost of learned ratios in a training step and in inference.

Training steps are compared with those of a static network that convolves a quarter of the channels,
and of one that convolves all of them. Steps are interleaved, spread over the whole course of
learning from the widest ramp to the narrowest, and timed by CPU time; `fixed` is the training after
that, with a quarter of the channels as well. Then the frozen network is
compared with a hand-specified one of the same ratios, both in deploy form, and with input-dependent
ratios. `python benchmarks/dpconv.py --help`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.ratio_learning.tracking import make_ratio_learner
from partialnas.runs.system.allocator import keep_freed_memory
from partialnas.runs.training.optimizer import make_optimizer
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.deploy.freeze import learned_sizes
from partialnas.space.deploy.fuse import deploy
from partialnas.space.nn.network import Network

STATIC = Fraction(1, 4)
LEARNED: dict[str, dict[str, Any]] = {
    "threshold": {"budget": "static"},
    "fixed": {"budget": "static"},
    "gates": {"budget": "static", "method": "gates"},
    "input": {"budget": "static", "per": "input"},
}
IMAGES = {"digits 8x8": (8, 1, 1), "32x32": (32, 3, 2)}
"""Resolution, channels and stem stride."""

Step = Callable[[int], None]


def architecture(stem_stride: int, options: argparse.Namespace, **settings: Any) -> Architecture:
    """Return the static network with a quarter of the channels convolved, with changed settings."""
    attention = (options.attention,) * 4
    common = {"width": options.width, "depths": (1, 1, 2, 1), "head_width": 256}
    plan = Plan(
        stem_stride=stem_stride, **{**common, "attention": attention, "ratio": STATIC, **settings}
    )
    return plan.architecture()


class Trainer:
    """Training of a network on random images, step by step."""

    def __init__(
        self, subject: Architecture, shape: tuple[int, ...], options: argparse.Namespace
    ) -> None:
        self.network = Network(subject, in_chans=shape[1], num_classes=10).train()
        self.network.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.network, Recipe(lr=1e-3))
        freeze = Recipe().ratio_freeze
        total = int(options.rounds / freeze) + 1
        self.ratios = make_ratio_learner(
            self.network, shape[-1], total, freeze, options.ratio_every
        )
        self.x, self.y = batch(shape)

    def step(self, number: int) -> None:
        """Run one training step."""
        if self.ratios is not None:
            self.ratios.update_boundaries(number)
        self.optimizer.zero_grad(set_to_none=True)
        with self.ratios.detached_kernels() if self.ratios else nullcontext():
            functional.cross_entropy(self.network(self.x), self.y).backward()
        self.optimizer.step()
        if self.ratios is not None:
            self.ratios.update_sizes(number)

    def fixed_step(self, _: int) -> None:
        """Run one training step after the ratios were fixed."""
        assert self.ratios is not None
        self.step(self.ratios.freeze_step)

    def finish(self) -> Network:
        """Return the network with its ratios fixed."""
        if self.ratios is not None:
            self.ratios.update_boundaries(self.ratios.freeze_step)
        return self.network.eval()


def batch(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return random images and labels."""
    images = torch.randn(shape).to(memory_format=torch.channels_last)
    return images, torch.randint(10, shape[:1])


def time_interleaved(steps: dict[str, Step], rounds: int, warm: int = 5) -> dict[str, list[float]]:
    """Return CPU seconds of each step; rounds run every step once, in alternating order."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(-warm, rounds):
        order = list(steps.items())
        for name, step in order[:: 1 if number % 2 else -1]:
            start = time.process_time()
            step(max(number, 0))
            if number >= 0:
                seconds[name].append(time.process_time() - start)
    return seconds


def print_table(title: str, seconds: dict[str, list[float]], *references: str) -> None:
    """Print the median time of each network, and the median of its ratios to the references."""
    print(f"\n{title:34} {'ms':>8}" + "".join(f"  to {name:<12}" for name in references))
    for name, times in seconds.items():
        ratios = (
            statistics.median(a / b for a, b in zip(times, seconds[other], strict=True))
            for other in references
        )
        cells = "".join(f"  {ratio:<15.3f}" for ratio in ratios)
        print(f"{name:34} {1000 * statistics.median(times):8.2f}{cells}", flush=True)


def run(name: str, options: argparse.Namespace) -> None:
    """Time all networks on one kind of images."""
    resolution, channels, stride = IMAGES[name]
    shape = (options.batch_size, channels, resolution, resolution)
    subjects = {
        "static 1/4": architecture(stride, options),
        "static dense": architecture(stride, options, parts=1, operations=("conv",)),
        **{
            kind: architecture(stride, options, ratio={"learned": settings})
            for kind, settings in LEARNED.items()
        },
    }
    trainers = {kind: Trainer(subject, shape, options) for kind, subject in subjects.items()}
    steps: dict[str, Step] = {kind: trainer.step for kind, trainer in trainers.items()}
    steps["fixed"] = trainers["fixed"].fixed_step
    title = f"training step, {name}"
    print_table(title, time_interleaved(steps, options.rounds), "static 1/4", "static dense")
    networks = {kind: trainer.finish() for kind, trainer in trainers.items()}
    frozen = deploy(networks["threshold"])
    static = deploy(static_network(networks["threshold"], channels))
    forward = {
        "static 1/4": evaluation(deploy(networks["static 1/4"]), shape),
        "threshold, frozen": evaluation(frozen, shape),
        "static, same ratios": evaluation(static, shape),
        "input": evaluation(deploy(networks["input"]), shape),
    }
    title = f"inference, deploy form, {name}"
    print_table(
        title, time_interleaved(forward, options.rounds), "static 1/4", "static, same ratios"
    )


def static_network(network: Network, channels: int) -> Network:
    """Return a new static network with the ratios that another one learned."""
    return Network(network.architecture.frozen(learned_sizes(network)), channels, 10).eval()


def evaluation(network: nn.Module, shape: tuple[int, ...]) -> Step:
    """Return a function that runs a forward pass."""
    x, _ = batch(shape)
    network = network.to(memory_format=torch.channels_last)

    def step(_: int) -> None:
        with torch.inference_mode():
            network(x)

    return step


def main() -> None:
    """Print a table for each kind of images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="timed steps of each network")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--ratio-every", type=int, default=1, help="steps between moves of ratios")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--attention", default="none", choices=("none", "channel", "spatial"))
    parser.add_argument("--maps", nargs="+", default=list(IMAGES), choices=IMAGES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    names = ("width", "batch_size", "attention", "rounds", "ratio_every")
    print(", ".join(f"{name} {getattr(options, name)}" for name in names))
    for name in options.maps:
        run(name, options)


if __name__ == "__main__":
    main()
