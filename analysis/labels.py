"""What is written into a figure: its legend, and labels of points that keep clear of everything."""

from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.axes import Floats
from partialnas.analysis.style import INK, LEADER, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = tuple[Floats, Floats]
"""A polyline that is drawn: its x and its y coordinates."""

_MOST_COLUMNS = 4
_MOST_POINTS = 5000
_LONGEST_NAME = 24


def draw_legend(figure: "Figure", axes: "Axes", style: Style) -> None:
    """The legend above the axes, in as many columns as fit."""
    handles, names = axes.get_legend_handles_labels()
    for columns in range(min(_MOST_COLUMNS, len(names)), 0, -1):
        legend = figure.legend(
            handles, names, loc="outside upper center", ncols=columns, handletextpad=0.2,
            columnspacing=1.0, borderpad=0.1, labelspacing=0.3, handlelength=1.2, labelcolor=INK,
        )  # fmt: skip
        if columns == 1 or legend.get_window_extent().width < style.width * figure.dpi:
            return
        legend.remove()


def draw_labels(
    axes: "Axes",
    texts: pd.DataFrame,
    points: pd.DataFrame,
    *,
    lines: list[Line],
    sides: list[str],
    style: Style,
) -> None:
    """Places labels so that none covers a point, a line or another; where none fits, none is.

    Args:
        axes: the axes, with limits and everything else drawn already.
        texts: `label`, `colour` and the point (`x`, `y`) of each label, the most wanted first.
        points: `x` and `y` of all points.
        lines: the lines to keep clear of.
        sides: directions from its point in which a label may stand, the preferred first.
        style: of the figure.
    """
    import textalloc

    points = points.dropna(subset=["x", "y"])
    crowd = points.iloc[:: 1 + len(points) // _MOST_POINTS]
    textalloc.allocate(
        axes,
        texts["x"].to_numpy(),
        texts["y"].to_numpy(),
        texts["label"].to_list(),
        x_scatter=crowd["x"].to_numpy(),
        y_scatter=crowd["y"].to_numpy(),
        x_lines=[x for x, _ in lines],
        y_lines=[y for _, y in lines],
        textsize=style.small,
        textcolor=texts["colour"].to_list(),
        linecolor=LEADER,
        linewidth=0.4,
        min_distance=0.015,
        max_distance=0.15,
        margin=0.006,
        nbr_candidates=400,
        direction=sides,
        avoid_label_lines_overlap=True,
        avoid_crossing_label_lines=True,
        draw_all=False,
        zorder=6,
    )


def elide(text: str, longest: int = _LONGEST_NAME) -> str:
    """The text with its middle left out where it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[: longest - 1 - head]}…{text[-head:]}"
