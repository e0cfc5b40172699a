"""Layout of figures with little room: axis labels on two lines and fewer ticks."""

import itertools
import re
from collections.abc import Iterable, Sequence

from partialnas.analysis.plotting.artists import AnyFigure, Axes, Axis, Bbox, Text
from partialnas.analysis.plotting.axes import AxisName, parent_figure
from partialnas.analysis.plotting.labels import split_in_two

_MAX_ROUNDS = 4
_PADDING = 3.0
"""Pixels around a text that must be free of other texts."""

_MIN_TICKS = 2


def fit_labels(figure: AnyFigure, drawn: Sequence[Axes] | None = None) -> None:
    """Break axis labels that are cut off or touch, and remove ticks that touch.

    Call it inside `figure_style`, after everything is drawn. A figure with enough room for all
    texts stays unchanged.

    Args:
        figure: figure to fit.
        drawn: axes to fit; by default all of the figure.
    """
    for _ in range(_MAX_ROUNDS):
        shown = _place_everything(figure, drawn)
        changed = [*map(_break_label, _crowded_labels(figure, shown))]
        changed += [_thin_ticks(axis, which) for axes in shown for axis, which in _linear(axes)]
        if not any(changed):
            return


def ensure_axes_height(axes: Axes, height: float) -> None:
    """Make a finished figure taller until its axes have at least a height in inches."""
    figure = parent_figure(axes)
    _place_everything(figure)
    missing = height - axes.get_window_extent().height / figure.dpi
    if missing > 0:
        figure.set_figheight(figure.get_figheight() + missing)


def _place_everything(figure: AnyFigure, drawn: Sequence[Axes] | None = None) -> list[Axes]:
    """Place everything without drawing, which may take long, and return the visible axes."""
    root = figure.get_figure(root=True)
    if (engine := root.get_layout_engine()) is not None:
        engine.execute(root)
    shown = [axes for axes in drawn or figure.axes if axes.get_visible()]
    for axes in shown:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_tightbbox()  # places ticks and labels
    return shown


def _crowded_labels(figure: AnyFigure, shown: Sequence[Axes]) -> list[Text]:
    """Return the axis labels that are too long for the figure or touch another one."""
    texts = [(text, way) for axes in shown for text, way in _labels(axes) if text.get_text()]
    labels = [text for text, _ in texts]
    boxes = {id(text): text.get_window_extent().padded(_PADDING) for text in labels}
    touching = {
        id(text)
        for pair in itertools.combinations(labels, 2)
        if boxes[id(pair[0])].overlaps(boxes[id(pair[1])])
        for text in pair
    }
    page = figure.bbox.padded(_PADDING)
    return [
        text
        for text, way in texts
        if id(text) in touching or not _fits_along(boxes[id(text)], page, way)
    ]


def _labels(axes: Axes) -> Iterable[tuple[Text, AxisName]]:
    return (axes.xaxis.label, "x"), (axes.yaxis.label, "y")


def _fits_along(box: Bbox, page: Bbox, way: AxisName) -> bool:
    """Return whether a label is inside the page along its text; a break cannot help across it."""
    (low, high), (start, end) = (
        (b.intervalx if way == "x" else b.intervaly).tolist() for b in (box, page)
    )
    return bool(start <= low and high <= end)


def _break_label(text: Text) -> bool:
    """Put a one-line label on two lines, if possible before its unit; return whether it changed.

    An arrow stays with its word.
    """
    words = re.split(r" (?![↑↓])", text.get_text())
    if len(words) < 2 or "\n" in text.get_text():
        return False
    text.set_text("\n".join(split_in_two(words, before="(")))
    return True


def _linear(axes: Axes) -> list[tuple[Axis, AxisName]]:
    """Return the linear axes, the ones whose ticks can be thinned."""
    from matplotlib.ticker import MaxNLocator

    both: list[tuple[Axis, AxisName]] = [(axes.xaxis, "x"), (axes.yaxis, "y")]
    return [pair for pair in both if isinstance(pair[0].get_major_locator(), MaxNLocator)]


def _thin_ticks(axis: Axis, which: AxisName) -> bool:
    """Remove a tick from an axis with touching tick labels; return whether it did."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    extents = [tick.label1.get_window_extent() for tick in ticks if tick.label1.get_visible()]
    boxes = [box.padded(_PADDING) for box in extents if box.width]
    if len(boxes) <= _MIN_TICKS:
        return False
    if not any(left.overlaps(right) for left, right in itertools.pairwise(boxes)):
        return False
    axis.axes.locator_params(which, nbins=len(boxes) - 2)
    return True
