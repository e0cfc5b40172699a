"""Text in figures: the legend, labels of points that overlap nothing, and short names."""

import io
import math
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.plotting.artists import Artist, Axes, Figure
from partialnas.analysis.plotting.style import DARK_COLOR, LEADER_COLOR, Style

Polyline = tuple[Floats, Floats]
"""The x and y coordinates of a line in a figure."""

_MAX_COLUMNS = 8
_MAX_LEGEND_WIDTH = 0.97  # share of the figure's width
_MAX_POINTS = 5000
_MAX_NAME_LENGTH = 24
_HANDLE = {"handlelength": 1.2, "handleheight": 0.7}


def draw_legend(figure: Figure, axes: Axes, style: Style) -> None:
    """Draw the legend above the axes, in as many columns as fit."""
    handles, names = axes.get_legend_handles_labels()
    sizes = _handle_sizes(handles, style)
    width = _MAX_LEGEND_WIDTH * style.width * figure.dpi
    for columns in range(min(_MAX_COLUMNS, len(names)), 0, -1):
        legend = figure.legend(
            handles, names, loc="outside upper center", ncols=columns, handletextpad=0.2,
            columnspacing=1.0, borderpad=0.1, labelspacing=0.3, labelcolor=DARK_COLOR, **sizes,
        )  # fmt: skip
        if columns == 1 or legend.get_window_extent().width < width:
            return
        legend.remove()


def _handle_sizes(handles: Sequence[Artist], style: Style) -> dict[str, Any]:
    """Return the size of legend handles in font sizes, large enough for the largest marker."""
    from matplotlib.collections import PathCollection

    areas = [max(h.get_sizes()) for h in handles if isinstance(h, PathCollection)]
    diameter = math.sqrt(max(areas, default=0.0)) / style.small_font_size
    return {name: max(default, diameter) for name, default in _HANDLE.items()}


def draw_labels(
    axes: Axes,
    texts: pd.DataFrame,
    points: pd.DataFrame,
    *,
    lines: list[Polyline],
    sides: list[str],
    style: Style,
) -> None:
    """Place labels so that none covers a point, a line or another label; omit those without room.

    If no label fits on the preferred sides, all sides are allowed.

    Args:
        axes: axes with their limits set and everything else drawn.
        texts: `label`, `color` and point (`x`, `y`) of each label, in order of importance.
        points: `x` and `y` of all points.
        lines: lines that labels must not cover.
        sides: allowed directions of a label from its point, the preferred one first.
        style: style of the figure.
    """
    import textalloc

    points = points.dropna(subset=["x", "y"])
    crowd = points.iloc[:: 1 + len(points) // _MAX_POINTS]
    before = len(axes.texts)
    options: list[dict[str, Any]] = [{"direction": sides}, {}]
    for where in options:
        if len(axes.texts) > before:
            return
        with redirect_stdout(io.StringIO()):  # textalloc prints if nothing fits
            textalloc.allocate(
                axes, texts["x"].to_numpy(), texts["y"].to_numpy(), texts["label"].to_list(),
                x_scatter=crowd["x"].to_numpy(), y_scatter=crowd["y"].to_numpy(),
                x_lines=[x for x, _ in lines], y_lines=[y for _, y in lines],
                textsize=style.small_font_size, textcolor=texts["color"].to_list(),
                linecolor=LEADER_COLOR, linewidth=0.4, min_distance=0.015, max_distance=0.15,
                margin=0.006, nbr_candidates=400, avoid_label_lines_overlap=True,
                avoid_crossing_label_lines=True, draw_all=False, zorder=6, **where,
            )  # fmt: skip


def study_names(rows: pd.DataFrame) -> dict[str, str]:
    """Return the names of studies by folder; studies with the same name get the end of their path.

    Paths are cut to as many parts as make them distinct, since figures should not reveal locations.

    Args:
        rows: table with `folder` and `study`.
    """
    unique = rows.drop_duplicates("folder")
    folders, names = unique["folder"].tolist(), unique["study"].tolist()
    paths = [Path(folder).absolute().parts for folder in folders]
    number = 0
    while len({*names}) < len(folders):
        number += 1
        names = ["/".join(parts[-number:]) for parts in paths]
    return dict(zip(folders, names, strict=True))


def elide(text: str, longest: int = _MAX_NAME_LENGTH) -> str:
    """Return the text with its middle left out if it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[: longest - 1 - head]}…{text[-head:]}"


def distinct_labels(names: Sequence[str], longest: int = _MAX_NAME_LENGTH) -> list[str]:
    """Return elided names; names that elide to the same text lose their common prefix instead."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(elide(name, longest), []).append(name)
    labels = {}
    for short, group in groups.items():
        prefix = _common_prefix_length(group) if len(group) > 1 else 0
        for name in group:
            labels[name] = f"…{elide(name[prefix:], longest - 1)}" if prefix else short
    return [labels[name] for name in names]


def _common_prefix_length(names: Sequence[str]) -> int:
    columns = zip(*names, strict=False)
    return next((i for i, chars in enumerate(columns) if len({*chars}) > 1), min(map(len, names)))


def split_in_two(words: Sequence[str], before: str = "") -> tuple[str, str]:
    """Return two or more words on two lines of similar length.

    Args:
        words: words to put on two lines.
        before: start of the word that begins the second line, if there is one.
    """
    splits = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    preferred = [lines for lines in splits if lines[1].startswith(before)]
    return min(preferred or splits, key=lambda lines: max(map(len, lines)))
