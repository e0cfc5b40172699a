"""Training steps per second, compared with a plain PyTorch loop with a DataLoader, on mnist5k.

Both train the same network on the same data with the same recipe on one thread. The steps alone, on
prepared batches and without evaluation, are an upper bound. Each loop runs in a separate process;
epochs are interleaved and timed by the CPU time of their process, which excludes other work on the
machine. Ratios are medians over rounds.
`python benchmarks/training.py --help`.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

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

PLANS = {
    "width 8, depths 1-1-1-1": Plan(stem_stride=2, width=8, depths=(1, 1, 1, 1), head_width=256),
    "width 16, depths 1-1-2-1, attention": Plan(
        stem_stride=2,
        width=16,
        depths=(1, 1, 2, 1),
        attention=("channel", "channel", "self", "none"),
        head_width=256,
    ),
    "width 24, depths 1-2-3-1": Plan(stem_stride=2, width=24, depths=(1, 2, 3, 1), head_width=256),
}


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
    batches = [pool.batch(row) for row in tables.rows()]
    optimizer = make_optimizer(network, recipe)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def epoch() -> None:
        for x, y in batches:
            loss = criterion(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


LOOPS = {
    "plain DataLoader loop": plain_loop,
    "partialnas": package_loop,
    "steps alone": steps_alone,
}


def serve(name: str, plan: Plan, pipe: Connection) -> None:
    """Run an epoch per request in a worker process, and reply with its CPU seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    splits = load_splits(resolve_task("mnist5k"))
    epoch = LOOPS[name](splits, plan)
    while pipe.recv():
        start = time.process_time()
        epoch()
        pipe.send(time.process_time() - start)


def time_loops(plan: Plan, rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each loop's epochs, which are interleaved."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in LOOPS:
        pipes[name], far = context.Pipe()
        context.Process(target=serve, args=(name, plan, far), daemon=True).start()
    times: dict[str, list[float]] = {name: [] for name in LOOPS}
    for number in range(rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds = pipe.recv()
            if number:  # the first round warms up
                times[name].append(seconds)
    for pipe in pipes.values():
        pipe.send(False)
    return times


def main() -> None:
    """Print steps per second of the loops, and the relative time of the plain loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="timed epochs of each loop")
    rounds = parser.parse_args().rounds
    batch = RECIPES["short"].batch_size
    steps = len(load_splits(resolve_task("mnist5k")).train_y) // batch
    print(f"training on mnist5k, batch {batch}, 1 thread, {rounds} epochs; steps per CPU second,")
    print("and the time of the plain loop relative to the loop (median ratio)")
    for label, plan in PLANS.items():
        print(f"\n{label}")
        times = time_loops(plan, rounds)
        plain = times["plain DataLoader loop"]
        for name, seconds in times.items():
            ratio = statistics.median(a / b for a, b in zip(plain, seconds, strict=True))
            print(f"  {name:24} {steps / statistics.median(seconds):8.1f} {ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
