"""Drawing of a Pareto table: dominated points, step fronts, reference families, labels."""

import itertools
import textwrap
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.pareto.attainment import step_line
from partialnas.analysis.pareto.front_probability import format_probability
from partialnas.analysis.pareto.table import ParetoTable
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.axes import (
    AxisName,
    configure_axis,
    parent_figure,
    protocol_label,
)
from partialnas.analysis.plotting.clipping import clip_outliers, draw_outlier_arrows
from partialnas.analysis.plotting.fitting import fit_labels
from partialnas.analysis.plotting.labels import Polyline, draw_labels, elide, study_names
from partialnas.analysis.plotting.legends import draw_legend, draw_note
from partialnas.analysis.plotting.limit_lines import (
    EXCLUDED_MARKER,
    draw_limit_lines,
    excluded_mask,
    excluded_name,
)
from partialnas.analysis.plotting.marker_areas import (
    MarkerAreas,
    add_rim_points,
    compute_marker_areas,
)
from partialnas.analysis.plotting.names import network_name
from partialnas.analysis.plotting.style import (
    DARK_COLOR,
    FAMILY_STYLES,
    MUTED_COLOR,
    SERIES_COLORS,
    Style,
    characters_that_fit,
)
from partialnas.runs.config.quantities import Quantity

_POINT_COLUMNS = (
    *("label", "trial", "family", "member", "study", "folder"),
    *("on_front", "on_projected_front", "front_probability"),
)
_SIDES = {"min": ("west", "south"), "max": ("east", "north")}
_MAX_LABELS = 12
_MANY_POINTS = 500
_MAX_VECTOR_POINTS = 5000
_CHARACTER_ASPECT = 0.56
_MEMBER, _DOMINATED, _SMALL = 16.0, 7.0, 4.0
_OFF_LINE_MARKER = "d"
_AREA_MARGIN = 0.09  # of an axis, so that no large marker is cut off at its end


@dataclass(frozen=True, kw_only=True)
class ParetoPlotOptions:
    """What a Pareto figure shows besides points, fronts and families.

    Attributes:
        size: quantity that the area of markers is proportional to, or None.
        log: whether x and y are logarithmic; None if the values decide.
        clip: whether dominated points far from the others become arrows on the edge.
        probability: whether labels state the probability of being on the front.
        surfaces: surfaces that repeated searches attain, which replace their fronts, or None.
    """

    size: Quantity | None = None
    log: tuple[bool | None, bool | None] = (None, None)
    clip: bool = False
    probability: bool = False
    surfaces: pd.DataFrame | None = None


def draw_pareto(
    pareto: ParetoTable, style: Style, options: ParetoPlotOptions | None = None
) -> AnyFigure:
    """Return the figure of a Pareto table; call it inside `figure_style`."""
    table, x, y = pareto.rows, pareto.x, pareto.y
    if not pareto.is_projection:
        table = table.assign(on_projected_front=table["on_front"])
    options = options or ParetoPlotOptions()
    figure, axes = style.new_axes()
    axes.grid(visible=True)
    points, factors = _on_axes(axes, replace(pareto, rows=table), options)
    areas = compute_marker_areas(table, options.size)
    points = points.join(_point_styles(points, options)).assign(area=areas.values)
    _draw_protocol(figure, pareto, style)
    others = "not on the front" if pareto.is_projection else "dominated"
    cloud = points[points["family"].eq("") & ~points["on_front"]]
    _draw_others(axes, cloud[~cloud["excluded"]], areas, others)
    crosses = {"name": excluded_name(pareto.excluded), "marker": EXCLUDED_MARKER}
    _draw_others(axes, cloud[cloud["excluded"]], areas, **crosses)
    if options.surfaces is None:
        lines = _draw_fronts(axes, points[points["family"].eq("")], (x, y), areas)
    else:
        scaled = options.surfaces.assign(x=lambda t: t[x.key] / factors[0])
        scaled = scaled.assign(y=lambda t: t[y.key] / factors[1])
        lines = _draw_surfaces(axes, points[points["on_front"]], (x, y), scaled)
    lines += _draw_families(axes, points[points["family"].ne("")], areas)
    bounds = ([b / f for b in pareto.bounds(q)] for q, f in zip((x, y), factors, strict=True))
    lines += draw_limit_lines(axes, *bounds)
    if points["hollow"].any():
        kinds = [kind for kind in ("noisy", "eager") if points[kind].any()]
        look = {"s": 7, "linewidths": 0.5, **_ring(MUTED_COLOR)}
        axes.scatter([], [], **look, label=f"hollow: {' or '.join(kinds)} timing")
    draw_outlier_arrows(axes, points)
    areas.draw_legend_entries(axes)
    draw_legend(figure, axes, style)
    fit_labels(figure, [axes])
    _draw_texts(axes, points, lines, _label_sides(x, y), style, options)
    return figure


def _draw_texts(
    axes: Axes, points: pd.DataFrame, lines: list[Polyline], sides: list[str], style: Style,
    options: ParetoPlotOptions,
) -> None:  # fmt: skip
    members = points[points["on_front"]]
    if options.surfaces is not None:
        members = members[:0]
    texts = pd.concat([_front_labels(members, options), _family_labels(points)])
    if texts.empty:
        return
    crowd = add_rim_points(axes, points)
    draw_labels(axes, texts, crowd, lines=[*lines, *_bars(points)], sides=sides, style=style)
    if style.target is None:
        parent_figure(axes).set_layout_engine("none")  # labels were placed for this layout


def _on_axes(
    axes: Axes, pareto: ParetoTable, options: ParetoPlotOptions
) -> tuple[pd.DataFrame, tuple[float, float]]:
    """Configure both axes; return the values to draw (x, x_low, ...) and the axes' factors."""
    table, both = pareto.rows, (pareto.x, pareto.y)
    points = table[[*_POINT_COLUMNS]].copy()
    is_measured = "measured" in [quantity.source for quantity in both]
    points[["noisy", "eager"]] = table[["noisy", "eager"]] & is_measured
    points["hollow"] = points["noisy"] | points["eager"]
    plain = np.asarray(points["family"].eq("") & ~points["on_front"])
    points["excluded"] = excluded_mask(table)
    points["beyond_x"] = points["beyond_y"] = 0
    names: tuple[AxisName, AxisName] = ("x", "y")
    factors = []
    for which, quantity, log in zip(names, both, options.log, strict=True):
        ends = (f"{quantity.key}_low", f"{quantity.key}_high")
        values = table[[quantity.key, *ends]].to_numpy(float, copy=True)
        # bars are drawn for the front and the families alone, and need room only there
        values[plain, 1:] = np.nan
        if options.clip:
            scale = quantity.logarithmic if log is None else log
            values[:, 0], points[f"beyond_{which}"] = clip_outliers(values[:, 0], plain, log=scale)
        room = {"room": _AREA_MARGIN} if options.size else {}
        bounds = [b for b in pareto.bounds(quantity) if b > 0 or not log]
        shown = np.vstack([values, *([bound] * 3 for bound in bounds)])
        factors.append(configure_axis(axes, which, quantity, shown, log=log, **room))
        points[[which, f"{which}_low", f"{which}_high"]] = values / factors[-1]
    return points, (factors[0], factors[1])


def _point_styles(points: pd.DataFrame, options: ParetoPlotOptions) -> pd.DataFrame:
    """Return color and marker of each row: one per front of a study, one per family."""
    group = points["folder"] if options.surfaces is None else points["study"]
    fronts = group[points["on_front"] | points["on_projected_front"]].unique()
    families = points.loc[points["family"].ne(""), "family"].unique()
    circles = zip(itertools.cycle(SERIES_COLORS), itertools.repeat("o"), strict=False)
    # families continue the palette after the fronts
    others = itertools.islice(itertools.cycle(FAMILY_STYLES), max(0, len(fronts) - 1), None)
    looks = dict(zip(fronts, circles, strict=False)) | dict(zip(families, others, strict=False))
    keys = points["family"].where(points["family"].ne(""), group)
    pairs = [looks.get(key, (MUTED_COLOR, "o")) for key in keys.tolist()]
    return pd.DataFrame(pairs, columns=["color", "marker"], index=points.index)


def _draw_protocol(figure: AnyFigure, pareto: ParetoTable, style: Style) -> None:
    """Write below the axis by which protocol measured quantities were measured."""
    labels = (protocol_label(pareto.rows, quantity) for quantity in (pareto.x, pareto.y))
    protocols = dict.fromkeys(filter(None, labels))
    wide = int(characters_that_fit(style.width, style.small_font_size, _CHARACTER_ASPECT))
    lines = [line for label in protocols for line in textwrap.wrap(label, wide)]
    if lines:
        draw_note(figure, lines, style)


def _draw_others(
    axes: Axes, cloud: pd.DataFrame, areas: MarkerAreas, name: str, marker: str = "o"
) -> None:
    """Draw networks that are not on a front, `name` in the legend, in gray."""
    if cloud.empty:
        return
    crowded = len(cloud) > _MANY_POINTS
    plain = _SMALL if crowded else _DOMINATED
    alpha = 0.5 if crowded or areas.has_quantity else 0.7
    look: dict[str, Any] = {"linewidths": 0.5, "alpha": alpha, "marker": marker}
    axes.scatter([], [], s=plain, color=MUTED_COLOR, **look, label=f"{name} ({len(cloud):,})")
    inside = cloud[cloud["beyond_x"].eq(0) & cloud["beyond_y"].eq(0)]
    for ring, rows in inside.groupby("hollow"):
        axes.scatter(
            rows["x"], rows["y"], **look,
            s=rows["area"].fillna(plain) if areas.has_quantity else plain,
            **(_ring(MUTED_COLOR) if ring else {"color": MUTED_COLOR}),
            rasterized=len(cloud) > _MAX_VECTOR_POINTS, zorder=2,
        )  # fmt: skip


def _ring(color: str) -> dict[str, Any]:
    return {"facecolors": "white", "edgecolors": color}


def _draw_fronts(
    axes: Axes, searched: pd.DataFrame, both: tuple[Quantity, Quantity], areas: MarkerAreas
) -> list[Polyline]:
    """Draw the front of each study, and the step line through what no network dominates here.

    In a projection, members of a front that are dominated in the two quantities alone have a
    marker of their own, and the line also passes through networks that are not on the front.
    """
    lines = []
    shown = searched[searched["on_front"] | searched["on_projected_front"]]
    studies = shown.groupby("folder", sort=False)
    names = study_names(shown)
    several = studies.ngroups > 1
    for folder, rows in studies:
        name = f"{elide(names[str(folder)])}: front" if several else "front"
        edge = rows.loc[rows["on_projected_front"], ["x", "y"]].sort_values("x")
        lines.append(_steps(axes, edge, both))
        _draw_line(axes, lines[-1], rows["color"].iloc[0])
        members = rows[rows["on_front"]]
        on_line = members["on_projected_front"]
        if on_line.all():
            _draw_group(axes, members, f"{name} ({len(members)})", areas)
            continue
        off_line = members[~on_line].assign(marker=_OFF_LINE_MARKER)
        _draw_group(axes, members[on_line], f"{name} ({on_line.sum()})", areas)
        label = "" if several else f"off the line ({len(off_line)})"
        _draw_group(axes, off_line, label, areas)
    if several and (shown["on_front"] & ~shown["on_projected_front"]).any():
        number = int((shown["on_front"] & ~shown["on_projected_front"]).sum())
        axes.scatter(
            [],
            [],
            s=_MEMBER,
            marker=_OFF_LINE_MARKER,
            color=DARK_COLOR,
            label=f"off the line ({number})",
        )
    return lines


def _steps(axes: Axes, rows: pd.DataFrame, both: tuple[Quantity, Quantity]) -> Polyline:
    """Return the edge of the dominated area, extended to the worse end of both axes."""
    x, y = both
    worst = (axes.get_xlim()[x.better == "min"], axes.get_ylim()[y.better == "min"])
    corners = step_line(rows.to_numpy(float), worst, {x.key: x.better, y.key: y.better})
    return corners[:, 0], corners[:, 1]


def _draw_surfaces(
    axes: Axes, members: pd.DataFrame, both: tuple[Quantity, Quantity], surfaces: pd.DataFrame
) -> list[Polyline]:
    """Draw the median attainment of repeated searches, its quartiles and the searches' fronts."""
    lines = []
    for study, rows in members.groupby("study", sort=False):
        color = rows["color"].iloc[0]
        attained = surfaces[surfaces["study"].eq(study)]
        low, middle, high = (
            _steps(axes, attained.loc[attained["share"].eq(share), ["x", "y"]], both)
            for share in (25, 50, 75)
        )
        band = [np.r_[one, other[::-1]] for one, other in zip(low, high, strict=True)]
        axes.fill(*band, color=color, alpha=0.2, linewidth=0, zorder=2.5, label="quartiles")
        title = "median" if members["study"].nunique() == 1 else f"{elide(str(study))}: median"
        label = f"{title} of {attained['repeats'].iloc[0]} searches"
        axes.plot(*middle, color=color, linewidth=1.2, zorder=3, label=label)
        look: dict[str, Any] = {"color": color, "alpha": 0.6, "linewidths": 0, "zorder": 4}
        axes.scatter(rows["x"], rows["y"], s=rows["area"].fillna(_DOMINATED), **look)
        axes.scatter([], [], s=_DOMINATED, **look, label=f"fronts ({len(rows)})")
        lines.append(middle)
    return lines


def _draw_families(axes: Axes, baselines: pd.DataFrame, areas: MarkerAreas) -> list[Polyline]:
    lines = []
    for family, rows in baselines.groupby("family", sort=False):
        # several studies may have the same member
        chain = rows.groupby("label")[["x", "y"]].mean().sort_values("x")
        lines.append((chain["x"].to_numpy(float), chain["y"].to_numpy(float)))
        _draw_line(axes, lines[-1], rows["color"].iloc[0])
        _draw_group(axes, rows, elide(network_name(str(family))), areas)
    return lines


def _draw_line(axes: Axes, line: Polyline, color: str) -> None:
    axes.plot(*line, color=color, linewidth=0.9, alpha=0.8, zorder=3)


def _draw_group(axes: Axes, rows: pd.DataFrame, name: str, areas: MarkerAreas) -> None:
    """Draw error bars and markers of a front or a family; noisy and eager timings are hollow."""
    if rows.empty:
        return
    color, marker = rows["color"].iloc[0], rows["marker"].iloc[0]
    axes.vlines(rows["x"], rows["y_low"], rows["y_high"], DARK_COLOR, linewidth=0.7, zorder=3.5)
    axes.hlines(rows["y"], rows["x_low"], rows["x_high"], DARK_COLOR, linewidth=0.7, zorder=3.5)
    faces = ["white" if hollow else color for hollow in rows["hollow"]]
    look: dict[str, Any] = {"marker": marker, "linewidths": 0.8, "edgecolors": color, "zorder": 5}
    shade: dict[str, Any] = {"alpha": 0.75} if areas.has_quantity else {}
    sizes = rows["area"].fillna(_MEMBER)
    axes.scatter(rows["x"], rows["y"], s=sizes, facecolors=faces, **look, **shade)
    if not name:
        return
    # matplotlib's legend omits labels that begin with an underscore
    label = f" {name}" if name[:1] == "_" else name
    axes.scatter([], [], s=_MEMBER, facecolors=color, **look, label=label)


def _bars(points: pd.DataFrame) -> list[Polyline]:
    """Return the error bars as lines that labels avoid."""
    up = points[points["y_low"] < points["y_high"]]
    across = points[points["x_low"] < points["x_high"]]
    return [
        *_bar_lines(up[["x", "x"]], up[["y_low", "y_high"]]),
        *_bar_lines(across[["x_low", "x_high"]], across[["y", "y"]]),
    ]


def _bar_lines(x: pd.DataFrame, y: pd.DataFrame) -> list[Polyline]:
    return list(zip(x.to_numpy(float), y.to_numpy(float), strict=True))


def _label_sides(x: Quantity, y: Quantity) -> list[str]:
    """Return the directions in which both quantities improve, where no point can be."""
    across, up = _SIDES[x.better][0], _SIDES[y.better][1]
    return [up + across, up, across]


def _front_labels(members: pd.DataFrame, options: ParetoPlotOptions) -> pd.DataFrame:
    """Return labels of front members, most important first: both ends, then evenly between."""
    members = members.sort_values(["folder", "x"], kind="stable")
    if options.probability:
        texts = members["front_probability"].map(format_probability)
        suffixes = texts.map(lambda text: f" ({text})" if text else "")
        members = members.assign(label=members["label"] + suffixes)
    several = members["folder"].nunique() > 1
    labels = members.groupby(["folder", "x", "y"], sort=False).agg(
        label=("label", _join_labels), color=("color", "first" if several else lambda _: DARK_COLOR)
    )
    labels = labels.reset_index()
    chosen = np.linspace(0, len(labels) - 1, min(len(labels), _MAX_LABELS)).round().astype(int)
    return labels.iloc[[*chosen[:1], *chosen[1:][::-1]]]


def _join_labels(labels: "pd.Series[str]") -> str:
    """Return `#3` for one label, `#3, #7` for two at one point, `#3 +4` for more."""
    first, *more = labels
    if len(more) < 2:
        return ", ".join(labels)
    return f"{first} +{len(more)}"


def _family_labels(points: pd.DataFrame) -> pd.DataFrame:
    members = points[points["member"].ne("")]
    return members[["x", "y", "color"]].assign(label=members["member"])
