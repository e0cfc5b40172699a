"""What is done to a figure whose texts have no room: labels on two lines, and fewer ticks."""

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from partialnas.analysis.plotting.axes import AxisName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

_ROUNDS = 4
_APART = 3.0
"""Pixels around a text in which no other one stands."""

_LEAST_TICKS = 2


def fit_labels(figure: "Figure") -> None:
    """Breaks labels of axes that are cut off or touch, and thins ticks that touch.

    To be called inside `style.drawing`, with everything drawn. A figure in which all texts have
    room stays as it is.
    """
    for _ in range(_ROUNDS):
        shown = _laid_out(figure)
        changed = [*map(_break, _without_room(figure, shown))]
        changed += [_thin(axis, which) for axes in shown for axis, which in _linear(axes)]
        if not any(changed):
            return


def ensure_axes_height(figure: "Figure", axes: "Axes", height: float) -> None:
    """Makes a figure taller until its axes have a height, in inches; to be called at the end."""
    _laid_out(figure)
    lacking = height - axes.get_window_extent().height / figure.dpi
    if lacking > 0:
        figure.set_figheight(figure.get_figheight() + lacking)


def _laid_out(figure: "Figure") -> "list[Axes]":
    """The axes that show, with everything in its place; nothing is drawn, which may take long."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    for axes in shown:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_tightbbox()  # places ticks and labels
    return shown


def _without_room(figure: "Figure", shown: Sequence["Axes"]) -> "list[Text]":
    """The labels of axes that leave the figure, or meet another one."""
    labels = [text for axes in shown for text in (axes.xaxis.label, axes.yaxis.label)]
    told = [text for text in labels if text.get_text()]
    boxes = {id(text): text.get_window_extent().padded(_APART) for text in told}
    meeting = {
        id(text)
        for pair in itertools.combinations(told, 2)
        if boxes[id(pair[0])].overlaps(boxes[id(pair[1])])
        for text in pair
    }
    page = figure.bbox.padded(_APART).extents
    return [text for text in told if id(text) in meeting or not _within(boxes[id(text)], page)]


def _within(box: "Bbox", page: Iterable[float]) -> bool:
    left, bottom, right, top = page
    return bool(left <= box.x0 and box.x1 <= right and bottom <= box.y0 and box.y1 <= top)


def _break(text: "Text") -> bool:
    """Puts a label on two lines; whether it was on one."""
    words = text.get_text().split(" ")
    if len(words) < 2 or "\n" in text.get_text():
        return False
    ways = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    units = [way for way in ways if way[1].startswith("(")]
    text.set_text("\n".join(min(units or ways, key=lambda lines: max(map(len, lines)))))
    return True


def _linear(axes: "Axes") -> "list[tuple[Axis, AxisName]]":
    """The axes' axes whose ticks can be thinned."""
    from matplotlib.ticker import MaxNLocator

    both: list[tuple[Axis, AxisName]] = [(axes.xaxis, "x"), (axes.yaxis, "y")]
    return [pair for pair in both if isinstance(pair[0].get_major_locator(), MaxNLocator)]


def _thin(axis: "Axis", which: AxisName) -> bool:
    """Takes a tick from an axis on which their labels touch; whether it did."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    extents = [tick.label1.get_window_extent() for tick in ticks if tick.label1.get_visible()]
    boxes = [box.padded(_APART) for box in extents if box.width]
    if len(boxes) <= _LEAST_TICKS:
        return False
    if not any(one.overlaps(other) for one, other in itertools.pairwise(boxes)):
        return False
    axis.axes.locator_params(which, nbins=len(boxes) - 2)
    return True
