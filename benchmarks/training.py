"""CPU time of training steps, compared with other loops and other commits, on mnist5k.

`partialnas` is the loop of a trial with its evaluation, on one thread. It is compared with its
steps alone on prepared batches (an upper bound), with a plain PyTorch loop with a DataLoader, and
with the loop of another checkout of this repository (`--baseline`). All train the same network on
the same data with the same recipe. Each runs in a separate process; epochs are interleaved and
timed by the CPU time of their process, which excludes other work on the machine.
`python benchmarks/training.py --help`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.system.allocator import keep_freed_memory
from partialnas.runs.training.loop import Training
from partialnas.runs.training.optimizer import make_optimizer
from partialnas.runs.training.step_tables import StepTables
from partialnas.space.arch.plan import Plan
from partialnas.space.nn.network import Network

SMALL = {"stem_stride": 2, "width": 8, "depths": [1, 1, 1, 1], "head_width": 256}
ATTENTION = {"attention": ["channel", "channel", "self", "none"], "depths": [1, 1, 2, 1]}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "width 8, depths 1-1-1-1": (SMALL, {}),
    "width 16, depths 1-1-2-1, attention": (SMALL | {"width": 16} | ATTENTION, {}),
    "width 24, depths 1-2-3-1": (SMALL | {"width": 24, "depths": [1, 2, 3, 1]}, {}),
    "width 8, average of weights": (SMALL, {"ema": 0.99}),
    "width 8, mixup, CutMix, flip": (SMALL, {"mixup": 0.2, "cutmix": 1.0, "flip": True}),
    "width 8, clipped gradients": (SMALL, {"clip_grad": 1.0}),
    "width 8, lamb": (SMALL, {"optimizer": "lamb"}),
    "width 8, learned ratios": (SMALL | {"ratio": {"learned": {"budget": 0.3}}}, {}),
}
"""Settings of the architecture and of the recipe `short`, by name."""

OURS, ALONE, PLAIN, BASELINE = "partialnas", "steps alone", "plain DataLoader loop", "baseline"


def plain_loop(splits: Splits, plan: Plan) -> Callable[[], None]:
    """Return a plain epoch: Dataset, DataLoader, a transform per image, `item()` per step."""
    recipe = RECIPES["short"]
    network = Network(plan.architecture(), in_chans=1, num_classes=10)
    images = torch.from_numpy(splits.train_x).float() / 255
    labels = torch.from_numpy(splits.train_y)
    mean, std = splits.mean.tolist(), splits.std.tolist()
    transform = v2.Compose([v2.RandomCrop(28, padding=2), v2.Normalize(mean, std)])

    class Digits(TensorDataset):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
            image, label = super().__getitem__(index)
            return transform(image), label

    loader = DataLoader(Digits(images, labels), recipe.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    steps = 1000 * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, steps)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def epoch() -> None:
        network.train()
        running = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(network(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            running += loss.item()

    return epoch


def package_loop(splits: Splits, plan: Plan) -> Callable[[], None]:
    """Return an epoch of a trial, with its evaluation on the validation split."""
    keep_freed_memory()  # as workers do
    recipe = RECIPES["short"]
    network = Network(plan.architecture(), in_chans=1, num_classes=10)
    pools = DeviceSplits.from_splits(splits, recipe, torch.device("cpu"))
    training = Training(network, recipe, 1000, 0, pools)

    def epoch() -> None:
        training.run_epoch()

    return epoch


def steps_alone(splits: Splits, plan: Plan) -> Callable[[], None]:
    """Return the steps of a trial's epoch on prepared batches, without evaluation."""
    keep_freed_memory()
    recipe = RECIPES["short"]
    network = Network(plan.architecture(), in_chans=1, num_classes=10)
    network.train().to(memory_format=torch.channels_last)
    pool = DeviceSplits.from_splits(splits, recipe, torch.device("cpu")).train
    tables = StepTables(pool.device)
    tables.fill(pool.epoch_tables(recipe, 0, 0))
    batches = [(row, *pool.batch(row)) for row in tables.rows()]
    optimizer = make_optimizer(network, recipe)

    def epoch() -> None:
        for row, x, y in batches:
            loss, _ = pool.losses(network(x), y, row, recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


LOOPS = {PLAIN: plain_loop, OURS: package_loop, ALONE: steps_alone}

WORKER = """
import functools, importlib.util, json, sys, time
import torch
path, loop, plan, recipe = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:5])
spec = importlib.util.spec_from_file_location("training_benchmark", path)
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)
torch.set_num_threads(1)
torch.manual_seed(0)
short = benchmark.RECIPES["short"]
benchmark.RECIPES["short"] = type(short).model_validate({**short.model_dump(), **recipe})
splits = benchmark.load_splits(benchmark.resolve_task("mnist5k"))
epoch = benchmark.LOOPS[loop](splits, benchmark.Plan.model_validate(plan))
for _ in sys.stdin:
    start = time.process_time()
    epoch()
    print(time.process_time() - start, flush=True)
"""
"""Run an epoch for each line of input, and print its CPU seconds."""


@contextmanager
def start_loop(checkout: Path, loop: str, case: str) -> Iterator[Callable[[], float]]:
    """Start a loop of a checkout in a process; yield a function that times an epoch of it."""
    settings = map(json.dumps, CASES[case])
    script = checkout / "benchmarks" / "training.py"
    command = [sys.executable, "-P", "-c", WORKER, script, loop, *settings]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:

        def time_epoch() -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            return float(process.stdout.readline())

        yield time_epoch


def time_loops(
    case: str, loops: Mapping[str, tuple[Path, str]], rounds: int
) -> dict[str, list[float]]:
    """Return the CPU seconds of each loop's epochs, which are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    with ExitStack() as stack:
        timers = {
            name: stack.enter_context(start_loop(checkout, loop, case))
            for name, (checkout, loop) in loops.items()
        }
        for number in range(rounds + 1):
            for name, time_epoch in timers.items():
                seconds = time_epoch()
                if number:  # the first round warms up
                    times[name].append(seconds)
    return times


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="timed epochs of each loop")
    parser.add_argument("--baseline", type=Path, help="checkout with a loop to compare with")
    parser.add_argument("--cases", default="", help="part of the names of cases; default: all")
    parser.add_argument("--plain", action="store_true", help="time the DataLoader loop, too")
    return parser.parse_args()


def main() -> None:
    """Print steps per second of the loops, and their time relative to that of partialnas."""
    options = parse_arguments()
    here = Path(__file__).resolve().parents[1]
    loops = {OURS: (here, OURS), ALONE: (here, ALONE)}
    if options.plain:
        loops[PLAIN] = here, PLAIN
    if options.baseline:
        loops[BASELINE] = options.baseline.resolve(), OURS
    batch = RECIPES["short"].batch_size
    steps = len(load_splits(resolve_task("mnist5k")).train_y) // batch
    print(f"training on mnist5k, batch {batch}, 1 thread, {options.rounds} epochs: steps per CPU")
    print("second, and time relative to that of partialnas (median and quartiles of the ratio)")
    for case in filter(lambda name: options.cases in name, CASES):
        print(f"\n{case}")
        times = time_loops(case, loops, options.rounds)
        for name, seconds in times.items():
            ratios = [a / b for a, b in zip(seconds, times[OURS], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            speed = steps / statistics.median(seconds)
            print(f"  {name:24} {speed:8.1f} {middle:8.3f} ({low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
