"""The Pareto figure: its table first, then the drawing and the caption."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.data_files import frame_to_csv, frame_to_markdown, join_texts
from partialnas.analysis.formats.figure_result import FigureOutput, FigureResult
from partialnas.analysis.formats.look import DEFAULT_LOOK, Look, find_look
from partialnas.analysis.frames.folders import Paths
from partialnas.analysis.frames.load import as_trials
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.frames.seed_means import require_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.attainment import attainment_surfaces
from partialnas.analysis.pareto.caption import pareto_caption
from partialnas.analysis.pareto.plot import ParetoPlotOptions, draw_pareto
from partialnas.analysis.pareto.references import load_reference_families, require_same_task
from partialnas.analysis.pareto.table import (
    EAGER_NOTE,
    NOISE_NOTE,
    ParetoTable,
    format_pareto_table,
    make_pareto_table,
    plot_columns,
)
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.space.errors import UserError
from partialnas.space.validation import suggest

PARETO_ARGUMENTS = ("x", "y", "condition")
"""Arguments of `pareto_artefact` that are part of a query; the others are `ParetoOptions`."""

_SCALES = {"x": (True, False), "y": (False, True), "xy": (True, True), "none": (False, False)}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ParetoFigure(FigureResult):
    """A Pareto figure; its table has one row per architecture."""


@dataclass(frozen=True, kw_only=True)
class ParetoOptions:
    """What a Pareto figure shows besides points and fronts.

    Attributes:
        size: quantity that the area of a marker is proportional to.
        log: logarithmic axes: x, y, xy or none; by default those that span a decade.
        clip: whether dominated architectures far from the others become arrows on the edge.
        probability: whether labels state the probability of being on the front.
        attainment: whether the folders of one study are repeated searches: the median and the
            quartiles of their attainment replace their fronts.
        families: reference families, see `load_reference_families`.
        timm_results: results files of timm with more data of these families.
    """

    size: str | None = None
    log: str | None = None
    clip: bool = False
    probability: bool = False
    attainment: bool = False
    families: Sequence[str] = ()
    timm_results: Sequence[str] = ()

    def arguments(self) -> dict[str, Any]:
        """Return the options as arguments of a query, without defaults."""
        plain = {
            key: [*map(str, value)] if isinstance(value, list | tuple) else value
            for key, value in asdict(self).items()
        }
        return {key: value for key, value in plain.items() if value}

    def scales(self) -> tuple[bool | None, bool | None]:
        """Return whether x and y are logarithmic; None if the values decide.

        Raises:
            UserError: `log` is invalid.
        """
        if self.log is None:
            return None, None
        if self.log not in _SCALES:
            raise UserError(f"invalid --log {self.log!r}: {suggest(self.log, _SCALES)}")
        return _SCALES[self.log]


def pareto_figure(
    trials: Trials | pd.DataFrame | Paths,
    path: Path | str | None = None,
    *,
    ax: Axes | None = None,
    figure: AnyFigure | None = None,
    x: str | None = None,
    y: str | None = None,
    condition: str | None = None,
    style: str | Path = "cvpr",
    width: str | None = None,
    font: str | None = None,
    caption: str = "full",
    options: ParetoOptions | None = None,
) -> ParetoFigure:
    """Draw the trade-off of two quantities; the same trials give the same bytes.

    The table is written beside the figure (PDF, SVG or PNG by suffix): as CSV with every
    architecture, and as Markdown with front, baselines and caption. Without a path, nothing is
    written.

    Args:
        trials: trials of one or several studies, as `load` or `load_trials` returns them, or the
            folders of the studies; without rows for reference families alone.
        path: file of the figure.
        ax: axes of matplotlib to draw into, with the caller's own style.
        figure: figure or subfigure of matplotlib to draw into, with the caller's own style.
        x: quantity on the horizontal axis, as `KEY` or `KEY:min` / `KEY:max`; the default is
            `Trials.default_axes`.
        y: quantity on the vertical axis.
        condition: condition whose trials are drawn, for a study with several.
        style: venue that determines width and text size, or a style file of matplotlib, or both
            with a comma between them.
        width: a column or a page of the venue; the default is that of the style.
        font: `serif`, `sans` or the name of an installed family; by default that of the style.
        caption: length of the caption: `full`, `short` or `none`.
        options: what else the figure shows.

    Raises:
        UserError: nothing to draw, an unknown quantity, condition, suffix or style, or studies
            that were measured by different protocols.
        MachineError: a file cannot be written.
    """
    output = FigureOutput.of(path, ax, figure)
    table, caption, artefact = pareto_artefact(
        as_trials(trials),
        x=x,
        y=y,
        condition=condition,
        options=options,
        look=find_look(style, width, font, caption),
    )
    return ParetoFigure(
        table=table.rows, caption=caption, artefact=artefact, files=output.write(artefact),
        embedded=output.draw(artefact),
    )  # fmt: skip


def pareto_artefact(
    trials: Trials,
    *,
    x: str | None = None,
    y: str | None = None,
    condition: str | None = None,
    look: Look = DEFAULT_LOOK,
    options: ParetoOptions | None = None,
) -> tuple[ParetoTable, str, Artefact]:
    """Return the table, the caption and the files of a Pareto figure; see `pareto_figure`."""
    options = options or ParetoOptions()
    axes = {"x": x, "y": y, "condition": condition}
    arguments = drop_none(**axes, timing=trials.timing) | look.arguments()
    trials = trials.under(condition)
    everything = _with_references(trials, options)
    table = make_pareto_table(everything, x, y)
    references = everything.frame.iloc[len(trials.frame) :]
    require_same_task(trials.frame, references, (table.x, table.y))
    plot_options = _plot_options(trials, everything, table, options)
    caption = pareto_caption(everything, table, plot_options).text(look.caption)
    drawing = Drawing(
        draw=lambda look: draw_pareto(table, look, plot_options),
        plot_data=_plot_data(table, plot_options), look=look,
    )  # fmt: skip
    artefact = Artefact(
        studies=trials.studies,
        query=Query(verb="pareto", arguments=arguments | options.arguments()),
        texts={".csv": frame_to_csv(table.rows), ".md": _markdown(table, plot_options, caption)},
        drawing=drawing,
    )
    return table, caption, artefact


def _with_references(trials: Trials, options: ParetoOptions) -> Trials:
    """Return the trials followed by the rows of the reference families."""
    if not (options.families or options.timm_results):
        require_trials(trials.frame)
        return trials
    references = load_reference_families(options.families, options.timm_results)
    if trials.frame.empty:
        return Trials(frame=references)
    return trials.with_frame(pd.concat([trials.frame, references], ignore_index=True))


def _plot_options(
    trials: Trials, everything: Trials, table: ParetoTable, options: ParetoOptions
) -> ParetoPlotOptions:
    surfaces = None
    if options.attainment:
        require_trials(trials.frame)
        surfaces = attainment_surfaces(trials, table.axes)
    return ParetoPlotOptions(
        size=everything.quantity(options.size) if options.size else None,
        log=options.scales(),
        clip=options.clip,
        probability=options.probability,
        surfaces=surfaces,
    )


def _markdown(table: ParetoTable, options: ParetoPlotOptions, caption: str) -> str:
    shown = format_pareto_table(table)
    text = shown.to_string()
    noise = [note for note in (NOISE_NOTE, EAGER_NOTE) if note[0] in text]
    surfaces = [] if options.surfaces is None else [frame_to_markdown(options.surfaces)]
    return join_texts(frame_to_markdown(shown), *noise, *surfaces, caption)


def _plot_data(table: ParetoTable, options: ParetoPlotOptions) -> pd.DataFrame:
    """Return the numbers that the figure shows: those of points, then those of surfaces."""
    columns = plot_columns(table)
    if options.size and options.size.key not in columns:
        columns.append(options.size.key)
    points = table.rows[columns]
    if options.surfaces is None:
        return points
    return pd.concat([points, options.surfaces], ignore_index=True)
