"""Text in figures: labels of points and lines that overlap nothing, and short names."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, cast

import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.plotting.artists import Axes, Figure
from partialnas.analysis.plotting.axes import parent_figure
from partialnas.analysis.plotting.style import (
    LEADER_COLOR,
    POINTS_PER_INCH,
    Style,
)

Polyline = tuple[Floats, Floats]
"""The x and y coordinates of a line in a figure."""

_LINE_SPACING = 1.25
_MAX_POINTS = 5000
_MAX_NAME_LENGTH = 24


def label_line_ends(
    axes: Axes, ends: Sequence[tuple[float, str, str]], style: Style, *, height: float
) -> None:
    """Write names in their colors beside the right ends of lines, one above the other.

    Args:
        axes: axes with their limits set; there is space on their right.
        ends: value on the vertical axis, name and color of each line.
        style: style of the figure.
        height: height of the axes in inches.
    """
    line = _LINE_SPACING * style.small_font_size / POINTS_PER_INCH / height
    transform = axes.transData + axes.transAxes.inverted()
    start = axes.get_xlim()[0]
    at = [float(transform.transform((start, value))[1]) for value, _, _ in ends]
    order = sorted(range(len(ends)), key=at.__getitem__)
    places = [at[i] for i in order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + line)
    excess = max(0.0, (places[-1] if places else 0.0) - 1.0)
    places = [place - excess for place in places]
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - line)
    for i, place in zip(order, places, strict=True):
        _, name, color = ends[i]
        axes.text(
            1.02, place, name, transform=axes.transAxes, color=color, va="center", ha="left",
            fontsize=style.small_font_size,
        )  # fmt: skip


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
                cast(Any, _WholeFigureAxes(axes)), texts["x"].to_numpy(), texts["y"].to_numpy(),
                texts["label"].to_list(),
                x_scatter=crowd["x"].to_numpy(), y_scatter=crowd["y"].to_numpy(),
                x_lines=[x for x, _ in lines], y_lines=[y for _, y in lines],
                textsize=style.small_font_size, textcolor=texts["color"].to_list(),
                linecolor=LEADER_COLOR, linewidth=0.4, min_distance=0.015, max_distance=0.15,
                margin=0.006, nbr_candidates=400, avoid_label_lines_overlap=True,
                avoid_crossing_label_lines=True, draw_all=False, zorder=6, **where,
            )  # fmt: skip


class _WholeFigureAxes:
    """Axes whose figure is the whole one, as textalloc expects, also if they are in a subfigure."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes

    def get_figure(self) -> Figure:
        """Return the whole figure."""
        return parent_figure(self._axes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._axes, name)


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
        prefix = common_prefix_length(group) if len(group) > 1 else 0
        for name in group:
            labels[name] = f"…{elide(name[prefix:], longest - 1)}" if prefix else short
    return [labels[name] for name in names]


def common_prefix_length(names: Sequence[str]) -> int:
    """Return the number of characters that all names begin with."""
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
