"""Style of figures for print: sizes, fonts and colors; the same data give the same bytes."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from partialnas.analysis.plotting.artists import Figure
from partialnas.analysis.plotting.fonts import BASE_FONT, quiet_glyphs
from partialnas.space.errors import UserError, markup_text

StyleName = Literal["cvpr", "neurips", "slides"]
Width = Literal["column", "page"]

MUTED_COLOR = "#9a9a9a"
DARK_COLOR = "#333333"
LEADER_COLOR = "#777777"
# the color-blind-safe palette of Okabe and Ito, without yellow, which is too pale on white
SERIES_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
FAMILY_STYLES = tuple(zip((*SERIES_COLORS[1:], "#000000"), "sD^vPX", strict=True))
"""Color and marker of each reference family."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """Size of a figure in inches, its font sizes in points, and the resolution of a PNG in dpi."""

    width: float
    height: float
    font_size: float
    small_font_size: float
    dpi: int = 300

    def new_figure(self, height: float | None = None) -> Figure:
        """Return an empty figure of this width, and of this height unless another is given."""
        from matplotlib.figure import Figure

        return Figure(figsize=(self.width, height or self.height), layout="constrained")


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
"""Figure widths of each venue, the default one first.

A CVPR page has two columns. A NeurIPS page has one; `column` is half of it. A figure for slides is
drawn at two fifths of the 13.3 inches of a slide and enlarged there to a font size of 20 points.
"""

DEFAULT_STYLES: dict[StyleName, Style] = {
    name: next(iter(widths.values())) for name, widths in WIDTHS.items()
}
"""Each style in its default width."""

_METADATA: dict[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": "partialnas"},
    ".svg": {"Date": None, "Creator": "partialnas"},
    ".png": {"Software": "partialnas"},
}
SUFFIXES = tuple(_METADATA)

POINTS_PER_INCH = 72


def characters_that_fit(inches: float, size: float, aspect: float = 0.58) -> float:
    """Return how many characters fit side by side.

    Args:
        inches: available width.
        size: font size in points.
        aspect: average character width as a share of the font size.
    """
    return inches * POINTS_PER_INCH / (size * aspect)


@contextmanager
def figure_style(name: StyleName, width: Width | None = None) -> Iterator[Style]:
    """Apply the settings of a style while a figure is drawn and saved, and restore them.

    Raises:
        UserError: the style or the width is unknown, or a file `matplotlibrc` is not text.
    """
    style = find_style(name, width)
    try:
        import matplotlib as mpl
    except UnicodeDecodeError as error:  # the library has printed the file's name
        raise UserError(f"a file matplotlibrc is not UTF-8 ({error}); remove it") from None
    with mpl.rc_context(), quiet_glyphs():
        mpl.rcdefaults()
        mpl.rcParams.update(_settings(style))
        yield style


def find_style(name: StyleName, width: Width | None = None) -> Style:
    """Return the style of a venue in one of its widths, or in its default width.

    Raises:
        UserError: the style or the width is unknown.
    """
    if name not in WIDTHS:
        raise UserError(f"unknown style {name!r}: choose {', '.join(WIDTHS)}")
    widths = WIDTHS[name]
    if width is not None and width not in widths:
        raise UserError(f"unknown width {width!r}: choose {', '.join(widths)}")
    return widths[width] if width else DEFAULT_STYLES[name]


def _settings(style: Style) -> dict[Any, Any]:
    ticks = {
        "labelsize": style.small_font_size, "color": DARK_COLOR, "major.width": 0.6,
        "major.size": 2.5, "minor.width": 0.4, "minor.size": 1.5,
    }  # fmt: skip
    return {
        "font.family": "sans-serif",
        "font.sans-serif": [BASE_FONT],
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
        **{f"{axis}tick.{key}": value for key, value in ticks.items() for axis in "xy"},
        "legend.fontsize": style.small_font_size,
        "legend.frameon": False,
        "savefig.dpi": style.dpi,
        "text.parse_math": False,  # names may contain a dollar sign
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "svg.hashsalt": "partialnas",
    }


def figure_bytes(figure: Figure, suffix: str, metadata: Mapping[str, str]) -> bytes:
    """Return the figure as PDF, SVG or PNG; call it inside `figure_style`.

    Args:
        figure: figure to save.
        suffix: one of `SUFFIXES`.
        metadata: metadata of the file, under the keys of its format.
    """
    content = io.BytesIO()
    figure.savefig(content, format=suffix[1:], metadata={**_METADATA[suffix], **metadata})
    if suffix == ".svg":  # it holds texts as comments
        return markup_text(content.getvalue().decode()).encode()
    return content.getvalue()


def check_suffix(path: Path) -> None:
    """Check that a figure can be written to a path with this suffix.

    Raises:
        UserError: the suffix is unknown.
    """
    if path.suffix.lower() not in SUFFIXES:
        suffixes = ", ".join(SUFFIXES)
        raise UserError(f"{path}: unknown figure format; use a name that ends in {suffixes}")
