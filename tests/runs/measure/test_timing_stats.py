import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, quantile_test

from partialnas.runs.measure.timing_stats import (
    MAX_CLOCK_GAP,
    MIN_VALUES,
    Interval,
    Round,
    Timing,
    is_precise_enough,
    median_interval,
    relative_speeds,
    summarize_rounds,
)

SECONDS = st.floats(1e-5, 1e2)


def timing(seconds: float, other: float | None = None) -> Timing:
    return Timing(seconds, seconds if other is None else other)


def spread(count: int, width: float) -> list[Round]:
    """Return rounds of a candidate twice as fast, spread evenly by `width` to either side."""
    factors = np.linspace(1 - width, 1 + width, count)
    return [Round(timing(1.0), timing(2.0 * factor)) for factor in factors]


@pytest.mark.parametrize("count", [*range(MIN_VALUES, 40), 99, 100, 1000, 2000])
def test_interval_equals_scipys(count: int) -> None:
    values = np.random.default_rng(count).lognormal(size=count)
    ends = quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    interval = median_interval(list(values))
    assert interval == (np.median(values), ends.low, ends.high)  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", range(MIN_VALUES, 60))
def test_interval_is_the_narrowest_with_at_least_95_percent(count: int) -> None:
    interval = median_interval([float(value) for value in range(count)])
    outside = int(interval.low)
    assert interval.high == count - 1 - outside
    # the interval misses the median if at most `outside` values lie on one side of it
    assert 2 * binom.cdf(outside, count, 0.5) <= 0.05 < 2 * binom.cdf(outside + 1, count, 0.5)


@pytest.mark.parametrize("draw", ["normal", "lognormal", "standard_cauchy", "exponential"])
def test_interval_covers_the_median_of_any_distribution(draw: str) -> None:
    generator = np.random.default_rng(0)
    truth = {"normal": 0.0, "lognormal": 1.0, "standard_cauchy": 0.0, "exponential": math.log(2)}
    trials = 2000
    hits = 0
    for _ in range(trials):
        interval = median_interval(list(getattr(generator, draw)(size=25)))
        hits += interval.low <= truth[draw] <= interval.high
    assert hits >= binom.ppf(0.001, trials, 0.95)


def test_too_few_values_give_their_range() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert median_interval([1.0]) == (1.0, 1.0, 1.0)


@given(st.lists(SECONDS, min_size=1, max_size=60))
def test_interval_surrounds_the_median_and_ignores_the_order(values: list[float]) -> None:
    interval = median_interval(values)
    assert interval.low <= interval.median <= interval.high
    assert interval == median_interval(values[::-1])


@given(st.lists(SECONDS, min_size=MIN_VALUES, max_size=60), st.floats(0.01, 100))
def test_interval_follows_the_unit(values: list[float], factor: float) -> None:
    scaled = median_interval([value * factor for value in values])
    assert scaled == pytest.approx([end * factor for end in median_interval(values)])
    assert scaled.half_width == pytest.approx(
        median_interval(values).half_width, rel=1e-6, abs=1e-9
    )


def test_half_width_is_the_longer_side_as_a_share() -> None:
    assert Interval(10.0, 9.0, 13.0).half_width == pytest.approx(0.3)
    assert Interval(10.0, 6.0, 13.0).half_width == pytest.approx(0.4)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=30))
def test_speed_is_the_ratio_of_times(times: list[tuple[float, float]]) -> None:
    rounds = [Round(timing(candidate), timing(reference)) for candidate, reference in times]
    for speed, (candidate, reference) in zip(relative_speeds(rounds), times, strict=True):
        assert speed * candidate == pytest.approx(reference)


def test_speed_without_a_reference_is_passes_per_second() -> None:
    assert relative_speeds([Round(timing(0.25))]) == [4.0]


@given(st.lists(st.floats(0.5, 200), min_size=1, max_size=50), st.floats(0.1, 10))
@settings(max_examples=50)
def test_changes_of_machine_speed_between_rounds_cancel(
    slowdowns: list[float], ratio: float
) -> None:
    rounds = [Round(timing(slow), timing(slow * ratio)) for slow in slowdowns]
    assert summarize_rounds(rounds, 0.02).speed == pytest.approx((ratio, ratio, ratio))


def test_a_few_disturbed_rounds_have_no_effect() -> None:
    calm = [Round(timing(1.0), timing(2.0))] * 30
    disturbed = [Round(timing(9.0), timing(2.0))] * 5 + [Round(timing(1.0), timing(50.0))] * 5
    summary = summarize_rounds(calm + disturbed, 0.02)
    assert summary.speed == (2.0, 2.0, 2.0)
    assert not summary.noisy


def test_values_of_a_summary_are_consistent() -> None:
    summary = summarize_rounds([Round(Timing(0.5, 0.51), Timing(2.0, 2.0))] * 10, 0.02)
    assert summary.speed.median == 4.0
    assert summary.reference_seconds == 2.0
    assert summary.clock_gap == pytest.approx(1 - 0.5 / 0.51)


@pytest.mark.parametrize(
    ("wall", "noisy"),
    [(1.0, False), (1 + MAX_CLOCK_GAP / 2, False), (1.1, True), (1 / 1.1, True), (0.5, True)],
)
def test_disagreeing_clocks_make_a_summary_noisy(wall: float, noisy: bool) -> None:
    assert summarize_rounds([Round(Timing(1.0, wall), timing(2.0))] * 20, 0.02).noisy is noisy


def test_clocks_with_the_same_ratio_agree() -> None:
    assert summarize_rounds([Round(Timing(1.0, 3.0), Timing(2.0, 6.0))] * 20, 0.02).clock_gap == 0


@pytest.mark.parametrize(("width", "noisy"), [(0.01, False), (0.3, True)])
def test_a_wide_interval_makes_a_summary_noisy(width: float, noisy: bool) -> None:
    assert summarize_rounds(spread(20, width), 0.02).noisy is noisy


@pytest.mark.parametrize("target", [0.01, 0.05, 0.2])
def test_precision_is_compared_with_the_target(target: float) -> None:
    width = median_interval(relative_speeds(spread(20, 0.1))).half_width
    assert is_precise_enough(spread(20, 0.1), target) is (width <= target)


def test_few_rounds_are_never_precise_enough() -> None:
    rounds = [Round(timing(1.0), timing(2.0))] * (MIN_VALUES - 1)
    assert not is_precise_enough(rounds, 0.5)
    assert summarize_rounds(rounds, 0.5).noisy
    assert is_precise_enough([*rounds, rounds[0]], 0.5)
