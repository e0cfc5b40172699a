"""The drawing of a Pareto table: cloud, step fronts, reference families, labels."""

import itertools
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partialnas.analysis.axes import Which, prepare, protocol
from partialnas.analysis.labels import Line, draw_labels, draw_legend, elide
from partialnas.analysis.quantities import Quantity
from partialnas.analysis.style import CLOUD, FAMILIES, INK, SERIES, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DRAWN = ("label", "trial", "family", "member", "study", "folder", "on_front", "noisy")
_SIDES = {"min": ("west", "south"), "max": ("east", "north")}
_MOST_LABELS = 12
_CROWD = 500
_MOST_VECTORS = 5000
_POINTS_PER_INCH = 72
_CHARACTER = 0.56


def draw(table: pd.DataFrame, x: Quantity, y: Quantity, style: Style) -> "Figure":
    """The figure of a Pareto table; to be called inside `style.drawing`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.width, style.height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=True)
    points = _on_axes(axes, table, x, y)
    points = points.join(_looks(points))
    _draw_protocol(figure, table, x, y, style)
    _draw_cloud(axes, points[points["family"].eq("") & ~points["on_front"]])
    steps = _draw_fronts(axes, points[points["on_front"]], x, y)
    chains = _draw_families(axes, points[points["family"].ne("")])
    if points["noisy"].any():
        axes.scatter([], [], s=7, linewidths=0.5, **_ring(CLOUD), label="hollow: noisy timing")
    draw_legend(figure, axes, style)
    texts = pd.concat([_front_labels(points), _family_labels(points)])
    if not texts.empty:
        lines = [*steps, *chains, *_bars(points)]
        draw_labels(axes, texts, points, lines=lines, sides=_free_side(x, y), style=style)
        figure.set_layout_engine("none")  # labels were placed for this layout
    return figure


def _on_axes(axes: "Axes", table: pd.DataFrame, x: Quantity, y: Quantity) -> pd.DataFrame:
    """Labels and scales both axes; the table with its drawn values as x, x_low, ..., y_high."""
    points = table[[*_DRAWN]].copy()
    points["noisy"] &= "measured" in (x.source, y.source)
    pairs: tuple[tuple[Which, Quantity], ...] = (("x", x), ("y", y))
    for which, quantity in pairs:
        ends = (f"{quantity.key}_low", f"{quantity.key}_high")
        values = table[[quantity.key, *ends]].to_numpy(float, copy=True)
        # bars are drawn for the front and the families alone, and need room only there
        values[np.asarray(points["family"].eq("") & ~points["on_front"]), 1:] = np.nan
        factor = prepare(axes, which, quantity, values)
        points[[which, f"{which}_low", f"{which}_high"]] = values / factor
    return points


def _looks(points: pd.DataFrame) -> pd.DataFrame:
    """Colour and marker of each row: one for each study's front, one for each family."""
    fronts = points.loc[points["on_front"], "folder"].unique()
    families = points.loc[points["family"].ne(""), "family"].unique()
    circles = zip(itertools.cycle(SERIES), itertools.repeat("o"), strict=False)
    # families take up the palette where the fronts leave it
    others = itertools.islice(itertools.cycle(FAMILIES), max(0, len(fronts) - 1), None)
    looks = dict(zip(fronts, circles, strict=False)) | dict(zip(families, others, strict=False))
    keys = points["family"].where(points["family"].ne(""), points["folder"])
    pairs = [looks.get(key, (CLOUD, "o")) for key in keys]
    return pd.DataFrame(pairs, columns=["colour", "marker"], index=points.index)


def _draw_protocol(
    figure: "Figure", table: pd.DataFrame, x: Quantity, y: Quantity, style: Style
) -> None:
    """The line under the axis: on what, and how, measured quantities were measured."""
    ways = dict.fromkeys(way for q in (x, y) if (way := protocol(table, q)))
    wide = int(style.width * _POINTS_PER_INCH / (style.small * _CHARACTER))
    lines = [line for way in ways for line in textwrap.wrap(way, wide)]
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=style.small, color=INK)


def _draw_cloud(axes: "Axes", cloud: pd.DataFrame) -> None:
    if cloud.empty:
        return
    crowded = len(cloud) > _CROWD
    look: dict[str, Any] = {
        "s": 4 if crowded else 7,
        "linewidths": 0.5,
        "alpha": 0.5 if crowded else 0.7,
    }
    axes.scatter([], [], color=CLOUD, **look, label=f"dominated ({len(cloud):,})")
    for ring, rows in cloud.groupby("noisy"):
        axes.scatter(
            rows["x"], rows["y"], **look, **(_ring(CLOUD) if ring else {"color": CLOUD}),
            rasterized=len(cloud) > _MOST_VECTORS, zorder=2,
        )  # fmt: skip


def _ring(colour: str) -> dict[str, Any]:
    return {"facecolors": "white", "edgecolors": colour}


def _draw_fronts(axes: "Axes", members: pd.DataFrame, x: Quantity, y: Quantity) -> list[Line]:
    lines = []
    studies = members.groupby("folder", sort=False)
    for _, rows in studies:
        name = f"{elide(rows['study'].iloc[0])}: front" if studies.ngroups > 1 else "front"
        lines.append(_steps(axes, rows.sort_values("x"), x, y))
        _draw_group(axes, rows, lines[-1], f"{name} ({len(rows)})")
    return lines


def _steps(axes: "Axes", rows: pd.DataFrame, x: Quantity, y: Quantity) -> Line:
    """The edge of what the front dominates, drawn on to the worse edge of both axes."""
    across, up = rows["x"].to_numpy(float).repeat(2), rows["y"].to_numpy(float).repeat(2)
    worst_x = axes.get_xlim()[x.better == "min"]
    worst_y = axes.get_ylim()[y.better == "min"]
    if x.better == "max":
        return np.r_[worst_x, across], np.r_[up, worst_y]
    return np.r_[across, worst_x], np.r_[worst_y, up]


def _draw_families(axes: "Axes", baselines: pd.DataFrame) -> list[Line]:
    lines = []
    for family, rows in baselines.groupby("family", sort=False):
        chain = rows.sort_values("x")
        lines.append((chain["x"].to_numpy(float), chain["y"].to_numpy(float)))
        _draw_group(axes, rows, lines[-1], elide(str(family)))
    return lines


def _draw_group(axes: "Axes", rows: pd.DataFrame, line: Line, name: str) -> None:
    """Line, error bars and markers of a front or a family; hollow ones were measured with noise."""
    colour, marker = rows["colour"].iloc[0], rows["marker"].iloc[0]
    axes.plot(*line, color=colour, linewidth=0.9, alpha=0.8, zorder=3)
    axes.vlines(rows["x"], rows["y_low"], rows["y_high"], INK, linewidth=0.7, zorder=3.5)
    axes.hlines(rows["y"], rows["x_low"], rows["x_high"], INK, linewidth=0.7, zorder=3.5)
    faces = ["white" if noisy else colour for noisy in rows["noisy"]]
    look: dict[str, Any] = {
        "s": 16,
        "marker": marker,
        "linewidths": 0.8,
        "edgecolors": colour,
        "zorder": 5,
    }
    axes.scatter(rows["x"], rows["y"], facecolors=faces, **look)
    # matplotlib's legend leaves out names that begin with an underscore
    axes.scatter([], [], facecolors=colour, **look, label=f" {name}" if name[:1] == "_" else name)


def _bars(points: pd.DataFrame) -> list[Line]:
    """The error bars as lines that labels keep clear of."""
    up = points[points["y_low"] < points["y_high"]]
    across = points[points["x_low"] < points["x_high"]]
    return [
        *_segments(up[["x", "x"]], up[["y_low", "y_high"]]),
        *_segments(across[["x_low", "x_high"]], across[["y", "y"]]),
    ]


def _segments(x: pd.DataFrame, y: pd.DataFrame) -> list[Line]:
    return list(zip(x.to_numpy(float), y.to_numpy(float), strict=True))


def _free_side(x: Quantity, y: Quantity) -> list[str]:
    """Where no point can be: the directions in which both quantities improve, the corner first."""
    across, up = _SIDES[x.better][0], _SIDES[y.better][1]
    return [up + across, up, across]


def _front_labels(points: pd.DataFrame) -> pd.DataFrame:
    """Front members that carry a label, the most wanted first: ends, then evenly between."""
    members = points[points["on_front"]].sort_values(["folder", "x"], kind="stable")
    several = members["folder"].nunique() > 1
    labels = members.groupby(["folder", "x", "y"], sort=False).agg(
        label=("label", _joined), colour=("colour", "first" if several else lambda _: INK)
    )
    labels = labels.reset_index()
    chosen = np.linspace(0, len(labels) - 1, min(len(labels), _MOST_LABELS)).round().astype(int)
    return labels.iloc[[*chosen[:1], *chosen[1:][::-1]]]


def _joined(labels: "pd.Series[str]") -> str:
    """`#3` alone, `#3, #7` for two at one point, `#3 +4` for more."""
    first, *more = labels
    if len(more) < 2:
        return ", ".join(labels)
    return f"{first} +{len(more)}"


def _family_labels(points: pd.DataFrame) -> pd.DataFrame:
    members = points[points["member"].ne("")]
    return members[["x", "y", "colour"]].assign(label=members["member"])
