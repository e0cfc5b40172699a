"""How figures look in print: sizes, fonts, colours; the same data give the same bytes."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

StyleName = Literal["cvpr", "neurips", "slides"]
Width = Literal["column", "page"]

MUTED_COLOR = "#9a9a9a"
DARK_COLOR = "#333333"
LEADER_COLOR = "#777777"
# Okabe and Ito's colours; yellow is left out: it fades on white paper.
SERIES_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
FAMILY_STYLES = (
    ("#d55e00", "s"),
    ("#009e73", "D"),
    ("#cc79a7", "^"),
    ("#e69f00", "v"),
    ("#56b4e9", "P"),
    ("#000000", "X"),
)
"""Colour and marker of the reference families, in their order."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """The size of a figure in inches, of its text in points, and the pixels an inch of a PNG."""

    width: float
    height: float
    font_size: float
    small_font_size: float
    dpi: int = 300


WIDTHS: dict[StyleName, dict[Width, Style]] = {
    "cvpr": {
        "column": Style(width=3.25, height=2.6, font_size=8, small_font_size=6.5),
        "page": Style(width=6.875, height=3.2, font_size=8, small_font_size=6.5),
    },
    "neurips": {
        "page": Style(width=5.5, height=3.4, font_size=9, small_font_size=7.5),
        "column": Style(width=2.7, height=2.4, font_size=8, small_font_size=6.5),
    },
    "slides": {
        "page": Style(width=5.33, height=3.0, font_size=9, small_font_size=8, dpi=480),
        "column": Style(width=2.6, height=2.6, font_size=9, small_font_size=7.5, dpi=480),
    },
}
"""The widths of a venue, its usual one first.

A CVPR page has two columns; a NeurIPS page has one, of which `column` is half. A figure for slides
is drawn at two fifths of a slide's 13.3 inches and enlarged there: its text is then 20 points.
"""

DEFAULT_STYLES: dict[StyleName, Style] = {
    name: next(iter(of.values())) for name, of in WIDTHS.items()
}
"""Each style in its usual width."""

_METADATA: dict[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": "partialnas"},
    ".svg": {"Date": None, "Creator": "partialnas"},
    ".png": {"Software": "partialnas"},
}
SUFFIXES = tuple(_METADATA)

POINTS_PER_INCH = 72


def characters_that_fit(inches: float, size: float, wide: float = 0.58) -> float:
    """How many letters stand side by side in so many inches.

    Args:
        inches: of room.
        size: of the letters, in points.
        wide: their usual width as a share of their size.
    """
    return inches * POINTS_PER_INCH / (size * wide)


@contextmanager
def figure_style(name: StyleName, width: Width | None = None) -> Iterator[Style]:
    """The settings under which a figure is made and saved; nothing of them stays behind.

    Raises:
        UserError: there is no style of that name, or no such width.
    """
    import matplotlib as mpl

    style = find_style(name, width)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_settings(style))
        yield style


def find_style(name: StyleName, width: Width | None = None) -> Style:
    """The style of a venue in one of its widths, without one in its usual one.

    Raises:
        UserError: there is no style of that name, or no such width.
    """
    if name not in WIDTHS:
        raise UserError(f"style {name!r}: unknown, there are {', '.join(WIDTHS)}")
    widths = WIDTHS[name]
    if width is not None and width not in widths:
        raise UserError(f"width {width!r}: unknown, there are {', '.join(widths)}")
    return widths[width] if width else DEFAULT_STYLES[name]


def _settings(style: Style) -> dict[Any, Any]:
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same on every machine
        "font.size": style.font_size,
        "axes.labelsize": style.font_size,
        "axes.linewidth": 0.6,
        "axes.edgecolor": DARK_COLOR,
        "axes.labelcolor": DARK_COLOR,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.5,
        "xtick.labelsize": style.small_font_size,
        "ytick.labelsize": style.small_font_size,
        "xtick.color": DARK_COLOR,
        "ytick.color": DARK_COLOR,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.minor.width": 0.4,
        "ytick.minor.width": 0.4,
        "xtick.minor.size": 1.5,
        "ytick.minor.size": 1.5,
        "legend.fontsize": style.small_font_size,
        "legend.frameon": False,
        "savefig.dpi": style.dpi,
        "text.parse_math": False,  # names may hold a dollar sign
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "svg.hashsalt": "partialnas",
    }


def figure_bytes(figure: "Figure", suffix: str, metadata: Mapping[str, str]) -> bytes:
    """The figure as PDF, SVG or PNG; to be called inside `figure_style`.

    Args:
        figure: the figure.
        suffix: one of `SUFFIXES`.
        metadata: what the file tells of itself, by the format's own names.
    """
    content = io.BytesIO()
    told = {**_METADATA[suffix], **metadata}
    figure.savefig(content, format=suffix[1:], metadata=told)
    return content.getvalue()


def check_suffix(path: Path) -> None:
    """Refuses a figure's path whose suffix is not known, before anything is drawn.

    Raises:
        UserError: always, for such a path.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a figure ends in {', '.join(SUFFIXES)}")
