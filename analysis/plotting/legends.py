"""Legends and notes of figures: beside the axes where a layout makes room, else off the data."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from partialnas.analysis.plotting.artists import AnyFigure, Artist, Axes, Transform
from partialnas.analysis.plotting.axes import parent_figure
from partialnas.analysis.plotting.fitting import fit_labels
from partialnas.analysis.plotting.style import DARK_COLOR, Style

if TYPE_CHECKING:
    from matplotlib.legend import Legend

_MAX_COLUMNS = 8
_MAX_LEGEND_WIDTH = 0.97  # share of the figure's width
_MAX_LEGEND_SHARE = 0.2  # of the figure's height; below a taller legend the figure grows
_MAX_AXES_SHARE = 0.6  # of the height of axes
_GAP = 0.06
"""Inches between an axis and the legend below it."""

_HANDLE = {"handlelength": 1.2, "handleheight": 0.7}
_SCALES = (0.85, 0.7)
"""Font sizes of legends that are wider than their axes, as shares of the caller's."""


def draw_legend(figure: AnyFigure, axes: Axes, style: Style) -> None:
    """Draw the legend above the axes, in as many columns as fit; in the caller's axes off the data.

    Call it after the data and the axis labels are drawn.
    """
    from matplotlib.figure import Figure

    handles, names = axes.get_legend_handles_labels()
    sizes = _handle_sizes(handles, style)
    if not names:
        return
    if not has_margins(figure, style):
        _draw_axes_legend(figure, axes, sizes)
        return
    width = _MAX_LEGEND_WIDTH * style.width * figure.dpi
    for columns in range(min(_MAX_COLUMNS, len(names)), 0, -1):
        legend = figure.legend(
            handles, names, loc="outside upper center", ncols=columns, handletextpad=0.4,
            columnspacing=1.0, borderpad=0.1, labelspacing=0.3, labelcolor=DARK_COLOR, **sizes,
        )  # fmt: skip
        box = legend.get_window_extent()
        if columns == 1 or box.width < width:
            if isinstance(figure, Figure):
                excess = box.height / figure.dpi - _MAX_LEGEND_SHARE * style.height
                figure.set_figheight(figure.get_figheight() + max(0.0, excess))
            return
        legend.remove()


def _draw_axes_legend(figure: AnyFigure, axes: Axes, sizes: dict[str, Any]) -> None:
    """Draw a legend that is no wider than its axes and covers no data.

    In a constrained layout it stands below the axis label. Otherwise it is inside: where no data
    are, or above them on an axis made longer.
    """
    fit_labels(figure, [axes])
    if _is_constrained(figure):
        where: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
        where["bbox_transform"] = below_axes(axes)
        _draw_widest(axes, {**where, "borderaxespad": 0, **sizes})
        return
    legend = axes.legend(loc="best", **sizes)
    if not _is_wider(legend, axes) and not _covers_data(legend, axes):
        return
    box = _draw_widest(axes, {"loc": "upper center", **sizes}).get_window_extent()
    gap = axes.bbox.y1 - box.y1
    share = min(_MAX_AXES_SHARE, (box.height + 2 * gap) / axes.bbox.height)
    scale = axes.yaxis.get_transform()
    bottom, top = scale.transform(axes.get_ylim())
    axes.set_ylim(top=scale.inverted().transform([bottom + (top - bottom) / (1 - share)])[0])


def _draw_widest(axes: Axes, look: dict[str, Any]) -> "Legend":
    """Draw a legend in as many columns as fit into the axes; if none does, in a smaller font."""
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties

    size = FontProperties(size=mpl.rcParams["legend.fontsize"]).get_size_in_points()
    number = min(_MAX_COLUMNS, len(axes.get_legend_handles_labels()[1]))
    shapes = [(columns, size) for columns in range(number, 0, -1)]
    shapes += [(1, scale * size) for scale in _SCALES]
    for columns, points in shapes:
        legend = axes.legend(ncols=columns, fontsize=points, columnspacing=1.0, **look)
        if not _is_wider(legend, axes):
            break
    return legend


def _is_wider(legend: "Legend", axes: Axes) -> bool:
    return bool(legend.get_window_extent().width > axes.get_window_extent().width)


def _covers_data(legend: "Legend", axes: Axes) -> bool:
    """Return whether a legend lies on a line, a marker or a text of its axes."""
    from matplotlib.collections import LineCollection, PathCollection

    box = legend.get_window_extent()
    paths = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    for collection in axes.collections:
        if isinstance(collection, LineCollection):
            transform = collection.get_transform()
            paths += [transform.transform_path(path) for path in collection.get_paths()]
    spots = [
        spot
        for collection in axes.collections
        if isinstance(collection, PathCollection)
        for spot in collection.get_offset_transform().transform(collection.get_offsets())
    ]
    return (
        any(path.intersects_bbox(box, filled=False) for path in paths)
        or any(box.contains(*spot) for spot in spots)
        or any(box.overlaps(text.get_window_extent()) for text in axes.texts)
    )


def below_axes(axes: Axes) -> Transform:
    """Return a transform in axes width across, and in inches upwards from below the axis label.

    The position of the axes may still change, their label and ticks may not.
    """
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    figure = parent_figure(axes)
    labeled, scale = axes.xaxis.get_tightbbox(), figure.dpi_scale_trans
    inches = 0.0 if labeled is None else (axes.bbox.y0 - labeled.y0) / figure.dpi + _GAP
    bottom = ScaledTranslation(0, 0, axes.transAxes)  # type: ignore[arg-type]  # it is affine
    return blended_transform_factory(
        axes.transAxes, scale + bottom + ScaledTranslation(0, -inches, scale)
    )


def has_margins(figure: AnyFigure, style: Style) -> bool:
    """Return whether texts outside all axes get space: in our figures and with this layout."""
    from matplotlib.axes import Axes

    return not isinstance(style.target, Axes) and _is_constrained(figure)


def _is_constrained(figure: AnyFigure) -> bool:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)


def draw_note(figure: AnyFigure, lines: Sequence[str], style: Style) -> None:
    """Write lines below a figure with margins; elsewhere the caption alone states them."""
    if has_margins(figure, style):
        figure.supxlabel("\n".join(lines), color=DARK_COLOR)


def _handle_sizes(handles: Sequence[Artist], style: Style) -> dict[str, Any]:
    """Return the size of legend handles in font sizes, large enough for the largest marker."""
    from matplotlib.collections import PathCollection

    areas = [max(h.get_sizes()) for h in handles if isinstance(h, PathCollection)]
    diameter = math.sqrt(max(areas, default=0.0)) / style.small_font_size
    return {name: max(default, diameter) for name, default in _HANDLE.items()}
