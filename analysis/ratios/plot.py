"""Plots of learned ratios: map over epochs, final ratios, ratios by class and by kind of input."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.axes import parent_figure
from partialnas.analysis.plotting.labels import distinct_labels
from partialnas.analysis.plotting.legends import below_axes
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

SERIES_STYLES = ((SERIES_COLORS[0], "o"), *FAMILY_STYLES[:5])
"""Color and marker of each series, which limits their number."""

_AXIS_LABELS = {
    **{"history": "epoch", "final": "final ratio"},
    **{"classes": "class", "kinds": "ratio by input"},
}
"""Label of the horizontal axis of each panel."""

Boundary = tuple[int, int, int]
"""Stage, block and part of a boundary, counted from 1."""

_MIN_ROW_HEIGHT, _MAX_ROW_HEIGHT, _SERIES_HEIGHT = 0.115, 0.28, 0.05
_MIN_PANEL_HEIGHT, _MAX_PANEL_HEIGHT, _MARGIN = 0.6, 6.6, 0.95
_LINE_SPACING = 1.15
_BAR_HEIGHT = 0.05
_PANEL_SHARE = 0.4
_MAX_NAME_LENGTH = 18
_MAX_VECTOR_CELLS = 5000
_AXIS_MARGIN = 1.06
_MIN_DIFFERENCE = 0.01


@dataclass(frozen=True, kw_only=True)
class RatioPanels:
    """Data of a figure of learned ratios; a panel without rows is not drawn.

    Each table has `stage`, `block`, `part` and `ratio`.

    Attributes:
        history: ratios of one trial, with `epoch` and `ramp`.
        final: one row per seed, with `series` and `static`.
        classes: ratios by `class`, drawn as differences from the mean of the boundary.
        kinds: one row per seed, with the kind of input as `series`.
    """

    history: pd.DataFrame
    final: pd.DataFrame
    classes: pd.DataFrame
    kinds: pd.DataFrame

    @property
    def letters(self) -> dict[str, str]:
        """Letter of each panel that is drawn, by the name of its table."""
        present = [name for name, table in vars(self).items() if not table.empty]
        return dict(zip(present, "abcd", strict=False))


def boundary_label(boundary: Boundary) -> str:
    """Return a label such as `2.1` for stage 2, block 1; parts after the first are named."""
    stage, block, part = boundary
    return f"{stage}.{block}" + (f" p{part}" if part > 1 else "")


def _boundaries(table: pd.DataFrame) -> list[Boundary]:
    """Return the boundary of each row of a table."""
    return [*zip(table["stage"], table["block"], table["part"], strict=True)]


def draw(panels: RatioPanels, style: Style) -> AnyFigure:
    """Return the figure of learned ratios; call it inside `figure_style`."""
    shown = [(getattr(panels, name), _DRAW_PANEL[name]) for name in panels.letters]
    boundaries = sorted({boundary for table, _ in shown for boundary in _boundaries(table)})
    rows, columns = math.ceil(len(shown) / 2), min(len(shown), 2)
    height = _row_height(len(boundaries), rows, panels)
    size = rows * (len(boundaries) * height + _MARGIN)
    figure, grid = style.new_panels(size, rows, columns, sharey=True)
    for axes, label in zip(grid.flat, _labels(panels, style), strict=False):
        axes.set_xlabel(label)
    for axes, (table, draw_panel) in zip(grid.flat, shown, strict=False):
        draw_panel(axes, table.assign(y=[*map(boundaries.index, _boundaries(table))]))
        _separate_stages(axes, boundaries)
    line = style.small_font_size * _LINE_SPACING / POINTS_PER_INCH
    for axes in grid[:, 0]:
        _label_rows(axes, boundaries, every=math.ceil(line / height))
    for axes in grid.flat:
        axes.set_visible(axes.has_data())
    return figure


def _labels(panels: RatioPanels, style: Style) -> list[str]:
    """Return the axis labels of the panels, padded to the same number of lines."""
    width = characters_that_fit(_PANEL_SHARE * style.width, style.font_size)
    texts = [f"({letter}) {_AXIS_LABELS[name]}" for name, letter in panels.letters.items()]
    lines = [textwrap.wrap(text, int(width)) for text in texts]
    most = max(map(len, lines))
    return ["\n".join([*label, *[""] * (most - len(label))]) for label in lines]


def _row_height(boundaries: int, rows: int, panels: RatioPanels) -> float:
    """Return the height of a boundary in inches: room for its label and series, within a page."""
    series = [t["series"].nunique() for t in (panels.final, panels.kinds) if not t.empty]
    height = max(
        _MIN_ROW_HEIGHT,
        _SERIES_HEIGHT * max(series, default=0),
        min(_MAX_ROW_HEIGHT, 1 / boundaries),
        _MIN_PANEL_HEIGHT / boundaries,
    )
    return min(height, _MAX_PANEL_HEIGHT / rows / boundaries)


def _separate_stages(axes: Axes, boundaries: Sequence[Boundary]) -> None:
    for below, (upper, lower) in enumerate(pairwise(boundaries), start=1):
        if upper[0] != lower[0]:
            axes.axhline(below - 0.5, color="white", linewidth=1.6, zorder=4)
            axes.axhline(below - 0.5, color=DARK_COLOR, linewidth=0.5, zorder=4)


def _label_rows(axes: Axes, boundaries: Sequence[Boundary], every: int) -> None:
    axes.set_ylim(len(boundaries) - 0.5, -0.5)
    shown = range(0, len(boundaries), every)
    axes.set_yticks(shown, [boundary_label(boundaries[y]) for y in shown])
    axes.set_ylabel("stage.block")


def _draw_history(axes: Axes, history: pd.DataFrame) -> None:
    """Draw the ratios as cells over the epochs, and mark the epoch from which they are frozen."""
    limits = (0.0, history["ratio"].max())
    _draw_cells(axes, history, "epoch", limits=limits, colormap="viridis", label="ratio")
    frozen = freeze_epoch(history)
    if frozen is None:
        return
    first, last = axes.get_xlim()
    axes.axvline(frozen - 0.5, color="white", linewidth=1.6, zorder=5)
    axes.axvline(frozen - 0.5, color=DARK_COLOR, linewidth=0.8, linestyle=(0, (3, 1.5)), zorder=5)
    size = axes.xaxis.get_ticklabels()[0].get_fontsize()
    axes.annotate(
        f"frozen from {frozen}", (frozen - 0.5, 1), (0, 1.5), color=DARK_COLOR, fontsize=size,
        xycoords=axes.get_xaxis_transform(), textcoords="offset points", va="bottom",
        ha="left" if 2 * frozen < first + last else "right",
    )  # fmt: skip


def _draw_classes(axes: Axes, classes: pd.DataFrame) -> None:
    """Draw the difference of the ratio of each class from the mean over the classes."""
    mean = classes.groupby("y")["ratio"].transform("mean")
    differences = classes.assign(ratio=classes["ratio"] - mean)
    most = max(differences["ratio"].abs().max(), _MIN_DIFFERENCE)
    label = "ratio − mean"
    _draw_cells(axes, differences, "class", limits=(-most, most), colormap="PuOr", label=label)


def _draw_cells(
    axes: Axes,
    table: pd.DataFrame,
    along: str,
    *,
    limits: tuple[float, float],
    colormap: str,
    label: str,
) -> None:
    from matplotlib.ticker import MaxNLocator

    columns = range(table[along].min(), table[along].max() + 1)
    height = range(table["y"].max() + 1)
    cells = table.pivot(index="y", columns=along, values="ratio").reindex(height, columns=columns)
    mesh = axes.pcolormesh(
        _edges(columns), _edges(height), cells.to_numpy(float), cmap=colormap,
        vmin=limits[0], vmax=limits[1], rasterized=cells.size > _MAX_VECTOR_CELLS,
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    bar = parent_figure(axes).colorbar(
        mesh, cax=axes.inset_axes((0, -_BAR_HEIGHT, 1, _BAR_HEIGHT), transform=below_axes(axes)),
        label=label, orientation="horizontal", ticks=MaxNLocator(nbins=4, steps=[1, 2, 5, 10]),
    )  # fmt: skip
    bar.outline.set_linewidth(0.4)


def _edges(cells: range) -> Floats:
    return np.arange(cells.start - 0.5, cells.stop)


def _draw_final(axes: Axes, final: pd.DataFrame) -> None:
    """Draw the final ratios and the static ratios that learning starts from."""
    _draw_series(axes, final)
    statics = final.drop_duplicates(["y", "static"])
    axes.vlines(
        statics["static"], statics["y"] - 0.5, statics["y"] + 0.5, LEADER_COLOR,
        linestyles=(0, (3, 1.5)), linewidth=0.9, zorder=2, label="static",
    )  # fmt: skip
    _extend_axis(axes, final["static"].max())
    _draw_legend(axes)


def _draw_kinds(axes: Axes, kinds: pd.DataFrame) -> None:
    """Draw the mean ratio of each kind of input."""
    _draw_series(axes, kinds)
    _draw_legend(axes)


def _extend_axis(axes: Axes, value: float) -> None:
    """Start the axis at 0 and extend it to include a value."""
    axes.set_xlim(0, max(axes.get_xlim()[1], _AXIS_MARGIN * value))


def _draw_series(axes: Axes, table: pd.DataFrame) -> None:
    """Draw each series: dots for seeds, a marker and a bar for mean and standard deviation."""
    names = table["series"].unique()
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)
    labels = distinct_labels([*map(str, names)], _MAX_NAME_LENGTH)
    for index, (name, label, (color, marker)) in enumerate(
        zip(names, labels, SERIES_STYLES, strict=False)
    ):
        rows = table[table["series"].eq(name)]
        shift = 0.8 * ((index + 0.5) / len(names) - 0.5)
        seeds = rows.groupby("y")["ratio"].agg(["count", "mean", "std"])
        y = seeds.index.to_numpy(float) + shift
        low, high = seeds["mean"] - seeds["std"], seeds["mean"] + seeds["std"]
        axes.hlines(y, low, high, color, linewidth=0.9, zorder=3)
        if seeds["count"].max() > 1:
            axes.scatter(
                rows["ratio"], rows["y"] + shift, s=4, alpha=0.5, linewidths=0, color=color,
                zorder=3,
            )  # fmt: skip
        _extend_axis(axes, np.nanmax([rows["ratio"].max(), high.max()]))
        axes.scatter(
            seeds["mean"], y, s=13, marker=marker, color=color, edgecolors="white",
            linewidths=0.4, zorder=5, label=f" {label}",
        )  # fmt: skip


def _draw_legend(axes: Axes) -> None:
    """Draw the legend below the axis label, in two columns if they fit."""
    for columns in (2, 1):
        legend = axes.legend(
            loc="upper center", bbox_to_anchor=(0.45, 0), bbox_transform=below_axes(axes),
            ncols=columns, handletextpad=0.2, columnspacing=0.8, borderpad=0.1, borderaxespad=0,
            labelspacing=0.25, handlelength=1.2, labelcolor=DARK_COLOR,
        )  # fmt: skip
        if legend.get_window_extent().width < axes.get_window_extent().width:
            return


_DRAW_PANEL: dict[str, Callable[[Axes, pd.DataFrame], None]] = {
    "history": _draw_history,
    "final": _draw_final,
    "classes": _draw_classes,
    "kinds": _draw_kinds,
}
"""Functions that draw a table, with the row of each boundary as `y`, on axes."""
