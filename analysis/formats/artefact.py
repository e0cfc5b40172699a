"""Artefacts: the output of a query on studies, as texts and a figure in all their formats."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from partialnas.analysis.formats.look import Look
from partialnas.analysis.frames.provenance import (
    Query,
    Stamp,
    StudyId,
    add_stamp,
    stamp_metadata,
    table_excerpt,
    with_checksum,
)
from partialnas.analysis.plotting.artists import AnyFigure, Axes, Figure
from partialnas.analysis.plotting.fitting import fit_labels
from partialnas.analysis.plotting.fonts import fallback_fonts, use_fallback_fonts
from partialnas.analysis.plotting.style import (
    Style,
    embedded_style,
    figure_bytes,
    figure_style,
    pin_colors,
)
from partialnas.runs.ledger.study_meta import is_dry_run
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.space.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that can be drawn, with the data that it shows."""

    draw: Callable[[Style], AnyFigure]
    plot_data: pd.DataFrame
    look: Look = field(default_factory=Look)

    def style(self) -> AbstractContextManager[Style]:
        """Return a context that applies its style, see `figure_style`."""
        look = self.look
        return figure_style(look.style, look.width, look.font, look.settings)


class DrawnFigure(NamedTuple):
    """A figure, or the caller's, and the axes that were drawn into."""

    figure: AnyFigure
    axes: tuple[Axes, ...]


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """The output of a query on studies; the same ledgers give the same bytes.

    Attributes:
        studies: studies that it was made from; without any (a table in memory), no file is stamped.
        query: verb and arguments that produced it.
        texts: texts by file suffix.
        drawing: figure, or None for a table.
        width: approximate width of a table in points, in LaTeX at a font size of 10 points.
        narrower: columns with which a wide table fits a page of one column, if there are any.
    """

    studies: Sequence[StudyId]
    query: Query
    texts: Mapping[str, str]
    drawing: Drawing | None = None
    width: float = 0.0
    narrower: Sequence[str] = ()

    def content(self, suffix: str) -> bytes:
        """Return the content of a file in the format of `suffix`, with its stamp.

        Raises:
            UserError: the format does not exist.
        """
        text = self.texts.get(suffix)
        if text is None:
            return self._figure(suffix)
        stamp = Stamp(studies=self.studies, query=self.query, format=suffix)
        return (add_stamp(text, stamp) if self.studies else text).encode()

    def _figure(self, suffix: str) -> bytes:
        if self.drawing is None:
            raise UserError(
                f"cannot write {self.query.verb} to a file with {suffix or 'no suffix'}; choose "
                f"{', '.join(self.texts)}"
            )
        shown = table_excerpt(self.drawing.plot_data)
        stamp = Stamp(studies=self.studies, query=self.query, format=suffix, shown=shown)
        metadata = stamp_metadata(stamp) if self.studies else {}
        with self.drawing.style() as look:
            figure = self._draw_new(self.drawing, look)
            return with_checksum(figure_bytes(figure, suffix, metadata))

    def draw(self, target: Axes | AnyFigure | None = None) -> DrawnFigure:
        """Draw the figure in its style; into `target`, if given, with the caller's settings.

        Raises:
            UserError: there is no figure, or it does not fit into the target.
        """
        if self.drawing is None:
            raise UserError(f"{self.query.verb}: a table, not a figure")
        if target is None:
            with self.drawing.style() as look:
                figure: AnyFigure = self._draw_new(self.drawing, look)
            return DrawnFigure(figure, _visible_axes(figure))
        return self._draw_into(self.drawing, target)

    def _draw_new(self, drawing: Drawing, look: Style) -> Figure:
        """Return a new figure; call it inside `figure_style`."""
        figure = drawing.draw(look).get_figure(root=True)
        if fonts := fallback_fonts(figure):
            use_fallback_fonts(fonts)
            figure = drawing.draw(look).get_figure(root=True)
        fit_labels(figure)
        pin_colors(figure)
        if self._is_dry_run:
            _draw_watermark(figure)
        return figure

    def _draw_into(self, drawing: Drawing, target: Axes | AnyFigure) -> DrawnFigure:
        from matplotlib.axes import Axes

        with embedded_style(target) as look:
            before = set() if isinstance(target, Axes) else {*target.axes}
            figure = drawing.draw(look)
            drawn = tuple(axes for axes in _visible_axes(figure) if axes not in before)
            if isinstance(target, Axes):
                drawn = (target,)
            fit_labels(figure, drawn)
            if self._is_dry_run:
                _draw_watermark(target)
        return DrawnFigure(figure, drawn)

    @property
    def _is_dry_run(self) -> bool:
        return any(is_dry_run(study.name) for study in self.studies)

    def write(self, *files: Path | str, format: str | None = None) -> tuple[Path, ...]:
        """Write files, each in the format of its suffix or all in one format.

        Raises:
            UserError: a suffix is unknown, or a path is not usable for a file.
            MachineError: a file cannot be written.
        """
        paths = [*map(Path, files)]
        for path in paths:
            check_output_path(path)
        contents = [self.content(format or path.suffix.lower()) for path in paths]
        return tuple(write_file(path, data) for path, data in zip(paths, contents, strict=True))


def _visible_axes(figure: AnyFigure) -> tuple[Axes, ...]:
    return tuple(axes for axes in figure.axes if axes.get_visible())


def _draw_watermark(target: Axes | AnyFigure) -> None:
    """Mark a figure as one of made-up results."""
    from matplotlib.axes import Axes

    look: dict[str, Any] = {"rotation": 20, "fontsize": 22, "alpha": 0.18}
    if isinstance(target, Axes):
        look["transform"] = target.transAxes
    target.text(0.5, 0.5, "rehearsal", ha="center", va="center", **look)
