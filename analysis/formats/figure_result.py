"""Results of figure functions: table, caption, files and drawing; notebooks show the figure."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from partialnas.analysis.formats.artefact import Artefact, DrawnFigure
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.style import check_suffix
from partialnas.space.errors import UserError

_SCREEN_DPI = 120
"""Pixels per inch of a figure on a page; its PNG has more, for dense screens and for print."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FigureResult:
    """What a figure function returns.

    At the end of a notebook's cell it shows as the figure.

    Attributes:
        table: numbers behind the figure.
        caption: caption of the figure.
        files: files written.
        artefact: content of the files.
        embedded: drawing in the caller's axes or figure, or None.
    """

    table: pd.DataFrame
    caption: str
    files: tuple[Path, ...]
    artefact: Artefact
    embedded: DrawnFigure | None

    @property
    def figure(self) -> AnyFigure:
        """The caller's figure or subfigure; without one, the figure in the style of its venue."""
        return self._drawn.figure

    @property
    def axes(self) -> tuple[Axes, ...]:
        """The axes that were drawn into, from left to right and from top to bottom."""
        return self._drawn.axes

    @cached_property
    def _drawn(self) -> DrawnFigure:
        return self.embedded or self.artefact.draw()

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        """Return the figure for notebooks; None if the caller's own figure shows it."""
        if self.embedded is not None:
            return None
        inches = self.figure.get_figure(root=True).get_size_inches()
        width, height = (round(_SCREEN_DPI * length) for length in inches)
        return self.artefact.content(".png"), {"width": width, "height": height}

    def __repr__(self) -> str:
        files = ", ".join(map(str, self.files)) or "no files"
        return f"<{type(self).__name__}: table of {len(self.table):,} rows, {files}>"


@dataclass(frozen=True, kw_only=True)
class FigureOutput:
    """Where a figure goes: to a file, into the caller's axes or figure, or only into the result.

    Attributes:
        path: file of the figure, or None.
        target: the caller's axes, figure or subfigure, or None.
    """

    path: Path | None
    target: Axes | AnyFigure | None

    @classmethod
    def of(
        cls, path: Path | str | None, ax: Axes | None = None, figure: AnyFigure | None = None
    ) -> "FigureOutput":
        """Return the checked output of a figure function with these arguments.

        Raises:
            UserError: the path has an unknown suffix; `ax` is not axes, or `figure` is not a
                figure of matplotlib; or both are given.
        """
        if path is not None:
            check_suffix(Path(path))
        if ax is not None and figure is not None:
            raise UserError("pass ax= or figure=, not both")
        if ax is not None:
            _check_axes(ax)
        if figure is not None:
            _check_figure(figure)
        target = figure if ax is None else ax
        return cls(path=None if path is None else Path(path), target=target)

    def write(self, artefact: Artefact, *beside: Path | str) -> tuple[Path, ...]:
        """Write the figure and its table and caption beside it; without a path, write nothing.

        Args:
            artefact: content of the files.
            beside: further files; by default the path with the suffixes `.csv` and `.md`.
        """
        if self.path is None:
            return ()
        others = beside or (self.path.with_suffix(".csv"), self.path.with_suffix(".md"))
        return artefact.write(self.path, *others)

    def draw(self, artefact: Artefact) -> DrawnFigure | None:
        """Draw into the caller's axes or figure, if there are any."""
        return None if self.target is None else artefact.draw(self.target)


def _check_axes(ax: object) -> None:
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise UserError(
            f"ax: expected one Axes of matplotlib, such as axes[0, 0] of plt.subplots(2, 2); "
            f"it is of type {type(ax).__name__}"
        )


def _check_figure(figure: object) -> None:
    from matplotlib.figure import Figure, SubFigure

    if not isinstance(figure, Figure | SubFigure):
        raise UserError(
            "figure: expected a Figure or SubFigure of matplotlib, such as "
            f"plt.figure(layout='constrained'); it is of type {type(figure).__name__}"
        )
