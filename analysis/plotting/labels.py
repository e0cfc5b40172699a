"""What is written into a figure: its legend, and labels of points that keep clear of everything."""

import io
import math
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from partialnas.analysis.plotting.axes import Floats
from partialnas.analysis.plotting.style import DARK_COLOR, LEADER_COLOR, Style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Polyline = tuple[Floats, Floats]
"""A polyline that is drawn: its x and its y coordinates."""

_MOST_COLUMNS = 8
_WIDEST = 0.97  # of the figure
_MOST_POINTS = 5000
_LONGEST_NAME = 24
_HANDLE = {"handlelength": 1.2, "handleheight": 0.7}


def draw_legend(figure: "Figure", axes: "Axes", style: Style) -> None:
    """The legend above the axes, in as many columns as fit."""
    handles, names = axes.get_legend_handles_labels()
    room = _room_of(handles, style)
    for columns in range(min(_MOST_COLUMNS, len(names)), 0, -1):
        legend = figure.legend(
            handles, names, loc="outside upper center", ncols=columns, handletextpad=0.2,
            columnspacing=1.0, borderpad=0.1, labelspacing=0.3, labelcolor=DARK_COLOR, **room,
        )  # fmt: skip
        if columns == 1 or legend.get_window_extent().width < _WIDEST * style.width * figure.dpi:
            return
        legend.remove()


def _room_of(handles: "Sequence[Artist]", style: Style) -> dict[str, Any]:
    """The room for what stands beside a text, in sizes of a letter: that of the largest marker."""
    from matplotlib.collections import PathCollection

    areas = [max(each.get_sizes()) for each in handles if isinstance(each, PathCollection)]
    across = math.sqrt(max(areas, default=0.0)) / style.small_font_size
    return {name: max(usual, across) for name, usual in _HANDLE.items()}


def draw_labels(
    axes: "Axes",
    texts: pd.DataFrame,
    points: pd.DataFrame,
    *,
    lines: list[Polyline],
    sides: list[str],
    style: Style,
) -> None:
    """Places labels so that none covers a point, a line or another; what does not fit is left out.

    Where none at all fits on the preferred sides, any side will do.

    Args:
        axes: the axes, with limits and everything else drawn already.
        texts: `label`, `colour` and the point (`x`, `y`) of each label, the most wanted first.
        points: `x` and `y` of all points.
        lines: the lines to keep clear of.
        sides: directions from its point in which a label may stand, the preferred first.
        style: of the figure.
    """
    points = points.dropna(subset=["x", "y"])
    crowd = points.iloc[:: 1 + len(points) // _MOST_POINTS]
    before = len(axes.texts)
    for where in ({"direction": sides}, {}):
        if len(axes.texts) == before:
            _allocate(axes, texts, crowd, lines, style, where)


def _allocate(
    axes: "Axes",
    texts: pd.DataFrame,
    crowd: pd.DataFrame,
    lines: list[Polyline],
    style: Style,
    where: dict[str, Any],
) -> None:
    import textalloc

    with redirect_stdout(io.StringIO()):  # it prints where nothing fits
        textalloc.allocate(
            axes,
            texts["x"].to_numpy(),
            texts["y"].to_numpy(),
            texts["label"].to_list(),
            x_scatter=crowd["x"].to_numpy(),
            y_scatter=crowd["y"].to_numpy(),
            x_lines=[x for x, _ in lines],
            y_lines=[y for _, y in lines],
            textsize=style.small_font_size,
            textcolor=texts["colour"].to_list(),
            linecolor=LEADER_COLOR,
            linewidth=0.4,
            min_distance=0.015,
            max_distance=0.15,
            margin=0.006,
            nbr_candidates=400,
            avoid_label_lines_overlap=True,
            avoid_crossing_label_lines=True,
            draw_all=False,
            zorder=6,
            **where,
        )


def study_names(rows: pd.DataFrame) -> dict[str, str]:
    """What studies are called, by their folders: their names, of repeats the ends of their paths.

    As many parts of paths as tell them apart: where studies lie does not show in figures.

    Args:
        rows: with `folder` and `study`.
    """
    once = rows.drop_duplicates("folder")
    folders, names = once["folder"].tolist(), once["study"].tolist()
    paths = [Path(folder).absolute().parts for folder in folders]
    number = 0
    while len({*names}) < len(folders):
        number += 1
        names = ["/".join(parts[-number:]) for parts in paths]
    return dict(zip(folders, names, strict=True))


def elide(text: str, longest: int = _LONGEST_NAME) -> str:
    """The text with its middle left out where it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[: longest - 1 - head]}…{text[-head:]}"


def distinct_labels(names: Sequence[str], longest: int = _LONGEST_NAME) -> list[str]:
    """Names as `elide` makes them; those that it makes alike without the beginning they share."""
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(elide(name, longest), []).append(name)
    told = {}
    for short, group in alike.items():
        shared = _shared(group) if len(group) > 1 else 0
        for name in group:
            told[name] = f"…{elide(name[shared:], longest - 1)}" if shared else short
    return [told[name] for name in names]


def _shared(names: Sequence[str]) -> int:
    """With how many letters names begin alike."""
    letters = zip(*names, strict=False)
    return next((at for at, each in enumerate(letters) if len({*each}) > 1), min(map(len, names)))
