"""Which networks a front's figure describes in detail, and which it draws as background dots."""

import numpy as np
import pandas as pd

from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.frames.arrays import Objectives
from partialnas.analysis.pareto.front import competing_points
from partialnas.analysis.pareto.table import ParetoTable
from partialnas.analysis.stats.dominance import non_dominated_ranks

MAX_OTHERS = 300
"""Largest number of dominated networks described in detail: those nearest to the front."""

FRONT, BASELINE, ARM, OTHER = "front", "baseline", "arm", "other"
"""Kinds of points."""


def detailed_points(pareto: ParetoTable, prefix: str) -> pd.DataFrame:
    """Return the rows of a Pareto table that the report describes in detail, the front first.

    Adds the columns `id` (unique in the report), `kind`, `series` (0 for the study's own networks,
    then one number per family of baselines) and `off_line` (whether a member of the front is
    dominated in the two quantities on the axes alone).

    Args:
        pareto: table of all networks.
        prefix: prefix of the ids.
    """
    table = pareto.rows
    conditions = [table["on_front"], table["family"].ne(""), table["arm"].ne("")]
    kind = np.select(conditions, [FRONT, BASELINE, ARM], OTHER)
    families = [*dict.fromkeys(table.loc[table["family"].ne(""), "family"])]
    series = [families.index(f) + 1 if f else 0 for f in table["family"]]
    on_line = table["on_projected_front" if pareto.is_projection else "on_front"]
    points = table.assign(kind=kind, series=series, off_line=table["on_front"] & ~on_line)
    others = points.index[points["kind"].eq(OTHER)]
    near = _nearest(table.loc[others], next(iter(pareto.deciding.values())))
    points = pd.concat([points[points["kind"].ne(OTHER)], points.loc[near]])
    points.insert(0, "id", [f"{prefix}{index}" for index in points.index])
    points["label"] = [one_line(str(label)) for label in points["label"]]
    return points


def _nearest(rows: pd.DataFrame, objectives: Objectives) -> "pd.Index[int]":
    """Return the index of the rows with the best non-dominated ranks."""
    ranks = non_dominated_ranks(competing_points(rows, objectives), objectives)
    order = np.argsort(ranks, kind="stable")[:MAX_OTHERS]
    return rows.index[np.sort(order)]
