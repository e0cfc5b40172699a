"""The report's figure of effects: each arm's difference from its baseline, as plain data."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.ablation.arm_axes import difference_unit, row_labels
from partialnas.analysis.ablation.difference_plot import effect_points
from partialnas.analysis.ablation.effects import Effects
from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.report.svg import Scale, linear_scale

MAX_ARMS = 60
"""Arms that the figure draws; its table has all."""

_FOOT = 44


@dataclass(frozen=True)
class ForestLayout:
    """The size of a figure in pixels: names stand beside rows, or above them where it is narrow."""

    name: str
    width: int
    left: int
    right: int
    row: int
    above: bool
    ticks: int
    longest: int


FRAMES = (
    ForestLayout("wide", 760, 230, 20, 26, False, 7, 34),
    ForestLayout("narrow", 360, 14, 14, 40, True, 4, 46),
)


def forest_plots(found: Effects) -> list[dict[str, Any]]:
    """The figure of effects in every size; none where nothing is compared.

    Args:
        found: the effects of a study's arms.
    """
    if not found.comparison.contrasts:
        return []
    points = effect_points(found)
    arms = [*dict.fromkeys(points["arm"])][:MAX_ARMS]
    points = points[points["arm"].isin(arms)]
    drawn = points[["value", "low", "high"]].to_numpy(float)
    if not np.isfinite(drawn).any():
        return []
    return [_figure(found, points, arms, frame) for frame in FRAMES]


def _figure(
    found: Effects, points: pd.DataFrame, arms: list[str], frame: ForestLayout
) -> dict[str, Any]:
    label = f"Δ {found.quantity.name}"
    unit = difference_unit(found.quantity)
    values = np.append(points[["value", "low", "high"]].to_numpy(float).ravel(), 0.0)
    x = linear_scale(
        f"{label} ({unit})" if unit else label, values, frame.left, frame.width - frame.right
    )
    names, _ = row_labels(arms, found.design)
    rows = [
        _row(points[points["arm"].eq(arm)], name, place, x, frame, found)
        for place, (arm, name) in enumerate(zip(arms, names, strict=True))
    ]
    bottom = 8 + frame.row * len(arms)
    return {
        "frame": frame,
        "height": bottom + _FOOT,
        "bottom": bottom,
        "zero": float(x.to_pixels([0.0])[0]),
        "margin": None if found.margin is None else x.to_pixels([-found.margin, found.margin]).tolist(),
        "x": {"label": x.label, "ticks": x.ticks(frame.ticks)},
        "rows": rows,
        "better": "lower is better" if found.quantity.better == "min" else "higher is better",
    }


def _row(
    points: pd.DataFrame, name: str, place: int, x: Scale, frame: ForestLayout, found: Effects
) -> dict[str, Any]:
    whole = points[points["seed"].isna()].to_dict("records")[0]
    seeds = points.loc[points["seed"].notna(), "value"].to_numpy(float)
    middle = 8 + frame.row * (place + (0.72 if frame.above else 0.5))
    known = math.isfinite(whole["value"])
    bar = all(map(math.isfinite, (whole["low"], whole["high"])))
    return {
        "name": elide(one_line(name), frame.longest),
        "title": _title(whole, found),
        "state": whole["state"],
        "y": round(middle, 1),
        "name_y": round(middle - 13 if frame.above else middle + 4, 1),
        "at": float(x.to_pixels([whole["value"]])[0]) if known else None,
        "bar": x.to_pixels([whole["low"], whole["high"]]).tolist() if bar else None,
        "apart": bar and not whole["low"] <= 0 <= whole["high"],
        "seeds": x.to_pixels(seeds).tolist(),
    }


def _title(row: dict[Any, Any], found: Effects) -> str:
    """What hovering over a row tells, and a screen reader."""
    if row["state"]:
        return one_line(f"{row['arm']}: {row['state']}")
    spec = found.quantity.spec or ".4g"
    values = [format(row[key], spec) for key in ("value", "low", "high")]
    interval = f" [{values[1]}, {values[2]}]" if math.isfinite(row["low"]) else ""
    return one_line(f"{row['arm']} against {row['against']}: {values[0]}{interval}")
