"""The drawing of a Pareto table: cloud, step fronts, reference families, labels."""

import itertools
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partialnas.analysis.pareto.attainment import step_line
from partialnas.analysis.pareto.front_probability import format_probability
from partialnas.analysis.pareto.table import ParetoTable
from partialnas.analysis.plotting.axes import (
    AxisName,
    configure_axis,
    parent_figure,
    protocol_label,
)
from partialnas.analysis.plotting.clipping import clip_outliers, draw_outlier_arrows
from partialnas.analysis.plotting.fitting import fit_labels
from partialnas.analysis.plotting.labels import (
    Polyline,
    draw_labels,
    draw_legend,
    elide,
    study_names,
)
from partialnas.analysis.plotting.marker_areas import (
    MarkerAreas,
    add_rim_points,
    compute_marker_areas,
)
from partialnas.analysis.plotting.style import (
    DARK_COLOR,
    FAMILY_STYLES,
    MUTED_COLOR,
    SERIES_COLORS,
    Style,
    characters_that_fit,
)
from partialnas.runs.config.quantities import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DRAWN = (
    *("label", "trial", "family", "member", "study", "folder"),
    *("on_front", "noisy", "front_probability"),
)
_SIDES = {"min": ("west", "south"), "max": ("east", "north")}
_MOST_LABELS = 12
_CROWD = 500
_MOST_VECTORS = 5000
_CHARACTER = 0.56
_MEMBER, _DOMINATED, _SMALL = 16.0, 7.0, 4.0
_OF_AREAS = 0.09  # of an axis, so that no large marker is cut off at its end


@dataclass(frozen=True, kw_only=True)
class ParetoPlotOptions:
    """What a Pareto figure shows beside points, fronts and families.

    Attributes:
        size: the quantity that the area of markers is in proportion to.
        log: for x and y whether the scale is logarithmic; None where the values decide.
        clip: dominated points far off the rest become arrows on the edge.
        probability: labels tell the probability of being on the front.
        surfaces: what repeated searches attain, in the place of their fronts.
    """

    size: Quantity | None = None
    log: tuple[bool | None, bool | None] = (None, None)
    clip: bool = False
    probability: bool = False
    surfaces: pd.DataFrame | None = None


def draw_pareto(
    pareto: ParetoTable, style: Style, extras: ParetoPlotOptions | None = None
) -> "Figure":
    """Return the figure of a Pareto table; call it inside `figure_style`."""
    from matplotlib.figure import Figure

    table, x, y = pareto.rows, pareto.x, pareto.y
    extras = extras or ParetoPlotOptions()
    figure = Figure(figsize=(style.width, style.height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=True)
    points, factors = _on_axes(axes, table, (x, y), extras)
    areas = compute_marker_areas(table, extras.size)
    points = points.join(_looks(points, extras)).assign(area=areas.values)
    _draw_protocol(figure, table, x, y, style)
    _draw_cloud(axes, points[points["family"].eq("") & ~points["on_front"]], areas)
    if extras.surfaces is None:
        lines = _draw_fronts(axes, points[points["on_front"]], (x, y), areas)
    else:
        scaled = extras.surfaces.assign(x=lambda t: t[x.key] / factors[0])
        scaled = scaled.assign(y=lambda t: t[y.key] / factors[1])
        lines = _draw_surfaces(axes, points[points["on_front"]], (x, y), scaled)
    lines += _draw_families(axes, points[points["family"].ne("")], areas)
    if points["noisy"].any():
        axes.scatter(
            [], [], s=7, linewidths=0.5, **_ring(MUTED_COLOR), label="hollow: noisy timing"
        )
    draw_outlier_arrows(axes, points)
    areas.draw_legend_entries(axes)
    draw_legend(figure, axes, style)
    fit_labels(figure)
    _draw_texts(axes, points, lines, _free_side(x, y), style, extras)
    return figure


def _draw_texts(
    axes: "Axes", points: pd.DataFrame, lines: list[Polyline], sides: list[str], style: Style,
    extras: ParetoPlotOptions,
) -> None:  # fmt: skip
    members = points[points["on_front"]]
    if extras.surfaces is not None:
        members = members[:0]
    texts = pd.concat([_front_labels(members, extras), _family_labels(points)])
    if texts.empty:
        return
    crowd = add_rim_points(axes, points)
    draw_labels(axes, texts, crowd, lines=[*lines, *_bars(points)], sides=sides, style=style)
    parent_figure(axes).set_layout_engine("none")  # labels were placed for this layout


def _on_axes(
    axes: "Axes", table: pd.DataFrame, both: tuple[Quantity, Quantity], extras: ParetoPlotOptions
) -> tuple[pd.DataFrame, list[float]]:
    """Labels and scales both axes; the table with its drawn values as x, x_low, ..., y_high.

    And for each axis what values were divided by.
    """
    points = table[[*_DRAWN]].copy()
    points["noisy"] &= "measured" in [quantity.source for quantity in both]
    plain = np.asarray(points["family"].eq("") & ~points["on_front"])
    points["beyond_x"] = points["beyond_y"] = 0
    names: tuple[AxisName, AxisName] = ("x", "y")
    factors = []
    for which, quantity, log in zip(names, both, extras.log, strict=True):
        ends = (f"{quantity.key}_low", f"{quantity.key}_high")
        values = table[[quantity.key, *ends]].to_numpy(float, copy=True)
        # bars are drawn for the front and the families alone, and need room only there
        values[plain, 1:] = np.nan
        if extras.clip:
            scale = quantity.logarithmic if log is None else log
            values[:, 0], points[f"beyond_{which}"] = clip_outliers(values[:, 0], plain, log=scale)
        room = {"room": _OF_AREAS} if extras.size else {}
        factors.append(configure_axis(axes, which, quantity, values, log=log, **room))
        points[[which, f"{which}_low", f"{which}_high"]] = values / factors[-1]
    return points, factors


def _looks(points: pd.DataFrame, extras: ParetoPlotOptions) -> pd.DataFrame:
    """Colour and marker of each row: one for each study's front, one for each family."""
    group = points["folder"] if extras.surfaces is None else points["study"]
    fronts = group[points["on_front"]].unique()
    families = points.loc[points["family"].ne(""), "family"].unique()
    circles = zip(itertools.cycle(SERIES_COLORS), itertools.repeat("o"), strict=False)
    # families take up the palette where the fronts leave it
    others = itertools.islice(itertools.cycle(FAMILY_STYLES), max(0, len(fronts) - 1), None)
    looks = dict(zip(fronts, circles, strict=False)) | dict(zip(families, others, strict=False))
    keys = points["family"].where(points["family"].ne(""), group)
    pairs = [looks.get(key, (MUTED_COLOR, "o")) for key in keys.tolist()]
    return pd.DataFrame(pairs, columns=["colour", "marker"], index=points.index)


def _draw_protocol(
    figure: "Figure", table: pd.DataFrame, x: Quantity, y: Quantity, style: Style
) -> None:
    """The line under the axis: on what, and how, measured quantities were measured."""
    ways = dict.fromkeys(way for q in (x, y) if (way := protocol_label(table, q)))
    wide = int(characters_that_fit(style.width, style.small_font_size, _CHARACTER))
    lines = [line for way in ways for line in textwrap.wrap(way, wide)]
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=style.small_font_size, color=DARK_COLOR)


def _draw_cloud(axes: "Axes", cloud: pd.DataFrame, areas: MarkerAreas) -> None:
    if cloud.empty:
        return
    crowded = len(cloud) > _CROWD
    plain = _SMALL if crowded else _DOMINATED
    look: dict[str, Any] = {
        "linewidths": 0.5,
        "alpha": 0.5 if crowded or areas.has_quantity else 0.7,
    }
    axes.scatter([], [], s=plain, color=MUTED_COLOR, **look, label=f"dominated ({len(cloud):,})")
    inside = cloud[cloud["beyond_x"].eq(0) & cloud["beyond_y"].eq(0)]
    for ring, rows in inside.groupby("noisy"):
        axes.scatter(
            rows["x"], rows["y"], s=rows["area"].fillna(plain) if areas.has_quantity else plain, **look,
            **(_ring(MUTED_COLOR) if ring else {"color": MUTED_COLOR}),
            rasterized=len(cloud) > _MOST_VECTORS, zorder=2,
        )  # fmt: skip


def _ring(colour: str) -> dict[str, Any]:
    return {"facecolors": "white", "edgecolors": colour}


def _draw_fronts(
    axes: "Axes", members: pd.DataFrame, both: tuple[Quantity, Quantity], areas: MarkerAreas
) -> list[Polyline]:
    lines = []
    studies = members.groupby("folder", sort=False)
    names = study_names(members)
    for folder, rows in studies:
        name = f"{elide(names[str(folder)])}: front" if studies.ngroups > 1 else "front"
        lines.append(_steps(axes, rows.sort_values("x")[["x", "y"]], both))
        _draw_group(axes, rows, lines[-1], f"{name} ({len(rows)})", areas)
    return lines


def _steps(axes: "Axes", rows: pd.DataFrame, both: tuple[Quantity, Quantity]) -> Polyline:
    """The edge of what the front dominates, drawn on to the worse edge of both axes."""
    x, y = both
    worst = (axes.get_xlim()[x.better == "min"], axes.get_ylim()[y.better == "min"])
    corners = step_line(rows.to_numpy(float), worst, {x.key: x.better, y.key: y.better})
    return corners[:, 0], corners[:, 1]


def _draw_surfaces(
    axes: "Axes", members: pd.DataFrame, both: tuple[Quantity, Quantity], surfaces: pd.DataFrame
) -> list[Polyline]:
    """The median of what repeated searches attain, the band of its quartiles, their members."""
    lines = []
    for study, rows in members.groupby("study", sort=False):
        colour = rows["colour"].iloc[0]
        own = surfaces[surfaces["study"].eq(study)]
        low, middle, high = (
            _steps(axes, own.loc[own["share"].eq(share), ["x", "y"]], both)
            for share in (25, 50, 75)
        )
        band = [np.r_[one, other[::-1]] for one, other in zip(low, high, strict=True)]
        axes.fill(*band, color=colour, alpha=0.2, linewidth=0, zorder=2.5, label="quartiles")
        title = "median" if members["study"].nunique() == 1 else f"{elide(str(study))}: median"
        told = f"{title} of {own['repeats'].iloc[0]} searches"
        axes.plot(*middle, color=colour, linewidth=1.2, zorder=3, label=told)
        look: dict[str, Any] = {"color": colour, "alpha": 0.6, "linewidths": 0, "zorder": 4}
        axes.scatter(rows["x"], rows["y"], s=rows["area"].fillna(_DOMINATED), **look)
        axes.scatter([], [], s=_DOMINATED, **look, label=f"fronts ({len(rows)})")
        lines.append(middle)
    return lines


def _draw_families(axes: "Axes", baselines: pd.DataFrame, areas: MarkerAreas) -> list[Polyline]:
    lines = []
    for family, rows in baselines.groupby("family", sort=False):
        # several studies may have the same member
        chain = rows.groupby("label")[["x", "y"]].mean().sort_values("x")
        lines.append((chain["x"].to_numpy(float), chain["y"].to_numpy(float)))
        _draw_group(axes, rows, lines[-1], elide(str(family)), areas)
    return lines


def _draw_group(
    axes: "Axes", rows: pd.DataFrame, line: Polyline, name: str, areas: MarkerAreas
) -> None:
    """Line, error bars and markers of a front or a family; hollow ones were measured with noise."""
    colour, marker = rows["colour"].iloc[0], rows["marker"].iloc[0]
    axes.plot(*line, color=colour, linewidth=0.9, alpha=0.8, zorder=3)
    axes.vlines(rows["x"], rows["y_low"], rows["y_high"], DARK_COLOR, linewidth=0.7, zorder=3.5)
    axes.hlines(rows["y"], rows["x_low"], rows["x_high"], DARK_COLOR, linewidth=0.7, zorder=3.5)
    faces = ["white" if noisy else colour for noisy in rows["noisy"]]
    look: dict[str, Any] = {"marker": marker, "linewidths": 0.8, "edgecolors": colour, "zorder": 5}
    shade: dict[str, Any] = {"alpha": 0.75} if areas.has_quantity else {}
    sizes = rows["area"].fillna(_MEMBER)
    axes.scatter(rows["x"], rows["y"], s=sizes, facecolors=faces, **look, **shade)
    # matplotlib's legend leaves out names that begin with an underscore
    told = f" {name}" if name[:1] == "_" else name
    axes.scatter([], [], s=_MEMBER, facecolors=colour, **look, label=told)


def _bars(points: pd.DataFrame) -> list[Polyline]:
    """The error bars as lines that labels keep clear of."""
    up = points[points["y_low"] < points["y_high"]]
    across = points[points["x_low"] < points["x_high"]]
    return [
        *_segments(up[["x", "x"]], up[["y_low", "y_high"]]),
        *_segments(across[["x_low", "x_high"]], across[["y", "y"]]),
    ]


def _segments(x: pd.DataFrame, y: pd.DataFrame) -> list[Polyline]:
    return list(zip(x.to_numpy(float), y.to_numpy(float), strict=True))


def _free_side(x: Quantity, y: Quantity) -> list[str]:
    """Where no point can be: the directions in which both quantities improve, the corner first."""
    across, up = _SIDES[x.better][0], _SIDES[y.better][1]
    return [up + across, up, across]


def _front_labels(members: pd.DataFrame, extras: ParetoPlotOptions) -> pd.DataFrame:
    """Front members that carry a label, the most wanted first: ends, then evenly between."""
    members = members.sort_values(["folder", "x"], kind="stable")
    if extras.probability:
        chances = members["front_probability"].map(format_probability)
        told = members["label"] + chances.map(lambda text: f" ({text})" if text else "")
        members = members.assign(label=told)
    several = members["folder"].nunique() > 1
    labels = members.groupby(["folder", "x", "y"], sort=False).agg(
        label=("label", _joined), colour=("colour", "first" if several else lambda _: DARK_COLOR)
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
