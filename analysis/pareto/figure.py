"""The Pareto figure: its table first, then the drawing and the caption."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.data_files import frame_to_csv, frame_to_markdown
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.frames.seed_means import require_trials
from partialnas.analysis.frames.trials import Trials, as_trials
from partialnas.analysis.pareto.attainment import attainment_surfaces
from partialnas.analysis.pareto.caption import pareto_caption
from partialnas.analysis.pareto.plot import ParetoPlotOptions, draw_pareto
from partialnas.analysis.pareto.references import load_reference_families, require_same_task
from partialnas.analysis.pareto.table import (
    NOISE_NOTE,
    ParetoTable,
    format_pareto_table,
    make_pareto_table,
    plot_columns,
)
from partialnas.analysis.plotting.style import StyleName, Width, check_suffix, find_style
from partialnas.space.errors import UserError

_SCALES = {"x": (True, False), "y": (False, True), "xy": (True, True), "none": (False, False)}


@dataclass(frozen=True, kw_only=True)
class ParetoFigure:
    """What a Pareto figure shows: its table, its caption, and the files written."""

    table: pd.DataFrame
    caption: str
    files: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class ParetoOptions:
    """What a Pareto figure shows beside points and fronts.

    Attributes:
        size: the quantity that the area of a marker is in proportion to.
        log: which axes are logarithmic: x, y, xy or none; without it those that span a decade.
        clip: dominated architectures far off the rest stand as arrows on the edge.
        probability: labels tell the probability of being on the front.
        attainment: folders of one study are repeated searches: median and quartiles of what they
            attain take the place of their fronts.
        families: reference families, see `analysis.references`.
        timm_results: results files of timm that tell more of them.
    """

    size: str | None = None
    log: str | None = None
    clip: bool = False
    probability: bool = False
    attainment: bool = False
    families: Sequence[str] = ()
    timm_results: Sequence[str] = ()

    def arguments(self) -> dict[str, Any]:
        """As the arguments of a query, those left alone left out."""
        plain = {
            key: [*map(str, value)] if isinstance(value, list | tuple) else value
            for key, value in asdict(self).items()
        }
        return {key: value for key, value in plain.items() if value}

    def scales(self) -> tuple[bool | None, bool | None]:
        """Whether each axis is logarithmic; None where its values decide.

        Raises:
            UserError: there is no such choice of axes.
        """
        if self.log is None:
            return None, None
        if self.log not in _SCALES:
            raise UserError(f"log {self.log!r}: unknown, there are {', '.join(_SCALES)}")
        return _SCALES[self.log]


def pareto_figure(
    trials: Trials | pd.DataFrame,
    path: Path | str,
    *,
    x: str | None = None,
    y: str | None = None,
    condition: str | None = None,
    style: StyleName = "cvpr",
    width: Width | None = None,
    options: ParetoOptions | None = None,
) -> ParetoFigure:
    """Draws the trade-off of two quantities; the same trials give the same bytes.

    Beside the figure (PDF, SVG or PNG by suffix) stand its table as CSV, with every architecture,
    and as Markdown, with front, baselines and caption.

    Args:
        trials: trials of one or several studies, as `load` or `load_trials` returns them;
            without rows for reference families alone.
        path: the figure's file.
        x: the quantity across, as `KEY` or `KEY:min` / `KEY:max`; see `default_axes`.
        y: the quantity upwards.
        condition: the one whose trials are drawn, of a study that has several.
        style: the width and text size of a venue.
        width: a column or a page of it; without one its usual width.
        options: what else is shown.

    Raises:
        UserError: nothing to draw, an unknown quantity, condition, suffix or style, or studies
            that were measured in different ways.
        MachineError: the place cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    table, caption, artefact = pareto_artefact(
        as_trials(trials), x=x, y=y, condition=condition, style=style, width=width, options=options
    )
    files = artefact.write(path, path.with_suffix(".csv"), path.with_suffix(".md"))
    return ParetoFigure(table=table.rows, caption=caption, files=files)


def pareto_artefact(
    trials: Trials,
    *,
    x: str | None = None,
    y: str | None = None,
    condition: str | None = None,
    style: StyleName = "cvpr",
    width: Width | None = None,
    options: ParetoOptions | None = None,
) -> tuple[ParetoTable, str, Artefact]:
    """Return the table, the caption and the files of a Pareto figure; see `pareto_figure`."""
    options = options or ParetoOptions()
    find_style(style, width)
    arguments = drop_none(
        x=x, y=y, condition=condition, style=style, width=width, timing=trials.timing
    )
    trials = trials.under(condition)
    everything = _with_references(trials, options)
    table = make_pareto_table(everything, x, y)
    references = everything.frame.iloc[len(trials.frame) :]
    require_same_task(trials.frame, references, (table.x, table.y))
    plot_options = _plot_options(trials, everything, table, options)
    caption = pareto_caption(everything, table, plot_options)
    artefact = Artefact(
        studies=trials.studies,
        query=Query(verb="pareto", arguments=arguments | options.arguments()),
        texts={
            ".csv": frame_to_csv(table.rows),
            ".md": _markdown(table, plot_options, caption),
        },
        drawing=Drawing(
            draw=lambda look: draw_pareto(table, look, plot_options),
            plot_data=_plot_data(table, plot_options),
            style=style,
            width=width,
        ),
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
        surfaces = attainment_surfaces(trials, table.objectives)
    return ParetoPlotOptions(
        size=everything.quantity(options.size) if options.size else None,
        log=options.scales(),
        clip=options.clip,
        probability=options.probability,
        surfaces=surfaces,
    )


def _markdown(table: ParetoTable, options: ParetoPlotOptions, caption: str) -> str:
    shown = format_pareto_table(table)
    noise = [NOISE_NOTE] if "~" in shown.to_string() else []
    surfaces = [] if options.surfaces is None else [frame_to_markdown(options.surfaces)]
    parts = [frame_to_markdown(shown), *noise, *surfaces, caption]
    return "\n".join(f"{part}\n" for part in parts)


def _plot_data(table: ParetoTable, options: ParetoPlotOptions) -> pd.DataFrame:
    """Return the numbers that the figure shows: those of points, then those of surfaces."""
    columns = plot_columns(table.x, table.y)
    if options.size and options.size.key not in columns:
        columns.append(options.size.key)
    points = table.rows[columns]
    if options.surfaces is None:
        return points
    return pd.concat([points, options.surfaces], ignore_index=True)
