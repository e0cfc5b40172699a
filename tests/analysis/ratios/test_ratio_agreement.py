import math
import warnings
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from partialnas.analysis.ratios.agreement import agreement, convergence, correlations

SHAPES = st.tuples(st.integers(2, 5), st.integers(2, 8))
SIZES = st.integers(1, 12).map(lambda size: 4.0 * size)
WIDTHS = (16, 32, 64, 64, 128, 128, 128, 256)


def table(courses: Any, **changes: Any) -> pd.DataFrame:
    """Return ratios from channels by seed, epoch and layer."""
    courses = np.asarray(courses, dtype=float)
    rows = [
        {
            "trial": seed + 1, "series": "a", "condition": "", "arm": "a", "seed": seed,
            "counts": True, "boundary": f"layer {layer}", "stage": 1, "block": layer + 1,
            "part": 1, "grain": 4, "epoch": epoch + 1, "channels": channels,
            "ratio": channels / WIDTHS[layer], "ramp": 1.0,
        }
        for (seed, epoch, layer), channels in np.ndenumerate(courses)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**changes)


@settings(max_examples=25)
@given(SHAPES.flatmap(lambda shape: arrays(float, shape, elements=SIZES)))
def test_agreement_compares_every_pair_of_seeds(final: Any) -> None:
    ratios = final / np.array(WIDTHS[: final.shape[1]])
    row = agreement(table(final[:, None, :])).iloc[0]
    pairs = list(combinations(range(len(final)), 2))
    apart = [abs(final[i] - final[j]).sum() / final.shape[1] for i, j in pairs]
    assert row["difference_channels"] == pytest.approx(sum(apart) / len(pairs))
    vary = [(i, j) for i, j in pairs if len(set(ratios[i])) > 1 and len(set(ratios[j])) > 1]
    assert (row["seeds"], row["layers"], row["pairs"]) == (*final.shape, len(vary))
    if vary:
        ranks = np.array([rankdata(seed) for seed in ratios])
        for column, values in (("pearson", ratios), ("spearman", ranks)):
            expected = np.mean([np.corrcoef(values[i], values[j])[0, 1] for i, j in vary])
            assert row[column] == pytest.approx(expected, abs=1e-9)
    variances = [np.var(layer, ddof=1) for layer in ratios.T]
    assert row["sd_seeds"] == pytest.approx(math.sqrt(sum(variances) / len(variances)), abs=1e-12)
    assert row["sd_layers"] == pytest.approx(np.std(ratios.mean(axis=0), ddof=1), abs=1e-12)


def test_a_correlation_of_equal_ratios_is_undefined_without_a_warning() -> None:
    even = [[4, 8, 16], [8, 16, 32]]  # 1/4 and 1/2 of every width
    tilted = [12, 8, 4]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        none = agreement(table(np.array(even)[:, None, :])).iloc[0]
        some = agreement(table(np.array([*even, tilted, tilted])[:, None, :])).iloc[0]
    assert none["pairs"] == 0
    assert none[["pearson", "spearman"]].isna().all()
    assert none["difference_channels"] == pytest.approx((4 + 8 + 16) / 3)
    assert none["sd_layers"] == pytest.approx(0)
    assert some["pairs"] == 1
    assert some[["pearson", "spearman"]].tolist() == pytest.approx([1, 1])


def test_one_seed_has_no_agreement_and_one_layer_no_spread() -> None:
    alone = agreement(table([[[4, 8, 32]]])).iloc[0]
    empty = ["pearson", "spearman", "difference_channels", "sd_seeds"]
    assert alone[empty].isna().all()
    assert alone["sd_layers"] == pytest.approx(np.std([1 / 4, 1 / 4, 1 / 2], ddof=1))
    flat = agreement(table([[[4]], [[8]]])).iloc[0]
    assert flat[["pearson", "spearman", "sd_layers"]].isna().all()
    assert flat["sd_seeds"] == pytest.approx(np.std([4 / 16, 8 / 16], ddof=1))


def test_spearman_uses_the_order_and_pearson_the_values() -> None:
    one, other = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 10.0, 100.0, 1000.0])
    pearson, spearman = correlations(one, other)
    assert spearman == pytest.approx(1)
    # centered: (-1.5, -.5, .5, 1.5) . (1, 10, 100, 1000) over the root of 5 . 717,508 - 2/7...
    centred = other - other.mean()
    expected = (np.array([-1.5, -0.5, 0.5, 1.5]) @ other) / math.sqrt(5 * (centred @ centred))
    assert pearson == pytest.approx(expected)
    assert correlations(one, -other)[1] == pytest.approx(-1)


def test_series_are_compared_separately_without_incomplete_trials() -> None:
    rng = np.random.default_rng(0)
    final = 4.0 * rng.integers(1, 10, (3, 1, 4))
    one, other = table(final[:2]), table(final)
    lost = table(final[:1], trial=9, counts=False)
    other = other.assign(trial=other["trial"] + 2, series="far: a", condition="far")
    table_of_series = agreement(pd.concat([one, other, lost], ignore_index=True))
    assert table_of_series[["series", "condition", "seeds"]].to_numpy().tolist() == [
        ["a", "", 2],
        ["far: a", "far", 3],
    ]
    assert table_of_series.loc[0, "pearson"] == agreement(one).loc[0, "pearson"]
    assert agreement(lost).empty
    assert convergence(lost).empty


COURSES = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(float, shape, elements=st.integers(0, 24).map(float))
)


@settings(max_examples=25)
@given(COURSES, st.sampled_from([None, 0.0, 2.0, 8.0]))
def test_convergence_is_the_first_epoch_from_which_all_stay_near(
    course: Any, within: float | None
) -> None:
    row = convergence(table([course]), within).iloc[0]
    near = 4 if within is None else within
    expected = next(
        epoch
        for epoch in range(1, len(course) + 1)
        if all(
            abs(channels - end) <= near
            for later in course[epoch - 1 :]
            for channels, end in zip(later, course[-1], strict=True)
        )
    )
    assert (row["epochs"], row["convergence_epoch"]) == (len(course), expected)


@settings(max_examples=25)
@given(COURSES)
def test_oscillation_is_total_over_net_movement_in_the_last_fifth(course: Any) -> None:
    late = course[-math.ceil(len(course) / 5) - 1 :].tolist()
    value = convergence(table([course]))["oscillation"].iloc[0]
    if len(late) == 1:
        assert math.isnan(value)
        return
    way = sum(abs(b - a) for one, two in pairwise(late) for a, b in zip(one, two, strict=True))
    forward = sum(abs(b - a) for a, b in zip(late[0], late[-1], strict=True))
    assert value == pytest.approx(way / max(forward, 1))


def test_oscillation_is_one_if_steady_and_zero_at_rest() -> None:
    epochs = np.arange(20)[:, None]
    steady, still = 8 + 2 * epochs, 8 + 0 * epochs
    to_and_fro = 16 + 4 * (-1) ** epochs
    oscillation = convergence(table([steady, still, to_and_fro]))["oscillation"].tolist()
    # four steps of 8 channels each, which end where they began
    assert oscillation == [1, 0, 32]


def test_frozen_epochs_do_not_count_as_oscillation() -> None:
    soft = [[4.0], [24.0], [4.0], [24.0], [4.0], [24.0], [4.0], [24.0], [4.0], [24.0]]
    frozen = [[12.0]] * 10
    ramps = [5.0] * 10 + [0.0] * 10
    row = convergence(table([[*soft, *frozen]], ramp=ramps)).iloc[0]
    assert row["convergence_epoch"] == 11
    assert row["oscillation"] == 40  # two steps of 20 channels, back to where they began
