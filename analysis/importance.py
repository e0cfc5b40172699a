"""How much axes of a space matter: permutation importance in a random forest, held out."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.front import Floats
from partialnas.space.errors import UserError

FEWEST = 12
"""Architectures without which nothing is said."""

REPEATS = 8
TREES = 40
_FOLDS = 5
_SHUFFLES = 3
_MOST_ROWS = 4000


def importance(levels: pd.DataFrame, values: Floats, *, seed: int = 0) -> pd.DataFrame:
    """The share of held-out variance that a forest no longer explains when an axis is shuffled.

    A random forest (Breiman 2001) learns the values from the levels of four fifths of the
    architectures; on the last fifth the levels of one axis are shuffled, and the fall of the
    explained variance (R²) is that axis's importance: near 0 for one that tells nothing, beyond
    what others tell as well. Folds, forests and shuffles are drawn anew eight times.

    Args:
        levels: whole numbers, a row per architecture, a column per axis.
        values: what the forest learns, one per row.
        seed: of everything drawn.

    Returns:
        `axis`, `importance` (mean over the repeats), `low` and `high` (2.5 and 97.5 percent of
        them), the most important first. `attrs["explained"]` is the mean held-out R².

    Raises:
        UserError: fewer than 12 architectures, or values that are all the same.
    """
    if len(values) < FEWEST:
        raise UserError(
            f"importance needs at least {FEWEST} architectures, there are {len(values)}"
        )
    if np.ptp(values) == 0:
        raise UserError("importance: all architectures have the same value, nothing to explain")
    generator = np.random.default_rng(seed)
    data = levels.to_numpy(float)
    if len(values) > _MOST_ROWS:
        kept = np.sort(generator.choice(len(values), _MOST_ROWS, replace=False))
        data, values = data[kept], values[kept]
    repeats = [_once(data, values, generator) for _ in range(REPEATS)]
    drops = np.stack([drop for drop, _ in repeats])
    low, high = np.quantile(drops, [0.025, 0.975], axis=0)
    table = pd.DataFrame(
        {"axis": [*levels.columns], "importance": drops.mean(axis=0), "low": low, "high": high}
    )
    table = table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)
    table.attrs["explained"] = float(np.mean([explained for _, explained in repeats]))
    return table


def _once(data: Floats, values: Floats, generator: np.random.Generator) -> tuple[Floats, float]:
    """One cross-validation: the fall of R² for each axis, and R² itself."""
    folds = np.array_split(generator.permutation(len(values)), _FOLDS)
    lost = np.zeros((len(values), data.shape[1]))
    left = np.zeros(len(values))
    for held in folds:
        rest = np.setdiff1d(np.arange(len(values)), held)
        forest = _forest(data[rest], values[rest], int(generator.integers(2**31)))
        left[held] = (values[held] - forest.predict(data[held])) ** 2
        lost[held] = _shuffled_errors(forest, data[held], values[held], generator)
    total = ((values - values.mean()) ** 2).sum()
    drops: Floats = (lost.sum(axis=0) - left.sum()) / total
    return drops, float(1 - left.sum() / total)


def _forest(data: Floats, values: Floats, seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(TREES, max_features=0.7, min_samples_leaf=2, random_state=seed)
    return forest.fit(data, values)


def _shuffled_errors(
    forest: Any, data: Floats, values: Floats, generator: np.random.Generator
) -> Floats:
    """Squared errors of each row with each axis shuffled, means over several shuffles."""
    sets = []
    for axis in range(data.shape[1]):
        for _ in range(_SHUFFLES):
            changed = data.copy()
            changed[:, axis] = generator.permutation(changed[:, axis])
            sets.append(changed)
    told: npt.NDArray[np.float64] = forest.predict(np.concatenate(sets))
    errors = (told.reshape(data.shape[1], _SHUFFLES, len(values)) - values) ** 2
    return np.asarray(errors.mean(axis=1).T, dtype=float)
