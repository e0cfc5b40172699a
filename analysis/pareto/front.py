"""The non-dominated set of seed means, and the hypervolume that it covers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats, Objectives
from partialnas.analysis.frames.seed_means import aggregate
from partialnas.analysis.frames.trials import Trials, as_trials
from partialnas.analysis.stats.dominance import (
    dominated_hypervolume,
    finite_mask,
    maximize_mask,
    non_dominated_ranks,
)
from partialnas.space.errors import UserError

_MARGIN = 0.1


def front(trials: Trials | pd.DataFrame, objectives: Objectives) -> pd.DataFrame:
    """Return one row per architecture of each study, and whether it is on the front.

    Args:
        trials: trials of one or several studies, as `load` or `load_trials` returns them.
        objectives: quantities that decide, and the direction of each.

    Returns:
        The rows of `aggregate` with `on_front` and `rank`: 1 for the front, missing if an objective
        is missing or a limit of the study is violated. Identical points share the front.

    Raises:
        UserError: no trials, or an unknown objective.
    """
    rows = aggregate(trials, objectives)
    points = feasible_points(rows, objectives)
    ranks = pd.Series(1 + non_dominated_ranks(points, objectives), dtype="Int64")
    ranks = ranks.where(finite_mask(points))
    rows.insert(0, "rank", ranks)
    rows.insert(0, "on_front", ranks.eq(1).fillna(value=False).astype(bool))
    return rows


def reference_point(trials: Trials, rows: pd.DataFrame, objectives: Objectives) -> dict[str, float]:
    """Return the study's stored reference point; the default where it stored none.

    Args:
        trials: trials of the study.
        rows: rows of `front`, which decide the default (see `default_reference_point`).
        objectives: quantities that span the hypervolume.
    """
    default = default_reference_point(rows, objectives)
    return {k: float(trials.reference_point.get(k, value)) for k, value in default.items()}


def hypervolume(
    trials: Trials | pd.DataFrame,
    objectives: Objectives,
    reference: Mapping[str, float] | None = None,
) -> float:
    """Return the volume between the front and a reference point, in the product of the units.

    Baselines count; `trials[~trials["baseline"]]` leaves them out.

    Args:
        trials: trials of one or several studies, as `load` or `load_trials` returns them.
        objectives: quantities that span the volume, and the direction of each.
        reference: one value per objective. The default is the reference point that the study
            stored at its start, completed by `default_reference_point`.

    Raises:
        UserError: no trials, an unknown objective, or a reference point without one of them.
    """
    trials = as_trials(trials)
    rows = front(trials, objectives)
    corner = reference_point(trials, rows, objectives) if reference is None else reference
    absent = [key for key in objectives if key not in corner]
    if absent:
        raise UserError(f"reference point: no value for {', '.join(absent)}")
    points = rows.loc[rows["on_front"], list(objectives)].to_numpy(float, copy=True)
    return dominated_hypervolume(points, [float(corner[key]) for key in objectives], objectives)


def default_reference_point(rows: pd.DataFrame, objectives: Objectives) -> dict[str, float]:
    """Return the worst value of each objective, moved outwards by a tenth of its range.

    The margin makes the ends of a front count. The point depends on the rows: to compare studies,
    state one point for all of them. Empty if no row has all objectives.
    """
    points = rows[list(objectives)].to_numpy(float, copy=True)
    points = points[finite_mask(points)]
    if not len(points):
        return {}
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * (high - low)
    worst = np.where(maximize_mask(objectives), low - margin, high + margin)
    return dict(zip(objectives, worst.tolist(), strict=True))


def feasible_points(rows: pd.DataFrame, objectives: Objectives) -> Floats:
    """Return the objectives of each row; NaN for a network that violates a limit of its study."""
    points: Floats = rows[list(objectives)].to_numpy(float, copy=True)
    if "feasible" in rows:
        points[~rows["feasible"].to_numpy(bool)] = np.nan
    return points
