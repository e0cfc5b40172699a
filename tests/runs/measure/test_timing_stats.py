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


def laps(seconds: float, other: float | None = None) -> Timing:
    return Timing(seconds, seconds if other is None else other)


def spread(count: int, width: float) -> list[Round]:
    """Rounds of a candidate that is twice as fast, evenly spread by `width` to either side."""
    factors = np.linspace(1 - width, 1 + width, count)
    return [Round(laps(1.0), laps(2.0 * factor)) for factor in factors]


@pytest.mark.parametrize("count", [*range(MIN_VALUES, 40), 99, 100, 1000, 2000])
def test_interval_is_scipys(count: int) -> None:
    values = np.random.default_rng(count).lognormal(size=count)
    ends = quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    found = median_interval(list(values))
    assert found == (np.median(values), ends.low, ends.high)  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", range(MIN_VALUES, 60))
def test_interval_holds_95_percent_and_no_value_could_be_spared(count: int) -> None:
    found = median_interval([float(value) for value in range(count)])
    outside = int(found.low)
    assert found.high == count - 1 - outside
    # the interval misses the median if at most `outside` values lie on one side of it
    assert 2 * binom.cdf(outside, count, 0.5) <= 0.05 < 2 * binom.cdf(outside + 1, count, 0.5)


@pytest.mark.parametrize("draw", ["normal", "lognormal", "standard_cauchy", "exponential"])
def test_interval_covers_the_median_whatever_the_distribution(draw: str) -> None:
    generator = np.random.default_rng(0)
    truth = {"normal": 0.0, "lognormal": 1.0, "standard_cauchy": 0.0, "exponential": math.log(2)}
    trials = 2000
    hits = 0
    for _ in range(trials):
        found = median_interval(list(getattr(generator, draw)(size=25)))
        hits += found.low <= truth[draw] <= found.high
    assert hits >= binom.ppf(0.001, trials, 0.95)


def test_too_few_values_give_their_range() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert median_interval([1.0]) == (1.0, 1.0, 1.0)


@given(st.lists(SECONDS, min_size=1, max_size=60))
def test_interval_surrounds_the_median_and_ignores_the_order(values: list[float]) -> None:
    found = median_interval(values)
    assert found.low <= found.median <= found.high
    assert found == median_interval(values[::-1])


@given(st.lists(SECONDS, min_size=MIN_VALUES, max_size=60), st.floats(0.01, 100))
def test_interval_follows_the_unit(values: list[float], factor: float) -> None:
    scaled = median_interval([value * factor for value in values])
    assert scaled == pytest.approx([end * factor for end in median_interval(values)])
    assert scaled.half_width == pytest.approx(
        median_interval(values).half_width, rel=1e-6, abs=1e-9
    )


def test_half_width_is_the_longer_sides_share() -> None:
    assert Interval(10.0, 9.0, 13.0).half_width == pytest.approx(0.3)
    assert Interval(10.0, 6.0, 13.0).half_width == pytest.approx(0.4)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=30))
def test_speed_is_how_many_times_as_fast(times: list[tuple[float, float]]) -> None:
    rounds = [Round(laps(candidate), laps(reference)) for candidate, reference in times]
    for speed, (candidate, reference) in zip(relative_speeds(rounds), times, strict=True):
        assert speed * candidate == pytest.approx(reference)


def test_speed_without_a_reference_is_passes_a_second() -> None:
    assert relative_speeds([Round(laps(0.25))]) == [4.0]


@given(st.lists(st.floats(0.5, 200), min_size=1, max_size=50), st.floats(0.1, 10))
@settings(max_examples=50)
def test_a_machine_that_changes_its_speed_between_rounds_changes_nothing(
    slowdowns: list[float], ratio: float
) -> None:
    rounds = [Round(laps(slow), laps(slow * ratio)) for slow in slowdowns]
    assert summarize_rounds(rounds, 0.02).speed == pytest.approx((ratio, ratio, ratio))


def test_a_few_disturbed_rounds_change_nothing() -> None:
    calm = [Round(laps(1.0), laps(2.0))] * 30
    disturbed = [Round(laps(9.0), laps(2.0))] * 5 + [Round(laps(1.0), laps(50.0))] * 5
    found = summarize_rounds(calm + disturbed, 0.02)
    assert found.speed == (2.0, 2.0, 2.0)
    assert not found.noisy


def test_the_figures_of_a_finding_fit_together() -> None:
    found = summarize_rounds([Round(Timing(0.5, 0.51), Timing(2.0, 2.0))] * 10, 0.02)
    assert found.speed.median == 4.0
    assert found.reference_seconds == 2.0
    assert found.clock_gap == pytest.approx(1 - 0.5 / 0.51)


@pytest.mark.parametrize(
    ("wall", "noisy"),
    [(1.0, False), (1 + MAX_CLOCK_GAP / 2, False), (1.1, True), (1 / 1.1, True), (0.5, True)],
)
def test_clocks_that_disagree_make_it_noisy(wall: float, noisy: bool) -> None:
    assert summarize_rounds([Round(Timing(1.0, wall), laps(2.0))] * 20, 0.02).noisy is noisy


def test_clocks_that_are_late_alike_agree() -> None:
    assert summarize_rounds([Round(Timing(1.0, 3.0), Timing(2.0, 6.0))] * 20, 0.02).clock_gap == 0


@pytest.mark.parametrize(("width", "noisy"), [(0.01, False), (0.3, True)])
def test_a_wide_interval_makes_it_noisy(width: float, noisy: bool) -> None:
    assert summarize_rounds(spread(20, width), 0.02).noisy is noisy


@pytest.mark.parametrize("target", [0.01, 0.05, 0.2])
def test_settled_is_as_narrow_as_asked(target: float) -> None:
    width = median_interval(relative_speeds(spread(20, 0.1))).half_width
    assert is_precise_enough(spread(20, 0.1), target) is (width <= target)


def test_few_rounds_are_never_settled_and_always_noisy() -> None:
    rounds = [Round(laps(1.0), laps(2.0))] * (MIN_VALUES - 1)
    assert not is_precise_enough(rounds, 0.5)
    assert summarize_rounds(rounds, 0.5).noisy
    assert is_precise_enough([*rounds, rounds[0]], 0.5)
