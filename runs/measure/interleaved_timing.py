"""Times forward passes, two networks in turns, on a device that may not be ours alone.

A single timing means little on a shared machine: its speed changes within milliseconds. Laps of two
networks that follow each other are slowed alike, so their ratio hardly changes; the shorter the
laps, the better that holds.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TypeAlias

import torch

from partialnas.runs.measure.timing_stats import Round, Timing, is_precise_enough

Forward: TypeAlias = Callable[[], object]
"""One forward pass."""

Runner: TypeAlias = Callable[[int], Timing]
"""Runs so many forward passes and tells the seconds of one."""

MIN_CPU_TIMING_S = 0.001
"""Shortest lap on a CPU: a thousand times what reading the clocks takes, no longer than needed."""

MIN_GPU_TIMING_S = 0.010
"""Shortest lap on a GPU: its events tick in half microseconds, starting and stopping costs tens."""

MIN_ROUNDS = 25
MAX_ROUNDS = 2000
_WINDOW = 5
_AGREEMENT = 0.05
_WARM_UP_SHARE = 0.25


def cpu_runner(forward: Forward, threads: int) -> Runner:
    """Times a forward pass on the CPU.

    One thread is timed by its CPU time, which stands still while others have the core; several by
    the clock on the wall, because what one of them does is no duration. The calling thread takes
    part in every operator, so that its CPU time is the second clock in that case.
    """
    clocks = (time.thread_time, time.perf_counter)
    own, other = clocks if threads == 1 else clocks[::-1]

    def lap(passes: int) -> Timing:
        other_start, own_start = other(), own()
        for _ in range(passes):
            forward()
        own_end, other_end = own(), other()
        return Timing((own_end - own_start) / passes, (other_end - other_start) / passes)

    return lap


def gpu_runner(forward: Forward) -> Runner:
    """Times a forward pass on the current GPU: by its own events, and by the clock on the wall."""
    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )

    def lap(passes: int) -> Timing:
        torch.cuda.synchronize()
        wall_start = time.perf_counter()
        start.record()
        for _ in range(passes):
            forward()
        end.record()
        end.synchronize()
        wall = time.perf_counter() - wall_start
        return Timing(start.elapsed_time(end) / 1000 / passes, wall / passes)

    return lap


def capture_graph(forward: Forward) -> Forward:
    """A forward pass on the current GPU as one graph, free of the CPU that would launch it.

    Raises:
        RuntimeError: it cannot be captured.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries set themselves up in the first passes
        for _ in range(3):
            forward()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward()
    replay: Forward = graph.replay
    return replay


def time_interleaved(
    candidate: Runner,
    reference: Runner | None = None,
    *,
    min_timing_s: float,
    max_seconds: float,
    target_half_width: float,
) -> list[Round]:
    """Times the candidate, in turns with the reference if there is one.

    Warms up, then plays rounds until their median speed is known to `target_half_width`, or
    `max_seconds` have passed since the call; one round is played in any case.
    """
    start = time.perf_counter()
    with _no_garbage_collection():
        play = _game(candidate, reference, min_timing_s)
        _warm_up(play, until=start + _WARM_UP_SHARE * max_seconds)
        rounds = [play()]
        while len(rounds) < MAX_ROUNDS and time.perf_counter() < start + max_seconds:
            rounds.append(play())
            due = len(rounds) >= MIN_ROUNDS and len(rounds) % _WINDOW == 0
            if due and is_precise_enough(rounds, target_half_width):
                break
    return rounds


def _game(
    candidate: Runner, reference: Runner | None, shortest_lap_s: float
) -> Callable[[], Round]:
    """What plays one round, with laps of enough passes to be timed well."""
    passes = _passes(candidate, shortest_lap_s)
    if reference is None:
        return lambda: Round(candidate(passes))
    reference_passes = _passes(reference, shortest_lap_s)

    def play() -> Round:
        before = reference(reference_passes)
        first, second = candidate(passes), candidate(passes)
        after = reference(reference_passes)
        return Round(_mean(first, second), _mean(before, after))

    return play


def _passes(runner: Runner, shortest_lap_s: float) -> int:
    """Passes of a lap of the length asked for; a first pass, slow for its own reasons, is lost."""
    runner(1)
    passes = 1
    while (seconds := runner(passes).primary) * passes < shortest_lap_s:
        passes = max(passes + 1, math.ceil(shortest_lap_s / max(seconds, shortest_lap_s / 1000)))
    return passes


def _mean(one: Timing, two: Timing) -> Timing:
    return Timing((one.primary + two.primary) / 2, (one.secondary + two.secondary) / 2)


def _warm_up(play: Callable[[], Round], until: float) -> None:
    """Plays until two medians that follow each other agree, or time is up."""
    seconds: list[float] = []
    while time.perf_counter() < until:
        seconds.append(play().candidate.primary)
        if len(seconds) % _WINDOW == 0 and len(seconds) > _WINDOW:
            before, now = median(seconds[-2 * _WINDOW : -_WINDOW]), median(seconds[-_WINDOW:])
            if abs(now / before - 1) < _AGREEMENT:
                return


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
