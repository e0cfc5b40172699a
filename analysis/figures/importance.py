"""Figure of the importance of axes: permutation importance of a random forest."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.figures.base import FigureRequest, FigureSpec, requested_architectures
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import evaluation_phrase, pluralize
from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.frames.axis_levels import encode_levels, load_axis_levels
from partialnas.analysis.plotting.artists import AnyFigure
from partialnas.analysis.plotting.axes import set_ticks
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.plotting.names import axis_name
from partialnas.analysis.plotting.style import DARK_COLOR, SERIES_COLORS, Style
from partialnas.runs.config.quantities import Quantity, name_in_sentence
from partialnas.space.errors import UserError

_ROW, _AROUND = 0.24, 0.75


def importance_figure_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of each axis's importance for one quantity."""
    _, quantity, rows = requested_architectures(folders, request)
    chosen = load_axis_levels(folders, rows)
    rows = rows.loc[chosen.index]
    levels, values = encode_levels(chosen), rows[quantity.key].to_numpy(float)
    table, explained = permutation_importance(levels, values)
    table.insert(1, "levels", [chosen[axis].nunique() for axis in table["axis"]])
    interval = zip(table["low"], table["high"], strict=True)
    readable = pd.DataFrame(
        {
            "Axis": table["axis"].map(axis_name),
            "Levels": table["levels"].astype(str),
            "Fall of R²": [f"{value:.3f}" for value in table["importance"]],
            "95 % over repeats": [f"{low:.3f} to {high:.3f}" for low, high in interval],
        }
    )
    return FigureSpec(
        table=table.assign(metric=quantity.key, explained=explained),
        readable=readable,
        caption=_caption(rows, quantity, explained),
        plot_data=table,
        draw=partial(_draw, table, quantity),
    )


def _caption(rows: pd.DataFrame, quantity: Quantity, explained: float) -> Caption:
    warning = "The forest explains none of the held-out variance: the order is meaningless."
    doubt = warning if explained <= 0 else ""
    return Caption(
        [
            f"Permutation importance of the axes for {quantity.label}: "
            f"{pluralize(len(rows), 'architecture')}, {evaluation_phrase(rows)}.",
            f"Lines: 95 % of {NUM_REPEATS} repeats. Held-out R²: {explained:.2f}.",
            doubt,
        ],
        [
            f"Importance: decrease of the variance that a random forest of {NUM_TREES} trees, "
            "fitted to four fifths of the architectures, explains in the remaining fifth when an "
            "axis is shuffled. The repeats have other folds and forests; they do not include the "
            "sampling error of the architectures."
        ],
    )


def _draw(table: pd.DataFrame, quantity: Quantity, style: Style) -> AnyFigure:
    figure, axes = style.new_axes(_AROUND + _ROW * max(len(table), 3))
    rows = range(len(table))
    axes.barh(rows, table["importance"], height=0.6, color=SERIES_COLORS[0], zorder=2)
    axes.hlines(rows, table["low"], table["high"], DARK_COLOR, linewidth=0.9, zorder=3)
    axes.axvline(0, color=DARK_COLOR, linewidth=0.6, zorder=3)
    axes.set_yticks(rows, [elide(axis_name(axis)) for axis in table["axis"]])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    set_ticks(axes.xaxis, max_ticks=5)
    axes.set_xlabel(f"Fall of held-out R² ({name_in_sentence(quantity.key)})")
    return figure


MIN_ARCHITECTURES = 12
"""Minimum number of architectures."""

NUM_REPEATS = 8
NUM_TREES = 40
_FOLDS = 5
_SHUFFLES = 3
_MAX_ROWS = 4000


def permutation_importance(
    levels: pd.DataFrame, values: Floats, *, seed: int = 0
) -> tuple[pd.DataFrame, float]:
    """Return the decrease of explained held-out variance when an axis is shuffled.

    A random forest (Breiman 2001) is fitted to the levels and values of four fifths of the
    architectures. On the remaining fifth the levels of one axis are shuffled; the decrease of the
    explained variance (R²) is the importance of the axis, near 0 for an axis without information
    beyond that of the others. This is repeated with eight sets of folds, forests and shuffles.

    Args:
        levels: integers, one row per architecture and one column per axis.
        values: values that the forest predicts, one per row.
        seed: seed of folds, forests and shuffles.

    Returns:
        The table with `axis`, `importance` (mean over the repeats), `low` and `high` (their 2.5
        and 97.5 percentiles), the most important axis first; and the mean held-out R².

    Raises:
        UserError: fewer than 12 architectures, or all values are equal.
    """
    if len(values) < MIN_ARCHITECTURES:
        raise UserError(
            f"importance needs at least {MIN_ARCHITECTURES} architectures; there are {len(values)}"
        )
    if np.ptp(values) == 0:
        raise UserError(
            "importance: all architectures have the same value; there is no variance to explain"
        )
    generator = np.random.default_rng(seed)
    data = levels.to_numpy(float)
    if len(values) > _MAX_ROWS:
        kept = np.sort(generator.choice(len(values), _MAX_ROWS, replace=False))
        data, values = data[kept], values[kept]
    repeats = [_cross_validate(data, values, generator) for _ in range(NUM_REPEATS)]
    drops = np.stack([drop for drop, _ in repeats])
    low, high = np.quantile(drops, [0.025, 0.975], axis=0)
    columns = {"importance": drops.mean(axis=0), "low": low, "high": high}
    table = pd.DataFrame({"axis": [*levels.columns], **columns})
    table = table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)
    return table, float(np.mean([explained for _, explained in repeats]))


def _cross_validate(
    data: Floats, values: Floats, generator: np.random.Generator
) -> tuple[Floats, float]:
    """Return the decrease of R² for each axis, and R², of one cross-validation."""
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

    options = {"max_features": 0.7, "min_samples_leaf": 2, "random_state": seed}
    return RandomForestRegressor(NUM_TREES, **options).fit(data, values)


def _shuffled_errors(
    forest: Any, data: Floats, values: Floats, generator: np.random.Generator
) -> Floats:
    """Return squared errors with each axis shuffled, shape (rows, axes), mean over shuffles."""
    sets = []
    for axis in range(data.shape[1]):
        for _ in range(_SHUFFLES):
            changed = data.copy()
            changed[:, axis] = generator.permutation(changed[:, axis])
            sets.append(changed)
    predictions: npt.NDArray[np.float64] = forest.predict(np.concatenate(sets))
    errors = (predictions.reshape(data.shape[1], _SHUFFLES, len(values)) - values) ** 2
    return np.asarray(errors.mean(axis=1).T, dtype=float)
