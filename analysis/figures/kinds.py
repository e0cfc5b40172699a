"""Figures of a study by kind: their table first, then the drawing and the caption."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from partialnas.analysis.formats.data_files import frame_to_csv, frame_to_markdown
from partialnas.analysis.frames.provenance import Query, study_id
from partialnas.analysis.plotting.style import StyleName, Width, check_suffix, find_style
from partialnas.space.errors import UserError

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
"""The kinds of figures, and what makes each of studies' folders."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure that was written: its table, the part a reader wants, its caption, the files."""

    table: pd.DataFrame
    readable: pd.DataFrame
    caption: str
    files: tuple[Path, ...]


def study_figure(
    kind: str,
    folders: str | Path | Sequence[str | Path],
    path: Path | str,
    *,
    style: StyleName = "cvpr",
    width: Width | None = None,
    **asked: Any,
) -> Figure:
    """Draws a figure of studies; the same ledgers give the same bytes.

    Beside the figure (PDF, SVG or PNG by suffix) stand its table as CSV and, as Markdown, the part
    that a reader wants with the caption.

    Args:
        kind: one of `FIGURE_KINDS`.
        folders: of the studies.
        path: the figure's file.
        style: the width and text size of a venue.
        width: a column or a page of it; without one its usual width.
        asked: what else is asked of the figure, see `analysis.shown.Asked`.

    Raises:
        UserError: nothing to draw, or an unknown kind, quantity, trial, suffix or style.
        MachineError: a ledger cannot be read, or the place cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    named = [folders] if isinstance(folders, str | Path) else folders
    shown, artefact = figure_artefact(
        [*map(Path, named)], kind=kind, style=style, width=width, **asked
    )
    files = artefact.write(path, path.with_suffix(".csv"), path.with_suffix(".md"))
    return Figure(table=shown.table, readable=shown.readable, caption=shown.caption, files=files)


def figure_artefact(
    folders: Sequence[Path],
    *,
    kind: str,
    style: StyleName = "cvpr",
    width: Width | None = None,
    **asked: Any,
) -> tuple[FigureSpec, Artefact]:
    """What a figure shows, and its files; see `figure`."""
    make = FIGURE_KINDS.get(kind)
    if make is None:
        raise UserError(f"figure {kind!r}: unknown, there are {', '.join(FIGURE_KINDS)}")
    if not folders:
        raise UserError("no study named: give at least one folder that `partialnas run` wrote")
    find_style(style, width)
    wanted = FigureRequest(**asked)
    shown = make(folders, wanted)
    arguments = {"kind": kind, "style": style, "width": width, **wanted.arguments()}
    artefact = Artefact(
        studies=[study_id(folder) for folder in dict.fromkeys(folders)],
        query=Query(verb="figure", arguments={k: v for k, v in arguments.items() if v is not None}),
        texts={
            ".csv": frame_to_csv(shown.table),
            ".md": f"{frame_to_markdown(shown.readable)}\n{shown.caption}\n",
        },
        drawing=Drawing(draw=shown.draw, plot_data=shown.plot_data, style=style, width=width),
    )
    return shown, artefact
