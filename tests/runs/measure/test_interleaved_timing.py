import gc
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from partialnas.runs.measure import interleaved_timing
from partialnas.runs.measure.interleaved_timing import (
    MIN_ROUNDS,
    Forward,
    Runner,
    cpu_runner,
    time_interleaved,
)
from partialnas.runs.measure.timing_stats import Timing, relative_speeds, summarize_rounds


class Machine:
    """A simulated machine that returns timings at once and logs the calls."""

    def __init__(self, slowdown: Callable[[int], float] = lambda _: 1.0) -> None:
        self.calls: list[tuple[str, int]] = []
        self._slowdown = slowdown

    def runner(self, name: str, seconds: float) -> Runner:
        def run(passes: int) -> Timing:
            slow = self._slowdown(len(self.calls))
            self.calls.append((name, passes))
            return Timing(seconds * slow, seconds * slow)

        return run


def time_rounds(
    candidate: Runner,
    reference: Runner | None = None,
    *,
    min_timing_s: float = 0.0,
    max_seconds: float = 30.0,
    target: float = 0.02,
) -> list[float]:
    rounds = time_interleaved(
        candidate,
        reference,
        min_timing_s=min_timing_s,
        max_seconds=max_seconds,
        target_half_width=target,
    )
    return relative_speeds(rounds)


def work(times: int) -> Forward:
    """Return a forward pass that multiplies matrices a number of times."""
    matrix = torch.rand(96, 96)

    def forward() -> None:
        for _ in range(times):
            torch.mm(matrix, matrix)

    return forward


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_rounds_are_reference_candidate_candidate_reference() -> None:
    machine = Machine()
    speeds = time_rounds(machine.runner("c", 1.0), machine.runner("r", 2.0))
    assert set(speeds) == {2.0}
    names = "".join(name for name, _ in machine.calls)[-4 * len(speeds) :]
    assert names == "rccr" * len(speeds)


def test_a_steady_drift_cancels_within_each_round() -> None:
    machine = Machine(lambda call: 1 + 0.01 * call)
    speeds = time_rounds(machine.runner("c", 1.0), machine.runner("r", 3.0))
    assert speeds == pytest.approx([3.0] * len(speeds))


def test_without_a_reference_speeds_are_passes_per_second() -> None:
    machine = Machine()
    assert set(time_rounds(machine.runner("c", 0.25))) == {4.0}
    assert {name for name, _ in machine.calls} == {"c"}


def test_timing_stops_when_the_interval_is_narrow_enough() -> None:
    machine = Machine()
    assert len(time_rounds(machine.runner("c", 1.0), machine.runner("r", 2.0))) == MIN_ROUNDS


def test_more_noise_takes_more_rounds() -> None:
    def rounds(noise: float) -> int:
        generator = np.random.default_rng(0)
        machine = Machine(lambda _: float(generator.lognormal(0.0, noise)))
        return len(time_rounds(machine.runner("c", 1.0), machine.runner("r", 2.0)))

    assert rounds(0.2) > rounds(0.1) > rounds(0.02) == MIN_ROUNDS


def test_timing_stops_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(interleaved_timing.time, "perf_counter", lambda: now[0])
    generator = np.random.default_rng(0)

    def noisy_runner(passes: int) -> Timing:
        now[0] += 0.01 * passes
        return Timing(*generator.lognormal(0.0, 3.0, size=2))

    speeds = time_rounds(noisy_runner, noisy_runner, max_seconds=20.0)
    assert 20.0 <= now[0] - 100.0 < 20.1
    assert 15.0 / 0.04 - 1 <= len(speeds) <= 20.0 / 0.04


def test_at_least_one_round_is_run() -> None:
    machine = Machine()
    assert time_rounds(machine.runner("c", 1.0), machine.runner("r", 2.0), max_seconds=1e-9) == [
        2.0
    ]


def test_slow_first_passes_do_not_count() -> None:
    machine = Machine(lambda call: 1.0 if call > 30 else 50.0 - call)
    assert set(time_rounds(machine.runner("c", 1.0))) == {1.0}


@pytest.mark.parametrize("seconds", [1e-5, 3e-4, 0.002, 0.7])
def test_a_timing_is_only_slightly_longer_than_the_minimum(seconds: float) -> None:
    machine = Machine()
    time_rounds(machine.runner("c", seconds), min_timing_s=0.001)
    passes = machine.calls[-1][1]
    assert passes * seconds >= 0.001
    assert passes == 1 or passes * seconds < 0.0021


def test_the_number_of_passes_is_found_even_for_an_instant_runner() -> None:
    counts = itertools.count()

    def instant(passes: int) -> Timing:
        next(counts)
        return Timing(1e-12 if passes < 1000 else 0.01, 1.0)

    time_rounds(instant, min_timing_s=0.001)
    assert next(counts) < 200


def test_garbage_collection_is_disabled_while_timing() -> None:
    seen = set()

    def record(_: int) -> Timing:
        seen.add(gc.isenabled())
        return Timing(1.0, 1.0)

    assert gc.isenabled()
    time_rounds(record)
    assert seen == {False}
    assert gc.isenabled()


def test_garbage_collection_is_enabled_after_an_error() -> None:
    def fail(_: int) -> Timing:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        time_rounds(fail)
    assert gc.isenabled()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("times", [2, 5])
def test_time_is_proportional_to_work(times: int) -> None:
    speeds = time_rounds(
        cpu_runner(work(40 * times), 1),
        cpu_runner(work(40), 1),
        min_timing_s=0.001,
        max_seconds=10,
    )
    assert np.median(speeds) == pytest.approx(1 / times, rel=0.25)


@pytest.mark.usefixtures("one_thread")
def test_a_network_relative_to_itself_has_speed_one() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU()).eval()
    images = torch.randn(16, 8, 16, 16)

    def forward() -> None:
        network(images)

    with torch.inference_mode():
        rounds = time_interleaved(
            cpu_runner(forward, 1),
            cpu_runner(forward, 1),
            min_timing_s=0.001,
            max_seconds=10,
            target_half_width=0.02,
        )
    speed = summarize_rounds(rounds, 0.02).speed
    assert speed.median == pytest.approx(1.0, rel=0.15)
    assert speed.half_width < 0.2


def test_cpu_time_of_one_thread_excludes_waiting() -> None:
    timing = cpu_runner(lambda: time.sleep(0.01), threads=1)(3)
    assert timing.secondary >= 0.01
    assert timing.primary < timing.secondary / 3


def test_several_threads_are_timed_by_the_wall_clock() -> None:
    timing = cpu_runner(lambda: time.sleep(0.01), threads=2)(3)
    assert timing.primary >= 0.01
    assert timing.secondary < timing.primary / 3
