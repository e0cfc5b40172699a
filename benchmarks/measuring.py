"""Variation of repeated measurements of a network: `python benchmarks/measuring.py --help`."""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.measure.measure import measure
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import Subject, parse_subject, subject_name
from partialnas.runs.system.environment import load_average
from partialnas.space.arch.plan import Plan

_MNIST = Task(data="mnist5k", resolution=28, channels=1, classes=10)
_LARGER = Task(data="random", resolution=64, channels=3, classes=10)


def pairs() -> list[tuple[Task, Subject, Subject]]:
    """Return task, candidate and reference of each pair."""
    small = {"stem_stride": 2, "depths": (1, 2, 4, 1)}
    fasternet = Plan(name="fasternet", width=16, **small).architecture()
    partialnet = Plan(
        name="partialnet",
        width=16,
        **small,
        attention={"channel": "stages 1-3", "self": "stage 4"},
    ).architecture()
    wide = Plan(name="wide", width=32, **small).architecture()
    timm = parse_subject("timm:fasternet_t0")
    return [
        (_MNIST, partialnet, fasternet),
        (_MNIST, wide, fasternet),
        (_LARGER, parse_subject("timm:mobilenetv3_small_100"), timm),
    ]


def main() -> None:
    arguments = _arguments()
    protocol = Protocol(threads=arguments.threads, max_seconds=arguments.max_seconds)
    print(f"{arguments.calls} calls each, {arguments.load} busy processes in the background\n")
    print(
        f"{'candidate':24} {'reference':18} {'ratio':>7} {'CV':>6} {'half width':>10} "
        f"{'gap':>6} {'noisy':>5} {'rounds':>6} {'seconds':>7} {'load':>5}"
    )
    with _busy(arguments.load):
        for task, candidate, reference in pairs():
            start = time.perf_counter()
            measurements = [
                measure(candidate, task, protocol, reference) for _ in range(arguments.calls)
            ]
            seconds = (time.perf_counter() - start) / arguments.calls
            print(_line(candidate, reference, measurements, seconds), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10, help="measurements of each pair")
    parser.add_argument("--load", type=int, default=0, help="busy processes in the background")
    parser.add_argument("--threads", type=int, default=1, help="threads of a forward pass")
    parser.add_argument(
        "--max-seconds", type=float, default=20.0, help="time limit of one measurement"
    )
    return parser.parse_args()


def _line(
    candidate: Subject, reference: Subject, measurements: Sequence[Measurement], seconds: float
) -> str:
    intervals = [
        (m.relative_low or 0.0, m.relative_throughput or 0.0, m.relative_high or 0.0)
        for m in measurements
    ]
    ratios = [ratio for _, ratio, _ in intervals]
    mean = statistics.mean(ratios)
    variation = statistics.stdev(ratios) / mean if len(ratios) > 1 else 0.0
    half = [(high - low) / 2 / ratio for low, ratio, high in intervals]
    return (
        f"{subject_name(candidate):24} {subject_name(reference):18} {mean:7.3f} "
        f"{variation:6.1%} {statistics.mean(half):10.1%} "
        f"{statistics.mean(m.wall_cpu_gap for m in measurements):6.1%} "
        f"{sum(m.noisy for m in measurements):5} "
        f"{statistics.mean(m.rounds for m in measurements):6.0f} "
        f"{seconds:7.1f} {load_average():5.1f}"
    )


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Run processes that train a small network continuously; yield once all are warm."""
    context = multiprocessing.get_context("spawn")
    ready = context.Semaphore(0)
    workers = [context.Process(target=_burn, args=(ready,), daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()


def _burn(ready: "multiprocessing.synchronize.Semaphore") -> None:
    import torch

    torch.set_num_threads(1)
    images, layer = torch.randn(32, 32, 28, 28), torch.nn.Conv2d(32, 32, 3)
    ready.release()
    while True:
        layer(images).sum().backward()


if __name__ == "__main__":
    main()
