"""Interleaved timing of the forward passes of two networks on a device that may be shared.

The speed of a shared machine changes within milliseconds. Timings of two networks that follow each
other are slowed alike, so that their ratio is stable; the shorter the timings, the more stable.
"""

import gc
import itertools
import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeAlias

import torch

from partialnas.runs.measure.timing_stats import Round, Timing, is_precise_enough
from partialnas.runs.system.allocator import gc_paused

Forward: TypeAlias = Callable[[], object]
"""One forward pass."""

Runner: TypeAlias = Callable[[int], Timing]
"""Runs a number of forward passes and returns the mean seconds of one."""

MIN_CPU_TIMING_S = 0.001
"""Shortest timing on a CPU in seconds: a thousand times the cost of reading the clocks."""

MIN_GPU_TIMING_S = 0.010
"""Shortest timing on a GPU in seconds: events have a resolution of half a microsecond, and starting
and stopping cost tens of microseconds."""

MIN_ROUNDS = 25
MAX_ROUNDS = 2000
_WINDOW = 5
_AGREEMENT = 0.05
_WARM_UP_SHARE = 0.25


def cpu_runner(forward: Forward, threads: int) -> Runner:
    """Return a runner that times a forward pass on the CPU.

    With one thread the primary clock is its CPU time, which stands still while other processes
    have the core. With several threads it is the wall clock, because the CPU time of one of them is
    no duration; the calling thread takes part in every operator, so that its CPU time serves as the
    secondary clock.
    """
    clocks = (time.thread_time, time.perf_counter)
    primary, secondary = clocks if threads == 1 else clocks[::-1]

    def run(passes: int) -> Timing:
        secondary_start, primary_start = secondary(), primary()
        for _ in range(passes):
            forward()
        seconds = primary() - primary_start, secondary() - secondary_start
        return Timing(seconds[0] / passes, seconds[1] / passes)

    return run


def gpu_runner(forward: Forward) -> Runner:
    """Return a runner that times a forward pass on the current GPU by events and wall clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def run(passes: int) -> Timing:
        torch.cuda.synchronize()
        wall_start = time.perf_counter()
        start.record()
        for _ in range(passes):
            forward()
        end.record()
        end.synchronize()
        wall = time.perf_counter() - wall_start
        return Timing(start.elapsed_time(end) / 1000 / passes, wall / passes)

    return run


def in_turns(passes: Sequence[Forward]) -> Forward:
    """Return a function that runs the next of several passes, again from the first after all."""
    turns = itertools.cycle(passes)
    return lambda: next(turns)()


def time_interleaved(
    candidate: Runner,
    reference: Runner | None = None,
    *,
    min_timing_s: float,
    max_seconds: float,
    target_half_width: float,
    after_round: Callable[[], None] = lambda: None,
) -> list[Round]:
    """Time the candidate, interleaved with the reference if there is one.

    Warms up, then runs rounds until the interval of the median speed is as narrow as
    `target_half_width`, or `max_seconds` have passed since the call. Runs at least one round.

    Args:
        candidate: runner of the candidate.
        reference: runner of the reference.
        min_timing_s: shortest timing in seconds.
        max_seconds: time limit in seconds, warm-up included.
        target_half_width: half-width of the interval at which to stop, as a share of the median.
        after_round: called between rounds, outside of any timing.
    """
    start = time.perf_counter()
    gc.collect()
    with gc_paused():
        run_round = _make_round(candidate, reference, min_timing_s)
        _warm_up(run_round, until=start + _WARM_UP_SHARE * max_seconds)
        rounds = [run_round()]
        while len(rounds) < MAX_ROUNDS and time.perf_counter() < start + max_seconds:
            after_round()
            rounds.append(run_round())
            is_checked = len(rounds) >= MIN_ROUNDS and len(rounds) % _WINDOW == 0
            if is_checked and is_precise_enough(rounds, target_half_width):
                break
    return rounds


def _make_round(
    candidate: Runner, reference: Runner | None, min_timing_s: float
) -> Callable[[], Round]:
    """Return a function that runs one round, with enough passes per timing."""
    passes = _num_passes(candidate, min_timing_s)
    if reference is None:
        return lambda: Round(candidate(passes))
    reference_passes = _num_passes(reference, min_timing_s)

    def run_round() -> Round:
        before = reference(reference_passes)
        first, second = candidate(passes), candidate(passes)
        after = reference(reference_passes)
        return Round(_mean(first, second), _mean(before, after))

    return run_round


def _num_passes(runner: Runner, min_timing_s: float) -> int:
    """Return the passes of one timing of the minimum length; the first, slow pass is dropped."""
    runner(1)
    passes = 1
    while (seconds := runner(passes).primary) * passes < min_timing_s:
        passes = max(passes + 1, math.ceil(min_timing_s / max(seconds, min_timing_s / 1000)))
    return passes


def _mean(a: Timing, b: Timing) -> Timing:
    return Timing((a.primary + b.primary) / 2, (a.secondary + b.secondary) / 2)


def _warm_up(run_round: Callable[[], Round], until: float) -> None:
    """Run rounds until the medians of two consecutive windows agree, or time is up."""
    seconds: list[float] = []
    while time.perf_counter() < until:
        seconds.append(run_round().candidate.primary)
        if len(seconds) % _WINDOW == 0 and len(seconds) > _WINDOW:
            before, now = median(seconds[-2 * _WINDOW : -_WINDOW]), median(seconds[-_WINDOW:])
            if abs(now / before - 1) < _AGREEMENT:
                return
