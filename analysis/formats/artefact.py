"""Artefacts: the output of a query on studies, as texts and a figure in all their formats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from partialnas.analysis.plotting.artists import Figure
from partialnas.analysis.plotting.fitting import fit_labels
from partialnas.analysis.plotting.fonts import fallback_fonts, use_fallback_fonts
from partialnas.analysis.plotting.style import Style, StyleName, Width, figure_bytes, figure_style
from partialnas.runs.ledger.study_meta import is_dry_run
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.space.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that can be drawn, with the data that it shows."""

    draw: Callable[[Style], Figure]
    plot_data: pd.DataFrame
    style: StyleName = "cvpr"
    width: Width | None = None


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """The output of a query on studies; the same ledgers give the same bytes.

    Attributes:
        studies: studies that it was made from; without any (a table in memory), no file is stamped.
        query: verb and arguments that produced it.
        texts: texts by file suffix.
        drawing: figure, or None for a table.
    """

    studies: Sequence[StudyId]
    query: Query
    texts: Mapping[str, str]
    drawing: Drawing | None = None

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
        with figure_style(self.drawing.style, self.drawing.width) as look:
            figure = self.drawing.draw(look)
            if fonts := fallback_fonts(figure):
                use_fallback_fonts(fonts)
                figure = self.drawing.draw(look)
            fit_labels(figure)
            if any(is_dry_run(study.name) for study in self.studies):
                _draw_watermark(figure)
            return with_checksum(figure_bytes(figure, suffix, metadata))

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


def _draw_watermark(figure: Figure) -> None:
    """Mark a figure as one of made-up results."""
    look: dict[str, Any] = {"rotation": 20, "fontsize": 22, "alpha": 0.18}
    figure.text(0.5, 0.5, "rehearsal", ha="center", va="center", **look)
