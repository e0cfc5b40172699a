"""Artefacts: what a query makes of a study, as the texts and the figure that are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.frames.provenance import (
    Query,
    Stamp,
    StudyId,
    add_stamp,
    stamp_metadata,
    table_excerpt,
    with_checksum,
)
from partialnas.analysis.plotting.fitting import fit_labels
from partialnas.analysis.plotting.style import Style, StyleName, Width, figure_bytes, figure_style
from partialnas.runs.ledger.study_meta import is_dry_run
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that can be drawn, and the numbers that it shows."""

    draw: Callable[[Style], "Figure"]
    plot_data: pd.DataFrame
    style: StyleName = "cvpr"
    width: Width | None = None


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """What a query makes of studies; the same ledgers give the same bytes.

    Attributes:
        studies: that it was made of; without them (a table in memory) files carry no stamp.
        query: how it was asked for.
        texts: by the suffix of their format.
        drawing: of a figure.
    """

    studies: Sequence[StudyId]
    query: Query
    texts: Mapping[str, str]
    drawing: Drawing | None = None

    def content(self, suffix: str) -> bytes:
        """The file of a format, with its stamp.

        Raises:
            UserError: there is no such format.
        """
        text = self.texts.get(suffix)
        if text is None:
            return self._figure(suffix)
        stamp = Stamp(studies=self.studies, query=self.query, format=suffix)
        return (add_stamp(text, stamp) if self.studies else text).encode()

    def _figure(self, suffix: str) -> bytes:
        if self.drawing is None:
            known = ", ".join(self.texts)
            raise UserError(f"{suffix or 'no suffix'}: {self.query.verb} is written as {known}")
        shown = table_excerpt(self.drawing.plot_data)
        stamp = Stamp(studies=self.studies, query=self.query, format=suffix, shown=shown)
        told = stamp_metadata(stamp) if self.studies else {}
        with figure_style(self.drawing.style, self.drawing.width) as look:
            figure = self.drawing.draw(look)
            fit_labels(figure)
            if any(is_dry_run(study.name) for study in self.studies):
                _mark_rehearsal(figure)
            return with_checksum(figure_bytes(figure, suffix, told))

    def write(self, *files: Path | str, format: str | None = None) -> tuple[Path, ...]:
        """Writes files, each by its suffix or all in one format.

        Raises:
            UserError: a suffix that is not known, or a file or folder in the way.
            MachineError: a place cannot be written.
        """
        paths = [*map(Path, files)]
        for path in paths:
            check_output_path(path)
        contents = [self.content(format or path.suffix.lower()) for path in paths]
        return tuple(write_file(path, data) for path, data in zip(paths, contents, strict=True))


def _mark_rehearsal(figure: "Figure") -> None:
    """Says across a figure that its numbers are made up."""
    figure.text(
        0.5, 0.5, "rehearsal", ha="center", va="center", rotation=20, fontsize=22, alpha=0.18
    )
