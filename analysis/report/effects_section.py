"""The report's figure of effects: each arm's difference from its baseline, as plain data."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.ablation.arm_axes import row_labels
from partialnas.analysis.ablation.difference_plot import difference_unit, effect_points
from partialnas.analysis.ablation.effects import Effects, mark_arms
from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.report.svg import Scale, linear_scale

MAX_ARMS = 60
"""Largest number of arms in the figure; its table holds all."""

_AXIS_HEIGHT = 44


@dataclass(frozen=True)
class ForestLayout:
    """Size of a figure in pixels; names stand left of the rows, or above them if it is narrow."""

    name: str
    width: int
    left: int
    right: int
    row: int
    above: bool
    ticks: int
    longest: int


LAYOUTS = (
    ForestLayout("wide", 760, 230, 20, 26, False, 7, 34),
    ForestLayout("narrow", 360, 14, 14, 40, True, 4, 46),
)


def forest_plots(effects: Effects) -> list[dict[str, Any]]:
    """Return the figure of effects in every size; empty if nothing is compared."""
    if not effects.comparison.contrasts:
        return []
    points = effect_points(effects)
    arms = [*dict.fromkeys(points["arm"])][:MAX_ARMS]
    points = points[points["arm"].isin(arms)]
    if not np.isfinite(points[["value", "low", "high"]].to_numpy(float)).any():
        return []
    return [_figure(effects, points, arms, layout) for layout in LAYOUTS]


def _figure(
    effects: Effects, points: pd.DataFrame, arms: list[str], layout: ForestLayout
) -> dict[str, Any]:
    label = f"Δ {effects.quantity.name}{difference_unit(effects.quantity)}"
    values = np.append(points[["value", "low", "high"]].to_numpy(float).ravel(), 0.0)
    x = linear_scale(label, values, layout.left, layout.width - layout.right)
    names = mark_arms(effects, row_labels(arms, effects.design), arms)
    rows = [
        _row(points[points["arm"].eq(arm)], name, index, x, layout, effects)
        for index, (arm, name) in enumerate(zip(arms, names, strict=True))
    ]
    bottom = 8 + layout.row * len(arms)
    margin = effects.margin
    return {
        "frame": layout,
        "height": bottom + _AXIS_HEIGHT,
        "bottom": bottom,
        "zero": float(x.to_pixels([0.0])[0]),
        "margin": None if margin is None else x.to_pixels([-margin, margin]).tolist(),
        "x": {"label": x.label, "ticks": x.ticks(layout.ticks)},
        "rows": rows,
        "better": "lower is better" if effects.quantity.better == "min" else "higher is better",
    }


def _row(
    points: pd.DataFrame, name: str, index: int, x: Scale, layout: ForestLayout, effects: Effects
) -> dict[str, Any]:
    mean = points[points["seed"].isna()].to_dict("records")[0]
    seeds = points.loc[points["seed"].notna(), "value"].to_numpy(float)
    middle = 8 + layout.row * (index + (0.72 if layout.above else 0.5))
    has_interval = all(map(math.isfinite, (mean["low"], mean["high"])))
    return {
        "name": elide(one_line(name), layout.longest),
        "title": _title(mean, effects),
        "state": mean["state"],
        "y": round(middle, 1),
        "name_y": round(middle - 13 if layout.above else middle + 4, 1),
        "at": float(x.to_pixels([mean["value"]])[0]) if math.isfinite(mean["value"]) else None,
        "bar": x.to_pixels([mean["low"], mean["high"]]).tolist() if has_interval else None,
        "apart": has_interval and not mean["low"] <= 0 <= mean["high"],
        "seeds": x.to_pixels(seeds).tolist(),
    }


def _title(row: dict[Any, Any], effects: Effects) -> str:
    """Return the tooltip of a row, which screen readers read aloud."""
    if row["state"]:
        return one_line(f"{row['arm']}: {row['state']}")
    spec = effects.quantity.spec or ".4g"
    value, low, high = (format(row[key], spec) for key in ("value", "low", "high"))
    interval = f" [{low}, {high}]" if math.isfinite(row["low"]) else ""
    return one_line(f"{row['arm']} against {row['against']}: {value}{interval}")
