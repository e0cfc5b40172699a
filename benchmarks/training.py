"""Training steps per second: our loop beside a plain PyTorch loop with a DataLoader, on mnist5k.

Both train the same network from the same data with the same recipe on one thread, each in a process
of its own; epochs take turns, are timed by the CPU time of their process (other work on the machine
does not count), and the ratio is the median over rounds. `python benchmarks/training.py --help`.
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

from partialnas.runs.data import Splits, load_splits
from partialnas.runs.heap import keep_freed_memory
from partialnas.runs.recipe import RECIPES
from partialnas.runs.task import resolve_task
from partialnas.runs.training import Pools, Training
from partialnas.space.network import Network
from partialnas.space.plan import Plan

PLAN = Plan(
    stem_stride=2,
    width=16,
    depths=(1, 1, 2, 1),
    attention=("channel", "channel", "self", "none"),
    head_width=256,
)


def plain_loop(splits: Splits) -> Callable[[], None]:
    """One epoch as people write it first: Dataset, DataLoader, transform for each image, item()."""
    recipe = RECIPES["short"]
    network = Network(PLAN.architecture(), in_chans=1, num_classes=10)
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


def our_loop(splits: Splits) -> Callable[[], None]:
    """One epoch of a trial, its evaluation on the validation split included."""
    keep_freed_memory()  # as workers do
    recipe = RECIPES["short"]
    network = Network(PLAN.architecture(), in_chans=1, num_classes=10)
    pools = Pools.of(splits, recipe, torch.device("cpu"))
    training = Training(network, recipe, 1000, 0, pools)

    def epoch() -> None:
        training.run_epoch()

    return epoch


def serve(name: str, pipe: Connection) -> None:
    """In a process of its own: run an epoch at every request, answer with its CPU seconds."""
    torch.set_num_threads(1)
    splits = load_splits(resolve_task("mnist5k"))
    epoch = LOOPS[name](splits)
    while pipe.recv():
        start = time.process_time()
        epoch()
        pipe.send(time.process_time() - start)


LOOPS = {"plain DataLoader loop": plain_loop, "partialnas": our_loop}


def main() -> None:
    """Print steps per second of both loops, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each loop that count")
    rounds = parser.parse_args().rounds
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in LOOPS:
        pipes[name], far = context.Pipe()
        context.Process(target=serve, args=(name, far), daemon=True).start()
    times: dict[str, list[float]] = {name: [] for name in LOOPS}
    for number in range(rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds = pipe.recv()
            if number:  # the first round warms up
                times[name].append(seconds)
    for pipe in pipes.values():
        pipe.send(False)
    batch = RECIPES["short"].batch_size
    steps = len(load_splits(resolve_task("mnist5k")).train_y) // batch
    print(f"training on mnist5k, batch {batch}, 1 thread, {rounds} epochs")
    for name, seconds_ in times.items():
        rate = steps / statistics.median(seconds_)
        print(f"{name:24} {rate:8.1f} steps per CPU second")
    ratios = [a / b for a, b in zip(*times.values(), strict=True)]
    print(f"{'ratio (median)':24} {statistics.median(ratios):8.2f}")


if __name__ == "__main__":
    main()
