"""Style of figures for print: sizes, fonts and colors; the same data give the same bytes."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from partialnas.analysis.plotting.artists import AnyFigure, Axes, Figure
from partialnas.analysis.plotting.fonts import BASE_FONT, quiet_glyphs, use_font
from partialnas.space.errors import UserError, markup_text
from partialnas.space.validation import suggest

StyleName = Literal["cvpr", "eccv", "ieee", "neurips", "slides"]
Width = Literal["column", "page"]

MUTED_COLOR = "#9a9a9a"
DARK_COLOR = "#333333"
LEADER_COLOR = "#777777"
# the color-blind-safe palette of Okabe and Ito, without yellow, which is too pale on white
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SERIES_COLORS = tuple(f"C{place}" for place in range(len(_PALETTE)))
"""Colors of the color cycle: this palette, or that of a style file or of the caller."""

FAMILY_STYLES = tuple(zip((*SERIES_COLORS[1:], "#000000"), "sD^vPX", strict=True))
"""Color and marker of each reference family."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """Size of a figure in inches, its font sizes in points, and the resolution of a PNG in dpi.

    `target` is the caller's axes, figure or subfigure to draw into; None for a new figure.
    """

    width: float
    height: float
    font_size: float
    small_font_size: float
    dpi: int = 300
    target: Axes | AnyFigure | None = None

    def new_axes(self, height: float | None = None) -> tuple[AnyFigure, Axes]:
        """Return a figure and its only axes, see `new_panels`."""
        figure, grid = self.new_panels(height)
        return figure, grid[0, 0]

    def new_panels(
        self, height: float | None = None, rows: int = 1, columns: int = 1, *, sharey: bool = False
    ) -> tuple[AnyFigure, Any]:
        """Return a figure and its axes, an array of shape (rows, columns).

        The figure has this width, and this height unless another is given. A `target` keeps its
        size; if it is axes, they are returned with the figure that they belong to.

        Raises:
            UserError: several panels are needed, and the target is a single axes.
        """
        import numpy as np
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure

        if isinstance(self.target, Axes):
            if rows * columns > 1:
                raise UserError(
                    f"this figure has {rows * columns} panels and does not fit into one axes: pass "
                    "figure=, for example one of plt.figure(layout='constrained').subfigures(1, 2)"
                )
            figure = self.target.get_figure()
            assert figure is not None, "the axes belong to no figure"
            return figure, np.array([[self.target]])
        size = (self.width, height or self.height)
        drawn = self.target or Figure(figsize=size, layout="constrained")
        return drawn, drawn.subplots(rows, columns, sharey=sharey, squeeze=False)


WIDTHS: dict[StyleName, dict[Width, Style]] = {
    # cvpr.sty: \textwidth 6.875in, \columnsep 0.3125in; text of 10 points
    "cvpr": {
        "column": Style(width=3.25, height=2.6, font_size=8, small_font_size=6.5),
        "page": Style(width=6.875, height=3.2, font_size=8, small_font_size=6.5),
    },
    # llncs.cls, of ECCV: \textwidth 12.2cm, one column; text of 10 points, captions of 9
    "eccv": {
        "page": Style(width=4.8, height=3.0, font_size=8, small_font_size=7),
        "column": Style(width=2.35, height=2.2, font_size=8, small_font_size=6.5),
    },
    # IEEEtran.cls for journals and conferences: \columnwidth 21pc = 3.5in, \textwidth 43pc;
    # its figures have text of 8 to 10 points
    "ieee": {
        "column": Style(width=3.5, height=2.7, font_size=8, small_font_size=7),
        "page": Style(width=7.16, height=3.3, font_size=8, small_font_size=7),
    },
    # neurips.sty: \textwidth 5.5in, one column; text of 10 points
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

Pages of CVPR and IEEE have two columns. Pages of ECCV and NeurIPS have one; `column` is half of
it. A figure for slides is drawn at two fifths of the 13.3 inches of a slide and enlarged there to a
font size of 20 points.
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
def figure_style(
    name: StyleName,
    width: Width | None = None,
    font: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Style]:
    """Apply the settings of a style while a figure is drawn and saved, and restore them.

    Args:
        name: venue.
        width: a column or a page of the venue.
        font: font of all texts, see `use_font`.
        settings: settings of matplotlib that replace those of the venue.

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
        if settings:
            style = _with_settings(style, settings, resized=width is None)
        else:
            mpl.rcParams.update(_settings(style))
        use_font(font)
        yield style


def _with_settings(style: Style, settings: Mapping[str, Any], *, resized: bool) -> Style:
    """Apply a style with further settings, and return it with the sizes that these state.

    Args:
        style: style of a venue.
        settings: settings of matplotlib.
        resized: whether a stated figure size replaces that of the venue.
    """
    import matplotlib as mpl

    scale = float(settings.get("font.size", style.font_size)) / style.font_size
    scaled = replace(
        style, font_size=scale * style.font_size, small_font_size=scale * style.small_font_size
    )
    stated: dict[Any, Any] = dict(settings)
    if "axes.labelsize" in stated:
        stated.setdefault("figure.labelsize", stated["axes.labelsize"])
    mpl.rcParams.update(_settings(scaled))
    mpl.rcParams.update(stated)
    style = replace(style, **_font_sizes())
    if resized and "figure.figsize" in settings:
        width, height = mpl.rcParams["figure.figsize"]
        style = replace(style, width=width, height=height)
    return style


def _font_sizes() -> dict[str, Any]:
    """Return the font sizes in points that the settings of matplotlib state."""
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties

    sizes = {
        "font_size": mpl.rcParams["axes.labelsize"],
        "small_font_size": mpl.rcParams["xtick.labelsize"],
    }
    return {name: FontProperties(size=size).get_size_in_points() for name, size in sizes.items()}


def find_style(name: StyleName, width: Width | None = None) -> Style:
    """Return the style of a venue in one of its widths, or in its default width.

    Raises:
        UserError: the style or the width is unknown.
    """
    if name not in WIDTHS:
        raise UserError(f"unknown style {name!r}; {suggest(name, WIDTHS)}")
    widths = WIDTHS[name]
    if width is not None and width not in widths:
        raise UserError(f"unknown width {width!r}; {suggest(width, widths)}")
    return widths[width] if width else DEFAULT_STYLES[name]


@contextmanager
def embedded_style(target: Axes | AnyFigure) -> Iterator[Style]:
    """Apply the caller's own settings while a figure is drawn into the caller's axes or figure.

    Names of networks may contain a dollar sign or a percent sign: texts are not parsed as formulas.
    """
    import matplotlib as mpl
    from matplotlib.axes import Axes

    box = target.get_window_extent() if isinstance(target, Axes) else target.bbox
    figure = target.get_figure(root=True)
    assert figure is not None, "the axes belong to no figure"
    settings: dict[Any, Any] = {"text.parse_math": False, "text.usetex": False}
    settings["figure.labelsize"] = mpl.rcParams["axes.labelsize"]
    with mpl.rc_context(settings):
        width, height = box.width / figure.dpi, box.height / figure.dpi
        yield Style(width=width, height=height, target=target, **_font_sizes())


def pin_colors(figure: AnyFigure) -> None:
    """Replace colors of the color cycle by their values, so that they do not change later."""
    from matplotlib.colors import to_hex
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    for artist in figure.findobj(lambda artist: isinstance(artist, Line2D | Text)):
        assert isinstance(artist, Line2D | Text)
        artist.set_color(to_hex(artist.get_color(), keep_alpha=True))


def _settings(style: Style) -> dict[Any, Any]:
    ticks = {
        "labelsize": style.small_font_size, "color": DARK_COLOR, "major.width": 0.6,
        "major.size": 2.5, "minor.width": 0.4, "minor.size": 1.5,
    }  # fmt: skip
    return {
        "font.family": [BASE_FONT],
        "font.size": style.font_size,
        "axes.labelsize": style.small_font_size,
        "figure.labelsize": style.small_font_size,
        "axes.linewidth": 0.6,
        "axes.edgecolor": DARK_COLOR,
        "axes.labelcolor": DARK_COLOR,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.prop_cycle": f"cycler('color', {[*_PALETTE]})",
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
