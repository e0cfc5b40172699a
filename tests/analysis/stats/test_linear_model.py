"""The block model against numpy's dense least squares, for any layout and for large ones."""

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.analysis.stats.linear_model import equal_variances_p, fit

CELLS = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1)


@settings(max_examples=50)
@given(cells=CELLS, stream=st.integers(0, 2**32 - 1))
def test_fits_match_dense_least_squares(cells: set[tuple[int, int]], stream: int) -> None:
    rng = np.random.default_rng(stream)
    values: dict[str, dict[int, float]] = {}
    for arm, seed in sorted(cells):
        values.setdefault(f"a{arm}", {})[seed] = float(rng.normal())
    result = fit(values)

    indices = [(result.arms.index(f"a{arm}"), seed) for arm, seed in sorted(cells)]
    width = len(result.arms) + 6
    design = np.zeros((len(indices), width))
    for row, (arm, seed) in enumerate(indices):
        design[row, [arm, len(result.arms) + seed]] = 1
    y = np.array([values[f"a{arm}"][seed] for arm, seed in sorted(cells)])
    inverse = np.linalg.pinv(design)
    np.testing.assert_allclose(result.residuals, y - design @ inverse @ y, atol=1e-11)
    assert result.degrees == len(y) - np.linalg.matrix_rank(design)
    for arm in range(len(result.arms)):
        contrast = np.zeros(width)
        contrast[arm] += 1
        contrast[0] -= 1
        estimable = np.allclose(contrast @ inverse @ design, contrast)
        weights = result.contrast_weights(result.arms[arm], result.arms[0])
        assert (weights is not None) == estimable
        if weights is not None:
            spread = contrast @ inverse
            np.testing.assert_allclose(result.estimate(weights), spread @ y, atol=1e-11)
            np.testing.assert_allclose(
                result.covariance(weights[None]), [[spread @ spread]], atol=1e-11
            )


def test_thousands_of_seeds_or_arms_take_seconds() -> None:
    rng = np.random.default_rng(0)
    started = time.process_time()
    for arms, seeds in ((1, 5000), (5000, 1)):
        numbers = rng.normal(size=(arms, seeds)).tolist()
        values = {f"a{arm}": dict(enumerate(row)) for arm, row in enumerate(numbers)}
        equal_variances_p(fit(values))
    assert time.process_time() - started < 10  # dense least squares takes minutes
