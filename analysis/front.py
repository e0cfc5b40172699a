"""The non-dominated set of seed means, and the hypervolume that it covers."""

from collections.abc import Mapping
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.limits import with_feasible
from partialnas.analysis.quantities import Direction, differs_by_seed, find, known
from partialnas.space.errors import UserError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Objectives = Mapping[str, Direction]

FAILED = ("failed", "timeout")
"""States of trials that ended without a result."""

_PER_TRIAL = ("key", "seed", "state", "reason", "warnings")
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
        `reference_point` (see the function).
    """
    rows = aggregate(frame, objectives)
    points = allowed(rows, objectives)
    incomplete = ~complete(rows[list(objectives)].to_numpy(float))
    ranks = _ranks(points, objectives)
    rows.insert(0, "rank", ranks)
    rows.insert(0, "on_front", ranks.eq(1).fillna(value=False).astype(bool))
    rows.attrs = {
        "objectives": dict(objectives),
        "incomplete": int(incomplete.sum()),
        "reference_point": _stored(frame, reference_point(rows, objectives)),
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
            and for objectives that it stored none for, that of `reference_point`.

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


def reference_point(rows: pd.DataFrame, objectives: Objectives) -> dict[str, float]:
    """The default corner of a hypervolume: the worst value of each objective, and a tenth.

    The worst value is moved out by a tenth of the range, so that the ends of a front count. It
    depends on the rows at hand: to compare studies, state one point for all of them. Empty where
    no row has all objectives.
    """
    points = rows[list(objectives)].to_numpy(float, copy=True)
    points = points[complete(points)]
    if not len(points):
        return {}
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * (high - low)
    worst = np.where(_maximise(objectives), low - margin, high + margin)
    return dict(zip(objectives, worst.tolist(), strict=True))


def aggregate(frame: pd.DataFrame, objectives: Objectives) -> pd.DataFrame:
    """One row per architecture of each study and condition, in the order of their first trials.

    The networks of one arm make one row, also where each seed has its own (learned ratios, and what
    follows from them); counts and speeds are then means over these. Trained quantities are means
    over the trials that count: done, at the study's full fidelity, with every trained objective.
    `n` is how many those are, `_sd` columns hold their standard deviation (n − 1), `failed` is how
    many trials failed; `trial` is the first one's number. Where a study states limits, `feasible`
    tells which networks satisfy them (see `analysis.limits`).

    Trials on the rungs below the last of a search (`early`) are left out, and networks that have
    no others with them.

    Raises:
        UserError: there are no trials, or an objective is unknown.
    """
    require_trials(frame)
    frame = frame[frame["state"].ne("early")]
    if frame.empty:
        raise UserError("no network has been trained in full yet: let the search go on")
    if not objectives:
        raise UserError("no objectives: name at least one quantity, such as val_nll: min")
    keys = [find(f"{key}:{better}", frame).key for key, better in objectives.items()]
    code = groups(frame).to_numpy()
    trained = [key for key in known(frame) if differs_by_seed(key)]
    counts = counting(frame, [key for key in keys if differs_by_seed(key)])
    values = frame[trained].astype(float).where(counts).groupby(code)
    facts = frame.drop(columns=[*trained, *_PER_TRIAL], errors="ignore")
    if len(code) == code.max() + 1:  # one trial each: nothing to put together
        return _of_single_trials(frame, facts, counts, trained)
    facts = facts.groupby(code).first()
    for key in _averaged(frame, trained):
        facts[key] = _mean(frame[key], code)
    n = counts.groupby(code).sum().rename("n")
    failed = frame["state"].isin(FAILED).groupby(code).sum().rename("failed")
    rows = pd.concat([facts, n, failed, values.mean(), values.std().add_suffix("_sd")], axis=1)
    return with_feasible(rows, frame.attrs.get("limits", {}))


def _of_single_trials(
    frame: pd.DataFrame, facts: pd.DataFrame, counts: "pd.Series[bool]", trained: list[str]
) -> pd.DataFrame:
    """The rows of `aggregate` where every architecture has one trial."""
    values = frame[trained].astype(float).where(counts)
    n = counts.astype("int64").rename("n")
    failed = frame["state"].isin(FAILED).astype("int64").rename("failed")
    spreads = pd.DataFrame(np.nan, index=frame.index, columns=[f"{key}_sd" for key in trained])
    rows = pd.concat([facts, n, failed, values, spreads], axis=1).reset_index(drop=True)
    return with_feasible(rows, frame.attrs.get("limits", {}))


def groups(frame: pd.DataFrame) -> "pd.Series[int]":
    """The number, from 0, of the architecture or arm that each trial is of."""
    network = frame["digest"]
    if "arm" in frame:
        network = network.where(frame["arm"].eq(""), "")
    keys = [frame[key] for key in ("folder", "condition", "arm") if key in frame]
    differing = [key for key in keys if key.nunique(dropna=False) > 1]  # others cost time alone
    return frame.groupby([*differing, network], sort=False, dropna=False).ngroup()


def _averaged(frame: pd.DataFrame, trained: list[str]) -> list[str]:
    """Counted and measured columns, which differ within an arm where each seed has a network."""
    ends = [key for key in ("relative_low", "relative_high") if key in frame]
    return [key for key in (*known(frame), *ends) if key not in trained]


def _mean(column: "pd.Series[Any]", code: Any) -> "pd.Series[Any]":
    mean = column.astype("float64").groupby(code).mean()
    return mean.round().astype(column.dtype) if column.dtype == "Int64" else mean


def require_trials(frame: pd.DataFrame) -> None:
    """Refuses a table without rows.

    Raises:
        UserError: there are no trials.
    """
    if frame.empty:
        raise UserError("no trials: nothing has been run in this study yet")


def non_dominated(points: Floats, objectives: Objectives) -> Mask:
    """Which points (one row each, a column per objective) no other point dominates.

    Identical points stay together; one that lacks an objective (NaN, infinite) is never chosen.
    """
    mask = complete(points)
    # moocore loses valid points beside a NaN row, and without keep_weakly all but one duplicate
    mask[mask] = moocore.is_nondominated(
        points[mask], maximise=_maximise(objectives), keep_weakly=True
    )
    return mask


def allowed(rows: pd.DataFrame, objectives: Objectives) -> Floats:
    """The objectives of each row; none (NaN) of a network that violates a limit of its study."""
    points: Floats = rows[list(objectives)].to_numpy(float, copy=True)
    if "feasible" in rows:
        points[~rows["feasible"].to_numpy(bool)] = np.nan
    return points


def complete(points: Floats) -> Mask:
    """Which points have all objectives as finite numbers."""
    return np.asarray(np.isfinite(points).all(axis=1), dtype=bool)


def counting(frame: pd.DataFrame, trained: list[str]) -> "pd.Series[bool]":
    """Which trials count: done, at the study's full fidelity, with every quantity of `trained`."""
    counts = frame["state"].eq("done") & frame[trained].notna().all(axis=1)
    if "full_fidelity" in frame:
        counts &= frame["fidelity"].ge(frame["full_fidelity"])
    return counts


def _ranks(points: Floats, objectives: Objectives) -> "pd.Series[Any]":
    have_all = complete(points)
    ranks = pd.Series(pd.NA, index=range(len(points)), dtype="Int64")
    ranks[have_all] = 1 + moocore.pareto_rank(points[have_all], maximise=_maximise(objectives))
    return ranks


def _maximise(objectives: Objectives) -> Mask:
    # an array: of a list with one entry moocore's ranks (0.3.2) see only that it is not empty
    return np.array([better == "max" for better in objectives.values()])
