"""Dominance: the front, ranks and the hypervolume, against their definitions."""

from typing import Any

import numpy as np
import pytest

from partialnas.analysis.stats.dominance import (
    dominated_hypervolume,
    non_dominated,
    non_dominated_ranks,
)

OBJECTIVES: dict[str, Any] = {"a": "min", "b": "max"}
POINTS = np.array([[1.0, 1.0], [2.0, 3.0], [2.0, 3.0], [3.0, 2.0], [np.nan, 9.0], [0.0, np.inf]])


def test_incomplete_points_are_never_on_the_front_and_duplicates_stay_on_request() -> None:
    assert non_dominated(POINTS, OBJECTIVES).tolist() == [True, True, True, False, False, False]
    first = non_dominated(POINTS, OBJECTIVES, keep_duplicates=False)
    assert first.tolist() == [True, True, False, False, False, False]
    assert non_dominated(POINTS[:4]).tolist() == [True, False, False, False]


def test_ranks_count_fronts_from_zero_and_incomplete_points_come_last() -> None:
    assert non_dominated_ranks(POINTS, OBJECTIVES).tolist() == [0, 0, 0, 1, 6, 6]
    assert non_dominated_ranks(POINTS[:4, :1]).tolist() == [0, 1, 1, 2]
    assert non_dominated_ranks(POINTS[4:]).tolist() == [2, 2]


def test_hypervolume_is_the_share_of_darts_that_points_dominate() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((5, 2))
    darts = rng.random((200_000, 2))
    hit = ((points[:, 0] <= darts[:, None, 0]) & (points[:, 1] >= darts[:, None, 1])).any(axis=1)
    volume = dominated_hypervolume(points, [1.0, 0.0], OBJECTIVES)
    assert volume == pytest.approx(hit.mean(), abs=0.005)
    assert dominated_hypervolume(points[:, :1], [1.0]) == 1 - points[:, 0].min()
    assert dominated_hypervolume(points + 1, [1.0, 0.0], {"a": "min", "b": "min"}) == 0.0
    assert dominated_hypervolume(points[:0], [1.0, 0.0]) == 0.0
