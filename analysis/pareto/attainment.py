"""Attainment of repeated searches: the median and the quartiles of their fronts."""

import moocore
import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats, Objectives
from partialnas.analysis.frames.seed_means import aggregate
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import competing_points
from partialnas.analysis.stats.dominance import finite_mask
from partialnas.space.errors import UserError

SHARES = (25, 50, 75)
"""Percent of the searches that attain the points of a surface."""

_MIN_REPEATS = 2


def attainment_surfaces(trials: Trials, objectives: Objectives) -> pd.DataFrame:
    """Return the surfaces that a share of repeated searches attains.

    Folders whose studies have one name are repeats of one search. A search attains a point if one
    of its networks is as good in both objectives; baselines and infeasible networks do not count.
    At least half of the searches attain the points of the 50 % surface (empirical attainment
    function, Grunert da Fonseca et al. 2001).

    Args:
        trials: trials of the repeats.
        objectives: two quantities, and the direction of each.

    Returns:
        One row per corner of a surface: `study`, `share` (percent), `repeats` and both objectives,
        ordered by the first objective.

    Raises:
        UserError: a study has no repeats, or a repeat has no network with both objectives.
    """
    rows = aggregate(trials, objectives)
    rows = rows[~rows["baseline"]]
    studies = rows.groupby("study", sort=False)
    parts = [_surfaces(str(study), group, objectives) for study, group in studies]
    return pd.concat(parts, ignore_index=True)


def _surfaces(study: str, rows: pd.DataFrame, objectives: Objectives) -> pd.DataFrame:
    points = competing_points(rows, objectives)
    usable = finite_mask(points)
    sets = pd.factorize(rows["folder"])[0]
    repeats = len({*sets})
    if repeats < _MIN_REPEATS:
        raise UserError(
            f"{study}: attainment needs repeated searches: the same study in several folders. Run "
            "it again with --set search.seed=1 --out OTHER_FOLDER"
        )
    if len({*sets[usable]}) < repeats:
        both = " and ".join(objectives)
        raise UserError(
            f"{study}: one of the {repeats} searches has no feasible network with {both}"
        )
    sign = np.array([1.0 if better == "min" else -1.0 for better in objectives.values()])
    corners = moocore.eaf(points[usable] * sign, sets[usable], percentiles=[*SHARES])
    keys = [*objectives]
    surfaces = pd.DataFrame(corners[:, :-1] * sign, columns=keys)
    surfaces.insert(0, "share", corners[:, -1].round().astype(int))
    surfaces.insert(0, "repeats", repeats)
    surfaces.insert(0, "study", study)
    return surfaces.sort_values(["share", keys[0]], kind="stable")


def step_line(points: Floats, corner: tuple[float, float], objectives: Objectives) -> Floats:
    """Return the corners of the step line around the area that points dominate.

    Args:
        points: non-dominated points with columns x and y, ordered by x.
        corner: worst x and worst y that are drawn; the line ends there.
        objectives: directions of x and y.
    """
    better_x = next(iter(objectives.values()))
    across, up = points[:, 0].repeat(2), points[:, 1].repeat(2)
    if better_x == "max":
        return np.column_stack([np.r_[corner[0], across], np.r_[up, corner[1]]])
    return np.column_stack([np.r_[across, corner[0]], np.r_[corner[1], up]])
