"""The non-dominated set of seed means, and the hypervolume that it covers."""

from collections.abc import Mapping
from typing import Any

import moocore
import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats, Mask, Objectives
from partialnas.analysis.frames.seed_means import aggregate
from partialnas.space.errors import UserError

_MARGIN = 0.1


def front(frame: pd.DataFrame, objectives: Objectives) -> pd.DataFrame:
    """One row per architecture of each study, with whether it is on the front.

    Args:
        frame: the trials, as `load` gives them.
        objectives: the quantities that decide, and which way each is better.

    Returns:
        The rows of `aggregate`, with `on_front` and `rank` (1 is the front; missing where an
        objective is, or where a limit of the study is violated). Identical points share the front.
        `attrs` tells `objectives`, `incomplete` (how many rows lack an objective) and
        `default_reference_point` (see the function).
    """
    rows = aggregate(frame, objectives)
    points = feasible_points(rows, objectives)
    incomplete = ~finite_mask(rows[list(objectives)].to_numpy(float))
    ranks = _ranks(points, objectives)
    rows.insert(0, "rank", ranks)
    rows.insert(0, "on_front", ranks.eq(1).fillna(value=False).astype(bool))
    rows.attrs = {
        "objectives": dict(objectives),
        "incomplete": int(incomplete.sum()),
        "reference_point": _stored(frame, default_reference_point(rows, objectives)),
    }
    return rows


def _stored(frame: pd.DataFrame, found: Mapping[str, float]) -> dict[str, float]:
    """A reference point with the values that the study has stored in the place of those found."""
    stored = frame.attrs.get("reference_point", {})
    return {key: float(stored.get(key, value)) for key, value in found.items()}


def hypervolume(
    frame: pd.DataFrame, objectives: Objectives, reference: Mapping[str, float] | None = None
) -> float:
    """The volume between the front and a reference point, in the product of the units.

    Baselines count too; `frame[~frame["baseline"]]` leaves them out.

    Args:
        frame: the trials, as `load` gives them.
        objectives: the quantities that span the volume, and which way each is better.
        reference: a value per objective; without it the one that the study stored when it began,
            and for objectives that it stored none for, that of `default_reference_point`.

    Raises:
        UserError: no trials, an unknown objective, or a reference that lacks one of them.
    """
    rows = front(frame, objectives)
    corner = rows.attrs["reference_point"] if reference is None else reference
    absent = [key for key in objectives if key not in corner]
    if absent:
        raise UserError(f"reference point: no value for {', '.join(absent)}")
    points = rows.loc[rows["on_front"], list(objectives)].to_numpy(float, copy=True)
    if not len(points):
        return 0.0
    at = [float(corner[key]) for key in objectives]
    return float(moocore.hypervolume(points, ref=at, maximise=_maximise(objectives)))


def default_reference_point(rows: pd.DataFrame, objectives: Objectives) -> dict[str, float]:
    """The default corner of a hypervolume: the worst value of each objective, and a tenth.

    The worst value is moved out by a tenth of the range, so that the ends of a front count. It
    depends on the rows at hand: to compare studies, state one point for all of them. Empty where
    no row has all objectives.
    """
    points = rows[list(objectives)].to_numpy(float, copy=True)
    points = points[finite_mask(points)]
    if not len(points):
        return {}
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * (high - low)
    worst = np.where(_maximise(objectives), low - margin, high + margin)
    return dict(zip(objectives, worst.tolist(), strict=True))


def non_dominated(points: Floats, objectives: Objectives) -> Mask:
    """Which points (one row each, a column per objective) no other point dominates.

    Identical points stay together; one that lacks an objective (NaN, infinite) is never chosen.
    """
    mask = finite_mask(points)
    # moocore loses valid points beside a NaN row, and without keep_weakly all but one duplicate
    mask[mask] = moocore.is_nondominated(
        points[mask], maximise=_maximise(objectives), keep_weakly=True
    )
    return mask


def feasible_points(rows: pd.DataFrame, objectives: Objectives) -> Floats:
    """The objectives of each row; none (NaN) of a network that violates a limit of its study."""
    points: Floats = rows[list(objectives)].to_numpy(float, copy=True)
    if "feasible" in rows:
        points[~rows["feasible"].to_numpy(bool)] = np.nan
    return points


def finite_mask(points: Floats) -> Mask:
    """Which points have all objectives as finite numbers."""
    return np.asarray(np.isfinite(points).all(axis=1), dtype=bool)


def _ranks(points: Floats, objectives: Objectives) -> "pd.Series[Any]":
    have_all = finite_mask(points)
    ranks = pd.Series(pd.NA, index=range(len(points)), dtype="Int64")
    ranks[have_all] = 1 + moocore.pareto_rank(points[have_all], maximise=_maximise(objectives))
    return ranks


def _maximise(objectives: Objectives) -> Mask:
    # an array: of a list with one entry moocore's ranks (0.3.2) see only that it is not empty
    return np.array([better == "max" for better in objectives.values()])
