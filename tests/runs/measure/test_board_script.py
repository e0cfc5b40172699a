import argparse
import ast
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from partialnas.runs.measure import board_script, timing_stats

POSITIVE = st.floats(1e-6, 1e3)


def test_the_script_needs_only_python_numpy_and_onnxruntime() -> None:
    tree = ast.parse(Path(str(board_script.__file__)).read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if not isinstance(node, ast.ImportFrom) or node.module
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


@given(st.lists(POSITIVE, min_size=1, max_size=80))
def test_the_interval_agrees_with_the_binomial_distribution(values: list[float]) -> None:
    middle, low, high = board_script.median_interval(values)
    assert (middle, low, high) == tuple(timing_stats.median_interval(values))
    ordered = sorted(values)
    if len(values) >= board_script.MIN_VALUES:
        outside = int(binom.ppf(0.025, len(values), 0.5)) - 1
        outside += binom.cdf(outside + 1, len(values), 0.5) <= 0.025
        assert (low, high) == (ordered[max(outside, 0)], ordered[-1 - max(outside, 0)])
        assert binom.cdf(max(outside, 0), len(values), 0.5) <= 0.025 + 1e-12


TIMINGS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=40)


@given(TIMINGS)
def test_the_script_summarizes_rounds_as_the_package_does(
    timings: list[tuple[float, float]],
) -> None:
    pairs = [
        (board_script.BoardTiming(a, a * 1.02), board_script.BoardTiming(b, b)) for a, b in timings
    ]
    expected = timing_stats.summarize_rounds(
        [timing_stats.Round(timing_stats.Timing(*a), timing_stats.Timing(*b)) for a, b in pairs],
        0.02,
    )
    actual = board_script.summarize_rounds(pairs, 0.02)
    assert (actual["relative"], actual["low"], actual["high"]) == tuple(expected.speed)
    assert actual["reference_seconds"] == expected.reference_seconds
    assert (actual["clock_gap"], actual["noisy"]) == (expected.clock_gap, expected.noisy)


def timer(seconds: float, order: list[str], name: str) -> Callable[[int], board_script.BoardTiming]:
    def run(_passes: int) -> board_script.BoardTiming:
        order.append(name)
        return board_script.BoardTiming(seconds, seconds)

    return run


@pytest.mark.parametrize("speed", [0.5, 1.0, 3.0])
def test_network_and_reference_are_interleaved(speed: float) -> None:
    order: list[str] = []
    options = argparse.Namespace(seconds=60.0, half_width=0.01, provider="CPUExecutionProvider")
    runners = timer(0.2 / speed, order, "network"), timer(0.2, order, "reference")
    timings = board_script.time_interleaved(*runners, options=options)
    assert len(timings) == board_script.MIN_ROUNDS
    assert board_script.summarize_rounds(timings, 0.01)["relative"] == pytest.approx(speed)
    assert order[-4:] == ["reference", "network", "network", "reference"]
    assert order.count("network") == order.count("reference")
