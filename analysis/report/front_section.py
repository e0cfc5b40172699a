"""The report's figure of a front: where everything stands, as plain data for its template."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.plotting.axes import Floats
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.report.points import FRONT, OTHER, error_bar_ends
from partialnas.analysis.report.svg import (
    MAX_LABELS,
    Box,
    Label,
    Scale,
    place_labels,
    quantity_scale,
)
from partialnas.runs.config.quantities import Quantity

_GRID = 1.5  # pixels: points of the crowd closer than that are one
_SHAPES = ("square", "diamond", "triangle", "wedge", "cross", "star")


@dataclass(frozen=True)
class ScatterLayout:
    """The size of a figure in pixels, its margins, and how many ticks and letters fit."""

    name: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    ticks: int
    letter: float
    longest: int


FRAMES = (
    ScatterLayout("wide", 760, 440, 66, 14, 10, 50, 7, 7.3, 24),
    ScatterLayout("narrow", 360, 350, 54, 8, 8, 46, 4, 7.3, 16),
)
"""One for desks and paper, one for phones: text keeps its size on both."""


def front_figures(table: pd.DataFrame, points: pd.DataFrame) -> list[dict[str, Any]]:
    """The figure in every size.

    Args:
        table: all networks, as `pareto_table` gives them.
        points: those that the report tells in full, as `told_points` gives them.
    """
    return [_figure(table, points, frame) for frame in FRAMES]


def front_legend(table: pd.DataFrame, points: pd.DataFrame) -> list[dict[str, str]]:
    """What each mark of the figure means."""
    names = {FRONT: "on the front", "arm": "arm off the front"}
    entries = [
        {"kind": kind, "shape": "circle", "series": "0", "text": f"{text} ({number:,})"}
        for kind, text in names.items()
        if (number := int(points["kind"].eq(kind).sum()))
    ]
    for series, rows in points[points["series"].gt(0)].groupby("series", sort=True):
        text = elide(one_line(str(rows["family"].iloc[0])))
        entries.append(
            {
                "kind": "baseline",
                "shape": shape(int(str(series))),
                "series": str(series),
                "text": text,
            }
        )
    if dominated := len(table) - int(points["kind"].ne(OTHER).sum()):
        text = f"dominated ({dominated:,})"
        entries.append({"kind": "other", "shape": "circle", "series": "0", "text": text})
    return entries


def shape(series: int) -> str:
    """The marker of a series; circles are for the study's own."""
    return _SHAPES[(series - 1) % len(_SHAPES)] if series else "circle"


def _figure(table: pd.DataFrame, points: pd.DataFrame, frame: ScatterLayout) -> dict[str, Any]:
    x, y = _scales(table, points, frame)
    across, up = table.attrs["x"], table.attrs["y"]
    at = points.assign(px=x.to_pixels(points[across.key]), py=y.to_pixels(points[up.key]))
    front = at[at["kind"].eq(FRONT)].sort_values("px", kind="stable")
    corners = _corners(front, across, up, x, y)
    crowd = table.drop(points.index)
    labels = _labels(at, frame, across, up)
    return {
        "frame": frame,
        "x": {"label": x.label, "ticks": x.ticks(frame.ticks)},
        "y": {"label": y.label, "ticks": y.ticks(frame.ticks)},
        "crowd": _dots(x.to_pixels(crowd[across.key]), y.to_pixels(crowd[up.key])),
        "steps": _line(corners[:-1]),
        "area": f"{_line(corners)}Z" if corners else "",
        "chains": _chains(at),
        "points": [_mark(row, x, y, across, up) for row in _in_order(at).to_dict("records")],
        "labels": labels,
    }


def _scales(table: pd.DataFrame, points: pd.DataFrame, frame: ScatterLayout) -> tuple[Scale, Scale]:
    across, up = table.attrs["x"], table.attrs["y"]
    barred = points[points["kind"].ne(OTHER)]
    x, y = (
        np.concatenate([table[q.key].to_numpy(float), error_bar_ends(barred, q).to_numpy().ravel()])
        for q in (across, up)
    )
    right, bottom = frame.width - frame.right, frame.height - frame.bottom
    return quantity_scale(across, x, frame.left, right), quantity_scale(up, y, bottom, frame.top)


def _in_order(at: pd.DataFrame) -> pd.DataFrame:
    """As a keyboard goes through them: front and arms from left to right, then the others."""
    later = at["kind"].eq(OTHER)
    return at.assign(_later=later).sort_values(["_later", "px"], kind="stable")


def _corners(
    front: pd.DataFrame, across: Quantity, up: Quantity, x: Scale, y: Scale
) -> list[tuple[float, float]]:
    """The edge of what the front dominates, drawn on to the worse edge of both axes."""
    if front.empty:
        return []
    px, py = front["px"].to_numpy(float).repeat(2), front["py"].to_numpy(float).repeat(2)
    edge_x = x.start if across.better == "max" else x.end
    edge_y = y.start if up.better == "max" else y.end
    if across.better == "max":
        path = np.column_stack([np.r_[edge_x, px], np.r_[py, edge_y]])
    else:
        path = np.column_stack([np.r_[px, edge_x], np.r_[edge_y, py]])
    return [*map(tuple, path.tolist()), (edge_x, edge_y)]


def _line(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in corners) if corners else ""


def _dots(x: Floats, y: Floats) -> str:
    """One path of dots, those that would cover one another drawn once."""
    cells = np.unique(np.round(np.column_stack([x, y]) / _GRID).astype(int), axis=0) * _GRID
    return "".join(f"M{a:g} {b:g}h0" for a, b in cells.tolist())


def _chains(at: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines through the members of each family of baselines."""
    chains: list[dict[str, Any]] = []
    for series, rows in at[at["series"].gt(0)].groupby("series", sort=True):
        ordered = rows.sort_values("px", kind="stable")
        path = _line([*zip(ordered["px"], ordered["py"], strict=True)])
        chains.append({"series": series, "path": path})
    return [chain for chain in chains if "L" in chain["path"]]


def _mark(
    row: dict[Any, Any], x: Scale, y: Scale, across: Quantity, up: Quantity
) -> dict[str, Any]:
    noisy = bool(row["noisy"]) and "measured" in (across.source, up.source)
    return {
        "id": row["id"],
        "kind": row["kind"],
        "series": row["series"],
        "shape": shape(row["series"]),
        "hollow": noisy,
        "x": row["px"],
        "y": row["py"],
        "bars": "" if row["kind"] == OTHER else _bars(row, x, y, across, up),
        "text": spoken(row, across, up),
    }


def spoken(row: dict[Any, Any], across: Quantity, up: Quantity) -> str:
    """What a screen reader says of a point."""
    kinds = {FRONT: "on the front", "baseline": "baseline", "arm": "arm", OTHER: "dominated"}
    values = (f"{q.name} {q.text(row[q.key])} {q.unit}".strip() for q in (up, across))
    seeds = f"{row['n']} seed" + "s" * (row["n"] != 1)
    return f"{row['label']}, {kinds[row['kind']]}: {', '.join(values)}, {seeds}"


def _bars(row: dict[Any, Any], x: Scale, y: Scale, across: Quantity, up: Quantity) -> str:
    """The error bars as a path around the point."""
    parts = []
    for quantity, scale, way in ((across, x, "H"), (up, y, "V")):
        ends = [row[f"{quantity.key}_low"], row[f"{quantity.key}_high"]]
        if not all(map(math.isfinite, ends)) or ends[0] == ends[1]:
            continue
        low, high = (scale.to_pixels(ends) - row["px" if way == "H" else "py"]).round(1).tolist()
        parts.append(f"M{low:g} 0H{high:g}" if way == "H" else f"M0 {low:g}V{high:g}")
    return "".join(parts)


def _most_wanted(number: int) -> list[int]:
    """The places of a front's members in the order in which they are named: ends, then between."""
    chosen = np.linspace(0, number - 1, min(number, MAX_LABELS)).round().astype(int).tolist()
    return [*chosen[:1], *chosen[1:][::-1]]


def _labels(at: pd.DataFrame, frame: ScatterLayout, across: Quantity, up: Quantity) -> list[Label]:
    """The names of what is on the front, and of arms and baselines, where there is room."""
    front = at[at["kind"].eq(FRONT)].sort_values("px", kind="stable")
    beside = at[at["kind"].ne(FRONT) & at["kind"].ne(OTHER)]
    named = pd.concat([front.iloc[_most_wanted(len(front))], beside])
    alone = named.drop_duplicates(["px", "py"])
    texts = [elide(text, frame.longest) for text in alone["label"]]
    area = Box(
        frame.left + 2, frame.top, frame.width - frame.right, frame.height - frame.bottom - 2
    )
    better = (-1 if across.better == "min" else 1, 1 if up.better == "min" else -1)
    spots = alone[["px", "py"]].to_numpy(float)
    crowd = at[["px", "py"]].to_numpy(float)
    return place_labels(spots, texts, crowd, area, better, frame.letter)
