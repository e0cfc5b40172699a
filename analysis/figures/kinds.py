"""The table of figure kinds, and figures of studies by kind with their files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from partialnas.analysis.figures.attainment import attainment_figure_spec
from partialnas.analysis.figures.axis import axis_figure_spec
from partialnas.analysis.figures.base import FigureRequest, FigureSpec
from partialnas.analysis.figures.convergence import convergence_figure_spec
from partialnas.analysis.figures.cost import cost_figure_spec
from partialnas.analysis.figures.edf import edf_figure_spec
from partialnas.analysis.figures.importance import importance_figure_spec
from partialnas.analysis.figures.learning_curves import learning_curves_spec
from partialnas.analysis.figures.parallel_coordinates import parallel_coordinates_spec
from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.data_files import frame_to_csv, frame_to_markdown, join_texts
from partialnas.analysis.formats.figure_result import FigureOutput, FigureResult
from partialnas.analysis.formats.look import DEFAULT_LOOK, Look, find_look
from partialnas.analysis.frames.folders import Paths, study_folders
from partialnas.analysis.frames.provenance import Query, study_id
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.space.errors import UserError
from partialnas.space.validation import suggest

FIGURE_KINDS: dict[str, Callable[[Sequence[Path], FigureRequest], FigureSpec]] = {
    "convergence": convergence_figure_spec,
    "attainment": attainment_figure_spec,
    "edf": edf_figure_spec,
    "parallel": parallel_coordinates_spec,
    "importance": importance_figure_spec,
    "axis": axis_figure_spec,
    "curves": learning_curves_spec,
    "cost": cost_figure_spec,
}
"""Function that makes the specification of each kind of figure, by name.

A figure is added here and in a file of its own, or from outside the package.
"""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StudyFigure(FigureResult):
    """A figure of studies.

    Attributes:
        readable: most important numbers as text.
    """

    readable: pd.DataFrame


def study_figure(
    kind: str,
    folders: Paths,
    path: Path | str | None = None,
    *,
    ax: Axes | None = None,
    figure: AnyFigure | None = None,
    metric: str | None = None,
    condition: str | None = None,
    trials: Sequence[int | str] | None = None,
    style: str | Path = "cvpr",
    width: str | None = None,
    font: str | None = None,
    caption: str = "full",
) -> StudyFigure:
    """Draw a figure of studies; the same ledgers give the same bytes.

    The table is written beside the figure (PDF, SVG or PNG by suffix): as CSV, and as Markdown with
    the most important numbers and the caption. Without a path, nothing is written.

    Args:
        kind: one of `FIGURE_KINDS`.
        folders: folders of the studies.
        path: file of the figure.
        ax: axes of matplotlib to draw into, with the caller's own style; for a kind of one panel.
        figure: figure or subfigure of matplotlib to draw into, with the caller's own style.
        metric: quantity to show; by default the study's first trained objective.
        condition: condition whose trials count, for a study with several.
        trials: numbers of the trials to show; by default those of the front.
        style: venue that determines width and text size, or a style file of matplotlib, or both
            with a comma between them.
        width: a column or a page of the venue; the default is that of the style.
        font: `serif`, `sans` or the name of an installed family; by default that of the style.
        caption: length of the caption: `full`, `short` or `none`.

    Raises:
        UserError: nothing to draw, or an unknown kind, quantity, trial, suffix or style.
        MachineError: a ledger cannot be read, or a file cannot be written.
    """
    output = FigureOutput.of(path, ax, figure)
    look = find_look(style, width, font, caption)
    spec, artefact = figure_artefact(
        study_folders(folders),
        kind=kind,
        metric=metric,
        condition=condition,
        trials=trials,
        look=look,
    )
    return StudyFigure(
        table=spec.table, readable=spec.readable, caption=spec.caption.text(look.caption),
        artefact=artefact, files=output.write(artefact), embedded=output.draw(artefact),
    )  # fmt: skip


def figure_artefact(
    folders: Sequence[Path],
    *,
    kind: str,
    metric: str | None = None,
    condition: str | None = None,
    trials: Sequence[int | str] | None = None,
    look: Look = DEFAULT_LOOK,
) -> tuple[FigureSpec, Artefact]:
    """Return the specification and the files of a figure; see `study_figure`."""
    make_spec = FIGURE_KINDS.get(kind)
    if make_spec is None:
        raise UserError(f"unknown figure {kind!r}; {suggest(kind, FIGURE_KINDS)}")
    request = FigureRequest(metric=metric, condition=condition, trials=trials)
    spec = make_spec(study_folders(folders), request)
    arguments = {"kind": kind} | look.arguments() | request.arguments()
    artefact = Artefact(
        studies=[study_id(folder) for folder in dict.fromkeys(folders)],
        query=Query(verb="figure", arguments=arguments),
        texts={
            ".csv": frame_to_csv(spec.table),
            ".md": join_texts(frame_to_markdown(spec.readable), spec.caption.text(look.caption)),
        },
        drawing=Drawing(draw=spec.draw, plot_data=spec.plot_data, look=look),
    )
    return spec, artefact
