"""Which networks the report's front tells in full, and which it draws as a crowd alone."""

from typing import Any

import moocore
import numpy as np
import pandas as pd

from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.pareto.front import feasible_points, finite_mask
from partialnas.runs.config.quantities import Quantity

MOST_OTHERS = 300
"""Networks beyond front and arms that the report tells in full: those nearest to the front."""

FRONT, BASELINE, ARM, OTHER = "front", "baseline", "arm", "other"
"""What a point of the figure is."""


def detailed_points(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The rows of a Pareto table that the report tells in full, the front first.

    Columns `id` (unique in the report), `kind` and `series` (0 for the front, then one for each
    family of baselines) come in addition.

    Args:
        table: as `pareto_table` gives it, with its quantities in `attrs`.
        prefix: of the ids.
    """
    kind = np.select(
        [table["on_front"], table["family"].ne(""), table["arm"].ne("")],
        [FRONT, BASELINE, ARM],
        OTHER,
    )
    families = [*dict.fromkeys(table.loc[table["family"].ne(""), "family"])]
    series = [families.index(f) + 1 if f else 0 for f in table["family"]]
    points = table.assign(kind=kind, series=series)
    others = points.index[points["kind"].eq(OTHER)]
    near = _nearest(table.loc[others], table.attrs)
    points = pd.concat([points[points["kind"].ne(OTHER)], points.loc[near]])
    points.insert(0, "id", [f"{prefix}{place}" for place in points.index])
    points["label"] = [one_line(str(label)) for label in points["label"]]
    points.attrs = table.attrs
    return points


def _nearest(rows: pd.DataFrame, quantities: dict[Any, Any]) -> "pd.Index[int]":
    """The rows that would be on the front first if those before them were gone."""
    x, y = quantities["x"], quantities["y"]
    objectives = {x.key: x.better, y.key: y.better}
    ranks = np.full(len(rows), len(rows))
    points = feasible_points(rows, objectives)
    have_all = finite_mask(points)
    if have_all.any():
        most = np.array([better == "max" for better in objectives.values()])
        ranks[have_all] = moocore.pareto_rank(points[have_all], maximise=most)
    order = np.argsort(ranks, kind="stable")[:MOST_OTHERS]
    return rows.index[np.sort(order)]


def error_bar_ends(points: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    """The ends of the error bars of a quantity, one column each."""
    return points[[f"{quantity.key}_low", f"{quantity.key}_high"]].astype("float64")
