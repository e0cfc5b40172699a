"""The drawing of learned ratios: map over the epochs, ratios at the end, by class and by kind."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from partialnas.analysis.plotting.axes import Floats
from partialnas.analysis.plotting.labels import distinct_labels
from partialnas.analysis.plotting.style import (
    DARK_COLOR,
    FAMILY_STYLES,
    LEADER_COLOR,
    POINTS_PER_INCH,
    SERIES_COLORS,
    Style,
    characters_that_fit,
)
from partialnas.analysis.ratios.tables import freeze_epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

SERIES_STYLES = ((SERIES_COLORS[0], "o"), *FAMILY_STYLES[:5])
"""Colour and marker of each series; there are no more series than these."""

_ALONG = {
    "history": "epoch",
    "final": "ratio at the end",
    "classes": "class",
    "kinds": "ratio by input",
}
"""What stands along the axis of each panel."""

Place = tuple[int, int, int]
"""Stage, block and part of a boundary, counted from 1."""

_ROW, _WIDEST_ROW, _SERIES = 0.115, 0.28, 0.05
_LEAST_PANEL, _MOST_PANEL, _AROUND = 0.6, 6.6, 0.95
_LINE = 1.15
_BELOW = 3.9  # sizes of a label from an axis to what is under its label
_BAR = 0.05
_PANEL_SHARE = 0.4
_LONGEST_NAME = 18
_MOST_VECTORS = 5000
_ROOM = 1.06
_LEAST_DIFFERENCE = 0.01


@dataclass(frozen=True, kw_only=True)
class RatioPanels:
    """What a figure of learned ratios shows; a table without rows is left out.

    Each table has `stage`, `block`, `part` and `ratio`.

    Attributes:
        history: of one trial, with `epoch` and `ramp`.
        final: one row per seed, with `series` and `static`.
        classes: with `class`; what is drawn is the difference from the boundary's mean.
        kinds: one row per seed, with the kind of input as `series`.
    """

    history: pd.DataFrame
    final: pd.DataFrame
    classes: pd.DataFrame
    kinds: pd.DataFrame

    @property
    def letters(self) -> dict[str, str]:
        """The letter of each panel that there is, by the name of its table."""
        present = [name for name, table in vars(self).items() if not table.empty]
        return dict(zip(present, "abcd", strict=False))


def boundary_label(place: Place) -> str:
    """`2.1` for stage 2, block 1; a part that is not the first is named."""
    stage, block, part = place
    return f"{stage}.{block}" + (f" p{part}" if part > 1 else "")


def places(table: pd.DataFrame) -> list[Place]:
    """The boundary that each row of a table speaks of."""
    return [*zip(table["stage"], table["block"], table["part"], strict=True)]


def draw(panels: RatioPanels, style: Style) -> "Figure":
    """The figure of learned ratios; to be called inside `style.drawing`."""
    from matplotlib.figure import Figure

    shown = [(getattr(panels, name), _SKETCHES[name]) for name in panels.letters]
    rows = sorted({place for table, _ in shown for place in places(table)})
    down, across = math.ceil(len(shown) / 2), min(len(shown), 2)
    pitch = _pitch(len(rows), down, panels)
    size = (style.width, down * (len(rows) * pitch + _AROUND))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, label in zip(grid.flat, _labels(panels, style), strict=False):
        axes.set_xlabel(label)
    for axes, (table, sketch) in zip(grid.flat, shown, strict=False):
        sketch(axes, table.assign(y=[rows.index(place) for place in places(table)]))
        _part_stages(axes, rows)
    for axes in grid[:, 0]:
        _label_rows(axes, rows, every=math.ceil(style.small_font_size * _LINE / POINTS_PER_INCH / pitch))
    for axes in grid.flat:
        axes.set_visible(axes.has_data())
    return figure


def _labels(panels: RatioPanels, style: Style) -> list[str]:
    """What stands below each panel, on equally many lines."""
    wide = characters_that_fit(_PANEL_SHARE * style.width, style.font_size)
    texts = [f"({letter}) {_ALONG[name]}" for name, letter in panels.letters.items()]
    lines = [textwrap.wrap(text, int(wide)) for text in texts]
    most = max(map(len, lines))
    return ["\n".join([*each, *[""] * (most - len(each))]) for each in lines]


def _pitch(rows: int, down: int, panels: RatioPanels) -> float:
    """The height of a row in inches: room for its label and its series, within a page."""
    series = [t["series"].nunique() for t in (panels.final, panels.kinds) if not t.empty]
    wanted = max(_ROW, _SERIES * max(series, default=0), min(_WIDEST_ROW, 1 / rows))
    return min(max(wanted, _LEAST_PANEL / rows), _MOST_PANEL / down / rows)


def _part_stages(axes: "Axes", rows: Sequence[Place]) -> None:
    for below, (one, other) in enumerate(pairwise(rows), start=1):
        if one[0] != other[0]:
            axes.axhline(below - 0.5, color="white", linewidth=1.6, zorder=4)
            axes.axhline(below - 0.5, color=DARK_COLOR, linewidth=0.5, zorder=4)


def _label_rows(axes: "Axes", rows: Sequence[Place], every: int) -> None:
    axes.set_ylim(len(rows) - 0.5, -0.5)
    shown = range(0, len(rows), every)
    axes.set_yticks(shown, [boundary_label(rows[y]) for y in shown])
    axes.set_ylabel("stage.block")


def _draw_history(axes: "Axes", history: pd.DataFrame) -> None:
    """The ratios over the epochs, a cell each, and where they were frozen."""
    limits = (0.0, history["ratio"].max())
    _draw_cells(axes, history, "epoch", limits=limits, colours="viridis", label="ratio")
    frozen = freeze_epoch(history)
    if frozen is None:
        return
    first, last = axes.get_xlim()
    axes.axvline(frozen - 0.5, color="white", linewidth=1.6, zorder=5)
    axes.axvline(frozen - 0.5, color=DARK_COLOR, linewidth=0.8, linestyle=(0, (3, 1.5)), zorder=5)
    axes.annotate(
        f"frozen from {frozen}", (frozen - 0.5, 1), (0, 1.5), color=DARK_COLOR, fontsize="x-small",
        xycoords=axes.get_xaxis_transform(), textcoords="offset points", va="bottom",
        ha="left" if 2 * frozen < first + last else "right",
    )  # fmt: skip


def _draw_classes(axes: "Axes", classes: pd.DataFrame) -> None:
    """How far the ratio of each class is from the mean over the classes."""
    mean = classes.groupby("y")["ratio"].transform("mean")
    differences = classes.assign(ratio=classes["ratio"] - mean)
    most = max(differences["ratio"].abs().max(), _LEAST_DIFFERENCE)
    label = "ratio less its mean"
    _draw_cells(axes, differences, "class", limits=(-most, most), colours="PuOr", label=label)


def _draw_cells(
    axes: "Axes",
    table: pd.DataFrame,
    along: str,
    *,
    limits: tuple[float, float],
    colours: str,
    label: str,
) -> None:
    from matplotlib.ticker import MaxNLocator

    columns = range(table[along].min(), table[along].max() + 1)
    height = range(table["y"].max() + 1)
    cells = table.pivot(index="y", columns=along, values="ratio").reindex(height, columns=columns)
    mesh = axes.pcolormesh(
        _edges(columns), _edges(height), cells.to_numpy(float), cmap=colours,
        vmin=limits[0], vmax=limits[1], rasterized=cells.size > _MOST_VECTORS,
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    bar = _figure(axes).colorbar(
        mesh, cax=axes.inset_axes((0, -_BAR, 1, _BAR), transform=_below(axes)), label=label,
        orientation="horizontal", ticks=MaxNLocator(nbins=4, steps=[1, 2, 5, 10]),
    )  # fmt: skip
    bar.outline.set_linewidth(0.4)


def _figure(axes: "Axes") -> "Figure":
    figure = axes.get_figure(root=True)
    assert figure is not None  # axes are made in one
    return figure


def _below(axes: "Axes") -> "Transform":
    """The axes' width across, and inches from below their label upwards."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    sizes = _BELOW + _LINE * axes.get_xlabel().count("\n")
    inches, down = _figure(axes).dpi_scale_trans, sizes * float(axes.xaxis.label.get_fontsize())
    bottom = ScaledTranslation(0, 0, axes.transAxes)  # type: ignore[arg-type]  # it is affine
    return blended_transform_factory(
        axes.transAxes, inches + bottom + ScaledTranslation(0, -down / POINTS_PER_INCH, inches)
    )


def _edges(cells: range) -> Floats:
    return np.arange(cells.start - 0.5, cells.stop)


def _draw_final(axes: "Axes", final: pd.DataFrame) -> None:
    """The ratios at the end of training, beside those that it started from."""
    _draw_series(axes, final)
    statics = final.drop_duplicates(["y", "static"])
    axes.vlines(
        statics["static"], statics["y"] - 0.5, statics["y"] + 0.5, LEADER_COLOR,
        linestyles=(0, (3, 1.5)), linewidth=0.9, zorder=2, label="static",
    )  # fmt: skip
    _widen(axes, final["static"].max())
    _draw_legend(axes)


def _draw_kinds(axes: "Axes", kinds: pd.DataFrame) -> None:
    """The mean ratio of each kind of input."""
    _draw_series(axes, kinds)
    _draw_legend(axes)


def _widen(axes: "Axes", value: float) -> None:
    """From 0 on, with room for the value beside all that is drawn."""
    axes.set_xlim(0, max(axes.get_xlim()[1], _ROOM * value))


def _draw_series(axes: "Axes", table: pd.DataFrame) -> None:
    """Seeds as dots, their means as marks with a bar of one standard deviation; side by side."""
    names = table["series"].unique()
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)
    told = distinct_labels([*map(str, names)], _LONGEST_NAME)
    for index, (name, label, (colour, marker)) in enumerate(
        zip(names, told, SERIES_STYLES, strict=False)
    ):
        rows = table[table["series"].eq(name)]
        shift = 0.8 * ((index + 0.5) / len(names) - 0.5)
        seeds = rows.groupby("y")["ratio"].agg(["count", "mean", "std"])
        y = seeds.index.to_numpy(float) + shift
        low, high = seeds["mean"] - seeds["std"], seeds["mean"] + seeds["std"]
        axes.hlines(y, low, high, colour, linewidth=0.9, zorder=3)
        if seeds["count"].max() > 1:
            axes.scatter(
                rows["ratio"], rows["y"] + shift, s=4, alpha=0.5, linewidths=0, color=colour,
                zorder=3,
            )  # fmt: skip
        _widen(axes, np.nanmax([rows["ratio"].max(), high.max()]))
        axes.scatter(
            seeds["mean"], y, s=13, marker=marker, color=colour, edgecolors="white",
            linewidths=0.4, zorder=5, label=f" {label}",
        )  # fmt: skip


def _draw_legend(axes: "Axes") -> None:
    """The legend below the axis and its label, in two columns where they fit."""
    figure = _figure(axes)
    for columns in (2, 1):
        legend = axes.legend(
            loc="upper center", bbox_to_anchor=(0.45, 0), bbox_transform=_below(axes),
            ncols=columns, handletextpad=0.2, columnspacing=0.8, borderpad=0.1, borderaxespad=0,
            labelspacing=0.25, handlelength=1.2, labelcolor=DARK_COLOR,
        )  # fmt: skip
        room = axes.get_position().width * figure.get_figwidth() * figure.dpi
        if legend.get_window_extent().width < room:
            return


Sketch = Callable[["Axes", pd.DataFrame], None]
"""Draws a table, whose `y` is the row of each boundary, on axes of its own."""

_SKETCHES: dict[str, Sketch] = {
    "history": _draw_history,
    "final": _draw_final,
    "classes": _draw_classes,
    "kinds": _draw_kinds,
}
