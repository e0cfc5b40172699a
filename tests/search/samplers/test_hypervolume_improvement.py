"""Improvement of a front's hypervolume, against moocore's hypervolume of front and point."""

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.search.samplers.hypervolume_improvement import hypervolume_improvement


@given(
    objectives=st.integers(2, 4),
    size=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    grid=st.booleans(),
)
def test_the_improvement_is_the_difference_of_two_hypervolumes(
    objectives: int, size: int, seed: int, grid: bool
) -> None:
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0, 1, (size + 10, objectives))
    drawn = np.round(drawn * 4) / 4 if grid else drawn
    front, points = drawn[:size], drawn[size:] * 1.3 - 0.1
    front = front[moocore.is_nondominated(front)]
    reference = np.full(objectives, 1.05)
    before = moocore.hypervolume(front, ref=reference)
    expected = [
        moocore.hypervolume(np.vstack([front, point]), ref=reference) - before for point in points
    ]
    assert hypervolume_improvement(front, points, reference) == pytest.approx(expected, abs=1e-9)


def test_with_one_objective_it_is_how_much_less_a_point_is() -> None:
    gains = hypervolume_improvement(
        np.array([[2.0]]), np.array([[1.5], [2.0], [3.0]]), np.array([5.0])
    )
    assert gains.tolist() == [0.5, 0.0, 0.0]
