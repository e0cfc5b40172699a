import argparse
import ast
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from partialnas.runs.measure import board_script as board
from partialnas.runs.measure import timing_stats as rounds

POSITIVE = st.floats(1e-6, 1e3)


def test_the_script_needs_python_numpy_and_onnxruntime_alone() -> None:
    tree = ast.parse(Path(str(board.__file__)).read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if not isinstance(node, ast.ImportFrom) or node.module
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


@given(st.lists(POSITIVE, min_size=1, max_size=80))
def test_its_interval_covers_the_median_by_the_binomial(values: list[float]) -> None:
    middle, low, high = board.median_interval(values)
    assert (middle, low, high) == tuple(rounds.median_interval(values))
    ordered = sorted(values)
    if len(values) >= board.FEWEST:
        spared = int(binom.ppf(0.025, len(values), 0.5)) - 1
        spared += binom.cdf(spared + 1, len(values), 0.5) <= 0.025
        assert (low, high) == (ordered[max(spared, 0)], ordered[-1 - max(spared, 0)])
        assert binom.cdf(max(spared, 0), len(values), 0.5) <= 0.025 + 1e-12


LAPS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=40)


@given(LAPS)
def test_it_finds_what_this_stack_finds(laps: list[tuple[float, float]]) -> None:
    pairs = [(board.BoardTiming(a, a * 1.02), board.BoardTiming(b, b)) for a, b in laps]
    here = rounds.summarize_rounds(
        [rounds.Round(rounds.Timing(*a), rounds.Timing(*b)) for a, b in pairs], 0.02
    )
    there = board.summarize_rounds(pairs, 0.02)
    assert (there["relative"], there["low"], there["high"]) == tuple(here.speed)
    assert there["reference_seconds"] == here.reference_seconds
    assert (there["clock_gap"], there["noisy"]) == (here.clock_gap, here.noisy)


def timer(seconds: float, order: list[str], name: str) -> Callable[[int], board.BoardTiming]:
    def lap(_passes: int) -> board.BoardTiming:
        order.append(name)
        return board.BoardTiming(seconds, seconds)

    return lap


@pytest.mark.parametrize("speed", [0.5, 1.0, 3.0])
def test_networks_and_reference_run_in_turns(speed: float) -> None:
    order: list[str] = []
    asked = argparse.Namespace(seconds=60.0, half_width=0.01)
    runners = timer(0.2 / speed, order, "network"), timer(0.2, order, "reference")
    played = board.time_interleaved(*runners, min_timing_s=0.001, options=asked)
    assert len(played) == board.MIN_ROUNDS
    assert board.summarize_rounds(played, 0.01)["relative"] == pytest.approx(speed)
    assert order[-4:] == ["reference", "network", "network", "reference"]
    assert order.count("network") == order.count("reference")
