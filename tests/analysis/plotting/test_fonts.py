"""Figures of texts that DejaVu Sans lacks: installed fonts are used, otherwise boxes."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.frames.provenance import Query
from partialnas.analysis.plotting import fonts
from partialnas.analysis.plotting.artists import AnyFigure
from partialnas.analysis.plotting.style import Style

IDEOGRAPH, HAS_NO_FONT = "\u6f22", "\U0001f4a1"


def write_font(path: Path, *, cff: bool = False) -> None:
    """Write a font whose only character is a solid square for the ideograph."""
    names = [".notdef", "square"]
    builder = FontBuilder(1000, isTTF=not cff)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(IDEOGRAPH): "square"})
    glyphs = {}
    for name in names:
        pen = T2CharStringPen(1000, None) if cff else TTGlyphPen(None)
        if name == "square":
            pen.moveTo((0, 0))
            for point in ((0, 800), (900, 800), (900, 0)):
                pen.lineTo(point)
            pen.closePath()
        glyphs[name] = pen.getCharString() if cff else pen.glyph()
    if cff:
        builder.setupCFF("Square", {}, glyphs, {})
    else:
        builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Square", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture(params=[False, True], ids=["TrueType", "CFF"])
def installed_font(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A further font that is installed during a test."""
    path = tmp_path / f"square.{'otf' if request.param else 'ttf'}"
    write_font(path, cff=request.param)
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", [*manager.ttflist])
    caches = (fonts._families, fonts._installed_families, fonts._characters_of)
    manager.addfont(path)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def figure_file(text: str, suffix: str) -> bytes:
    def draw(style: Style) -> AnyFigure:
        figure, axes = style.new_axes()
        axes.set_axis_off()
        axes.text(0.5, 0.5, text, fontsize=60, ha="center", va="center")
        return figure

    drawing = Drawing(draw=draw, plot_data=pd.DataFrame())
    artefact = Artefact(
        studies=(), query=Query(verb="figure", arguments={}), texts={}, drawing=drawing
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return artefact.content(suffix)


def dark_share(content: bytes, path: Path) -> float:
    path.write_bytes(content)
    with Image.open(path) as image:
        levels = image.convert("L").histogram()
    return sum(levels[:128]) / sum(levels)


@pytest.mark.usefixtures("installed_font")
def test_an_installed_font_draws_what_the_font_of_figures_lacks(tmp_path: Path) -> None:
    share = dark_share(figure_file(f"a{IDEOGRAPH}", ".png"), tmp_path / "a.png")
    square = 0.9 * 0.8 * (60 / 72) ** 2 / (3.25 * 2.6)  # inches²
    assert share == pytest.approx(square, rel=0.25)  # and the letter
    for suffix in (".pdf", ".svg"):
        assert figure_file(IDEOGRAPH, suffix) != figure_file(HAS_NO_FONT, suffix)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_without_a_font_boxes_are_drawn_without_a_warning(suffix: str) -> None:
    assert figure_file(HAS_NO_FONT, suffix) != figure_file("", suffix)
