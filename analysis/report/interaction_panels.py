"""The report's interaction plots of factorial designs, one panel per pair of factors."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.ablation.effects import Effects
from partialnas.analysis.ablation.interaction_plot import interaction_points
from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.plotting.names import axis_name
from partialnas.analysis.report.svg import Scale, quantity_scale
from partialnas.space.errors import UserError

WIDTH, HEIGHT = 360, 250
"""Size of a panel in pixels; it fits into a phone."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 92, 26, 46
_LINE_HEIGHT, _SHIFT = 14.0, 7.0
_LONGEST = 13
_TICKS = 5
_SERIES = 7


def interaction_panels(effects: Effects) -> list[dict[str, Any]]:
    """Return a panel for each pair of factors; empty for other designs and for too many pairs."""
    if effects.factorial is None:
        return []
    try:
        points = interaction_points(effects)
    except UserError:  # a single factor, or too many pairs
        return []
    values = points[["value", "low", "high"]].to_numpy(float)
    if not np.isfinite(values).any():
        return []
    y = quantity_scale(effects.quantity, values, HEIGHT - _BOTTOM, _TOP)
    pairs = points.groupby(["across", "lines"], sort=False)
    return [_panel(rows, y, effects) for _, rows in pairs]


def _panel(rows: pd.DataFrame, y: Scale, effects: Effects) -> dict[str, Any]:
    across, by = (axis_name(str(rows[key].iloc[0])) for key in ("across", "lines"))
    levels = [*rows["x"].unique()]
    step = (WIDTH - _LEFT - _RIGHT) / len(levels)
    places = {level: _LEFT + step * (i + 0.5) for i, level in enumerate(levels)}
    groups = [*rows.groupby("line", sort=False)]
    middle = (len(groups) - 1) / 2
    lines = []
    for index, (level, line) in enumerate(groups):
        shifted = {key: at + _SHIFT * (index - middle) for key, at in places.items()}
        lines.append(_line(index, str(level), line, shifted, y, effects))
    _spread_labels(lines)
    longest = max(4, int(step / 6.5))
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "top": _TOP,
        "bottom": HEIGHT - _BOTTOM,
        "title": one_line(f"{effects.quantity.name} by {across} and {by}"),
        "across": elide(one_line(across), 30),
        "by": elide(one_line(by), _LONGEST),
        "y": {"label": y.label, "ticks": y.ticks(_TICKS)},
        "levels": [
            {"at": round(at, 1), "text": elide(one_line(str(level)), longest)}
            for level, at in places.items()
        ],
        "lines": lines,
    }


def _line(
    index: int, level: str, rows: pd.DataFrame, places: dict[str, float], y: Scale, effects: Effects
) -> dict[str, Any]:
    """Return the means of one level with their intervals, and the label beside their line."""
    text = effects.quantity.text
    points: list[dict[str, Any]] = []
    for row in rows[rows["value"].notna()].to_dict("records"):
        middle, *ends = y.to_pixels([row["value"], row["low"], row["high"]]).tolist()
        has_interval = not math.isnan(row["low"])
        interval = f" [{text(row['low'])}, {text(row['high'])}]" if has_interval else ""
        points.append(
            {
                "x": round(places[row["x"]], 1),
                "y": middle,
                "bar": ends if has_interval else None,
                "title": one_line(f"{row['x']}, {level}: {text(row['value'])}{interval}"),
            }
        )
    path = "L".join(f"{point['x']} {point['y']}" for point in points)
    return {
        "series": index % _SERIES,
        "path": f"M{path}" if path else "",
        "points": points,
        "label": elide(one_line(level), _LONGEST),
        "label_y": points[-1]["y"] + 4 if points else None,
    }


def _spread_labels(lines: Sequence[dict[str, Any]]) -> None:
    """Move the labels of lines apart, so that none covers another."""
    labeled = sorted((line for line in lines if line["points"]), key=lambda line: line["label_y"])
    for above, below in pairwise(labeled):
        below["label_y"] = max(below["label_y"], above["label_y"] + _LINE_HEIGHT)
    excess = labeled[-1]["label_y"] - (HEIGHT - _BOTTOM) if labeled else 0.0
    for line in labeled if excess > 0 else ():
        line["label_y"] -= excess
