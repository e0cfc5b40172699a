"""The non-dominated set of seed means, and the hypervolume that it covers."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats, Objectives
from partialnas.analysis.frames.folders import Paths
from partialnas.analysis.frames.load import as_trials, load
from partialnas.analysis.frames.seed_means import aggregate, has_failed_seed, objectives_by_folder
from partialnas.analysis.frames.settings import setting_columns
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.stats.dominance import (
    dominated_hypervolume,
    finite_mask,
    maximize_mask,
    non_dominated_ranks,
)
from partialnas.space.errors import UserError

_MARGIN = 0.1


def front(
    trials: Trials | pd.DataFrame | Paths, objectives: Objectives | None = None
) -> pd.DataFrame:
    """Return one row per architecture of each study, and whether it is on the front of its study.

    This is the only place where membership of a front is decided: tables, figures, reports and the
    choice of networks for confirmations and audits use it with the objectives of each study. The
    networks of a study and condition compete with each other. Baselines (named arms of a search),
    networks that violate a limit of the study, and networks with a failed seed do not compete.

    Args:
        trials: trials of one or several studies, as `load` or `load_trials` returns them, or the
            folders of the studies.
        objectives: quantities that decide, and the direction of each; by default the objectives of
            each study.

    Returns:
        The rows of `aggregate`, with the settings of the first trial if `trials` has them, and
        `on_front` and `rank`: 1 for the front, missing if an objective is missing, a limit is
        violated, a seed failed, or for baselines. Identical points share the front.

    Raises:
        UserError: no trials, an unknown objective, or objectives that nothing states.
    """
    given = trials if isinstance(trials, Trials | pd.DataFrame) else load(trials)
    trials = as_trials(given)
    rows = aggregate(trials, objectives)
    deciding = objectives_by_folder(trials, rows, objectives)
    ranks = pd.Series(pd.NA, index=rows.index, dtype="Int64")
    for folder, group in _competitors(rows):
        points = competing_points(group, deciding[folder])
        complete = finite_mask(points)
        ranks[group.index[complete]] = 1 + non_dominated_ranks(points, deciding[folder])[complete]
    rows.insert(0, "rank", ranks)
    rows.insert(0, "on_front", ranks.eq(1).fillna(value=False).astype(bool))
    return _join_settings(rows, given, trials) if isinstance(given, pd.DataFrame) else rows


def _join_settings(rows: pd.DataFrame, frame: pd.DataFrame, trials: Trials) -> pd.DataFrame:
    """Add the settings of the first trial of each architecture, as `load` returned them."""
    settings = setting_columns(frame, trials.axes)
    if not settings:
        return rows
    keys = ["folder", "trial"]
    first = frame[[*keys, *settings]].drop_duplicates(keys)
    return rows.merge(first, how="left", on=keys)


def _competitors(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the networks that compete with each other, with the folder of their study."""
    searched = rows[~rows["baseline"]] if "baseline" in rows else rows
    keys = [key for key in ("folder", "condition") if key in rows]
    if not keys:
        yield "", searched
        return
    for names, group in searched.groupby(keys, sort=False):
        yield str(names[0]) if "folder" in keys else "", group


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
    trials: Trials | pd.DataFrame | Paths,
    objectives: Objectives,
    reference: Mapping[str, float] | None = None,
) -> float:
    """Return the volume between the front and a reference point, in the product of the units.

    Baselines do not count (see `front`).

    Args:
        trials: trials of one or several studies, as `load` or `load_trials` returns them, or the
            folders of the studies.
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


def competing_points(rows: pd.DataFrame, objectives: Objectives) -> Floats:
    """Return the objectives of each row; NaN for a network that does not compete.

    It violates a limit of its study, or one of its seeds failed (see `has_failed_seed`).
    """
    points: Floats = rows[list(objectives)].to_numpy(float, copy=True)
    points[has_failed_seed(rows).to_numpy()] = np.nan
    if "feasible" in rows:
        points[~rows["feasible"].to_numpy(bool)] = np.nan
    return points
