"""The report's figure of a front: positions and texts, as plain data for the template."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.formats.caption_sentences import pluralize
from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.pareto.attainment import step_line
from partialnas.analysis.pareto.table import ParetoTable
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.plotting.limit_lines import excluded_mask, excluded_name
from partialnas.analysis.report.points import FRONT, OTHER
from partialnas.analysis.report.svg import (
    MAX_LABELS,
    Box,
    Label,
    Scale,
    place_labels,
    quantity_scale,
)
from partialnas.runs.config.quantities import Quantity

_DOT_GRID = 1.5  # pixels: background dots closer than this are drawn once
EXCLUDED_SHAPE = "star"
"""Marker of networks that do not compete for the front."""

OFF_LINE_SHAPE = "diamond"
"""Marker of members of the front that are dominated in the two quantities of the figure."""

_SHAPES = ("square", "diamond", "triangle", "wedge", "cross", "star")


@dataclass(frozen=True)
class ScatterLayout:
    """Size and margins of a figure in pixels, and how many ticks and characters fit."""

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


LAYOUTS = (
    ScatterLayout("wide", 760, 440, 66, 14, 10, 50, 7, 7.3, 24),
    ScatterLayout("narrow", 360, 350, 54, 8, 8, 46, 4, 7.3, 16),
)
"""One for desktops and paper, one for phones; text has the same size on both."""


def front_figures(table: ParetoTable, points: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the figure in every size.

    Args:
        table: table of all networks.
        points: rows of `detailed_points`.
    """
    return [_figure(table, points, layout) for layout in LAYOUTS]


def front_legend(table: ParetoTable, points: pd.DataFrame) -> list[dict[str, str]]:
    """Return the meaning of each mark of the figure.

    Args:
        table: table of all networks.
        points: rows of `detailed_points`.
    """

    def entry(kind: str, text: str, series: int = 0) -> dict[str, str]:
        return {"kind": kind, "shape": shape(series), "series": str(series), "text": text}

    counts = points["kind"].value_counts()
    names = {FRONT: "on the front", "arm": "arm off the front"}
    entries = [entry(k, f"{text} ({counts[k]:,})") for k, text in names.items() if k in counts]
    if off_line := int(points["off_line"].sum()):
        on_line = entry(FRONT, f"on the front, on the line ({counts[FRONT] - off_line:,})")
        diamond = {"shape": OFF_LINE_SHAPE, "text": f"on the front, off the line ({off_line:,})"}
        entries = [on_line, {**on_line, **diamond}, *entries[1:]]
    for series, rows in points[points["series"].gt(0)].groupby("series", sort=True):
        name = elide(one_line(str(rows["family"].iloc[0])))
        entries.append(entry("baseline", name, int(str(series))))
    others = table.rows.drop(points.index[points["kind"].ne(OTHER)])
    excluded = others[excluded_mask(others)]
    if dominated := len(others) - len(excluded):
        entries.append(entry("other", f"dominated ({dominated:,})"))
    if len(excluded):
        text = f"{excluded_name(excluded)} ({len(excluded):,})"
        entries.append({**entry("other", text), "shape": EXCLUDED_SHAPE})
    if any(map(table.bounds, (table.x, table.y))):
        entries.append({**entry("limit", "limit"), "shape": "line"})
    return entries


def shape(series: int) -> str:
    """Return the marker of a series; the study's own networks are circles."""
    return _SHAPES[(series - 1) % len(_SHAPES)] if series else "circle"


def _figure(table: ParetoTable, points: pd.DataFrame, layout: ScatterLayout) -> dict[str, Any]:
    x, y = _scales(table, points, layout)
    across, up = table.x, table.y
    placed = points.assign(
        excluded=excluded_mask(points),
        px=x.to_pixels(points[across.key]),
        py=y.to_pixels(points[up.key]),
    )
    edge = table.rows[table.rows["on_projected_front" if table.is_projection else "on_front"]]
    corners = _corners(edge, table, x, y)
    crowd = table.rows.drop(points.index)
    excluded = excluded_mask(crowd)
    right, bottom = layout.width - layout.right, layout.height - layout.bottom
    return {
        "frame": layout,
        "x": {"label": x.label, "ticks": x.ticks(layout.ticks)},
        "y": {"label": y.label, "ticks": y.ticks(layout.ticks)},
        "crowd": _crowd(crowd[~excluded], table, x, y, "h0"),
        "crosses": _crowd(crowd[excluded], table, x, y, "m-2-2l4 4m0-4l-4 4"),
        "limits": "".join(
            [f"M{at:g} {layout.top}V{bottom}" for at in x.to_pixels(table.bounds(across))]
            + [f"M{layout.left} {at:g}H{right}" for at in y.to_pixels(table.bounds(up))]
        ),
        "steps": _line(corners[:-1]),
        "area": f"{_line(corners)}Z" if corners else "",
        "chains": _family_lines(placed),
        "points": [_mark(row, x, y, table) for row in _tab_order(placed).to_dict("records")],
        "labels": _labels(placed, layout, across, up),
    }


def _scales(table: ParetoTable, points: pd.DataFrame, layout: ScatterLayout) -> tuple[Scale, Scale]:
    across, up = table.x, table.y
    with_bars = points[points["kind"].ne(OTHER)]
    bars = {
        q.key: with_bars[[f"{q.key}_low", f"{q.key}_high"]].to_numpy(float).ravel()
        for q in (across, up)
    }
    x, y = (
        np.concatenate([table.rows[q.key], bars[q.key].ravel(), table.bounds(q)], dtype=float)
        for q in (across, up)
    )
    right, bottom = layout.width - layout.right, layout.height - layout.bottom
    return quantity_scale(across, x, layout.left, right), quantity_scale(up, y, bottom, layout.top)


def _tab_order(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points in keyboard order: front and arms from left to right, then the others."""
    later = points["kind"].eq(OTHER)
    return points.assign(_later=later).sort_values(["_later", "px"], kind="stable")


def _corners(
    edge: pd.DataFrame, table: ParetoTable, x: Scale, y: Scale
) -> list[tuple[float, float]]:
    """Return the corners of the dominated region, up to the worse ends of both axes."""
    if edge.empty:
        return []
    edge_x = x.start if table.x.better == "max" else x.end
    edge_y = y.start if table.y.better == "max" else y.end
    places = np.column_stack([x.to_pixels(edge[table.x.key]), y.to_pixels(edge[table.y.key])])
    points = places[np.argsort(places[:, 0], kind="stable")]
    path = step_line(points, (edge_x, edge_y), table.axes)
    return [*map(tuple, path.tolist()), (edge_x, edge_y)]


def _line(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in corners) if corners else ""


def _crowd(rows: pd.DataFrame, table: ParetoTable, x: Scale, y: Scale, mark: str) -> str:
    """Return one path of background marks; overlapping marks are drawn once."""
    pixels = [x.to_pixels(rows[table.x.key]), y.to_pixels(rows[table.y.key])]
    cells = np.unique(np.round(np.column_stack(pixels) / _DOT_GRID).astype(int), axis=0) * _DOT_GRID
    return "".join(f"M{a:g} {b:g}{mark}" for a, b in cells.tolist())


def _family_lines(points: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the line through each family of baselines."""
    chains: list[dict[str, Any]] = []
    for series, rows in points[points["series"].gt(0)].groupby("series", sort=True):
        ordered = rows.sort_values("px", kind="stable")
        path = _line([*zip(ordered["px"], ordered["py"], strict=True)])
        chains.append({"series": series, "path": path})
    return [chain for chain in chains if "L" in chain["path"]]


def _mark(row: dict[Any, Any], x: Scale, y: Scale, table: ParetoTable) -> dict[str, Any]:
    across, up = table.x, table.y
    is_timing = "measured" in (across.source, up.source)
    return {
        "id": row["id"],
        "kind": row["kind"],
        "series": row["series"],
        "shape": _marker(row),
        "hollow": is_timing and bool(row["noisy"] or row["eager"]),
        "x": row["px"],
        "y": row["py"],
        "bars": "" if row["kind"] == OTHER else _bars(row, x, y, across, up),
        "text": _description(row, table),
    }


def _marker(row: dict[Any, Any]) -> str:
    if row["off_line"]:
        return OFF_LINE_SHAPE
    return EXCLUDED_SHAPE if row["excluded"] and row["kind"] == OTHER else shape(row["series"])


def _description(row: dict[Any, Any], table: ParetoTable) -> str:
    """Return the description of a point for tooltips and screen readers."""
    kinds = {FRONT: "on the front", "baseline": "baseline", "arm": "arm", OTHER: "dominated"}
    kind = kinds[row["kind"]]
    if row["excluded"] and row["kind"] == OTHER:
        kind = excluded_name(pd.DataFrame([row]))
    values = (f"{q.name} {table.text(row, q)} {q.unit}".strip() for q in (table.y, table.x))
    seeds = pluralize(row["n"], "seed") + (f" ({row['failed']} failed)" if row["failed"] else "")
    return f"{row['label']}, {kind}: {', '.join(values)}, {seeds}"


def _bars(row: dict[Any, Any], x: Scale, y: Scale, across: Quantity, up: Quantity) -> str:
    """Return the error bars as a path around the point."""
    parts = []
    for quantity, scale, command in ((across, x, "H"), (up, y, "V")):
        ends = [row[f"{quantity.key}_low"], row[f"{quantity.key}_high"]]
        if not all(map(math.isfinite, ends)) or ends[0] == ends[1]:
            continue
        middle = row["px" if command == "H" else "py"]
        low, high = (scale.to_pixels(ends) - middle).round(1).tolist()
        parts.append(f"M{low:g} 0H{high:g}" if command == "H" else f"M0 {low:g}V{high:g}")
    return "".join(parts)


def _label_order(number: int) -> list[int]:
    """Return the positions of the front's labeled members: the ends first, then in between."""
    chosen = np.linspace(0, number - 1, min(number, MAX_LABELS)).round().astype(int).tolist()
    return [*chosen[:1], *chosen[1:][::-1]]


def _labels(
    points: pd.DataFrame, layout: ScatterLayout, across: Quantity, up: Quantity
) -> list[Label]:
    """Return labels of the front, arms and baselines, as far as there is room."""
    front = points[points["kind"].eq(FRONT)].sort_values("px", kind="stable")
    others = points[points["kind"].ne(FRONT) & points["kind"].ne(OTHER)]
    named = pd.concat([front.iloc[_label_order(len(front))], others])
    distinct = named.drop_duplicates(["px", "py"])
    texts = [elide(text, layout.longest) for text in distinct["label"]]
    right, bottom = layout.width - layout.right, layout.height - layout.bottom - 2
    area = Box(layout.left + 2, layout.top, right, bottom)
    better = (-1 if across.better == "min" else 1, 1 if up.better == "min" else -1)
    spots = distinct[["px", "py"]].to_numpy(float)
    occupied = points[["px", "py"]].to_numpy(float)
    return place_labels(spots, texts, occupied, area, better, layout.letter)
