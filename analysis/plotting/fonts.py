"""Fonts of characters that DejaVu Sans lacks, such as emoji and scripts of Asia, if installed."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from partialnas.analysis.plotting.artists import Figure

BASE_FONT = "DejaVu Sans"
"""Font of all figures: it is part of matplotlib, so it is the same on every machine."""

_BOXES = "Last Resort"
"""Beginning of the names of fonts that have a box for every character."""


@contextmanager
def quiet_glyphs() -> Iterator[None]:
    """Draw a box for a character that no installed font has, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        yield


def fallback_fonts(figure: Figure) -> list[str]:
    """Return the families of installed fonts that have the figure's further characters.

    A figure whose texts need only `BASE_FONT` needs no others.
    """
    from matplotlib.text import Text

    texts = [artist.get_text() for artist in figure.findobj(Text)]
    return [*_families(frozenset("".join(texts)) - _characters_of(BASE_FONT))]


def use_fallback_fonts(families: Sequence[str]) -> None:
    """Draw the texts that are created from now on with these families where `BASE_FONT` lacks them.

    Call it inside `figure_style`, which restores the settings.
    """
    import matplotlib as mpl

    mpl.rcParams["font.family"] = ["sans-serif", *families]


@cache
def _families(characters: frozenset[str]) -> tuple[str, ...]:
    """Return the fewest families, chosen greedily, that have as many characters as any fonts."""
    missing = frozenset(character for character in characters if not character.isspace())
    families: list[str] = []
    while missing:
        covered = {name: _drawn_by(name, missing) for name in _installed_families()}
        best = max(covered, key=lambda name: len(covered[name]))
        if not covered[best]:
            break
        families.append(best)
        missing -= covered[best]
    return tuple(families)


@cache
def _installed_families() -> tuple[str, ...]:
    """Return the families that have a regular font; matplotlib reports it if it takes another."""
    from matplotlib.font_manager import fontManager

    regular = (400, "normal", "normal")
    entries = fontManager.ttflist
    names = sorted({e.name for e in entries if (e.weight, e.style, e.stretch) == regular})
    return tuple(name for name in names if not name.startswith(_BOXES))


@cache
def _characters_of(family: str) -> frozenset[str]:
    """Return the characters of a family; none if its file cannot be read any more."""
    return frozenset(map(chr, font.get_charmap())) if (font := _font(family)) else frozenset()


def _drawn_by(family: str, characters: frozenset[str]) -> frozenset[str]:
    """Return the characters that a family has outlines of; colored emoji are often bitmaps."""
    font, drawn = _font(family), set[str]()
    for character in characters & _characters_of(family):
        with suppress(RuntimeError):
            font.load_char(ord(character))
            if len(font.get_path()[0]):
                drawn.add(character)
    return frozenset(drawn)


def _font(family: str) -> Any:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    with suppress(OSError, RuntimeError, ValueError):
        properties = FontProperties(family=[family])
        return get_font(findfont(properties, fallback_to_default=False, rebuild_if_missing=False))
    return None
