"""Fonts of figures: the requested family, and installed fonts for characters that it lacks."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from partialnas.analysis.plotting.artists import Figure

BASE_FONT = "DejaVu Sans"
"""Default font: it is part of matplotlib, so it is the same on every machine."""

FONTS = {"sans": BASE_FONT, "serif": "STIXGeneral"}
"""Families of `--font`; STIX has the shapes of Times and is part of matplotlib too."""

_GENERIC = ("serif", "sans-serif", "monospace", "cursive", "fantasy")

_BOXES = "Last Resort"
"""Beginning of the names of fonts that have a box for every character."""


@contextmanager
def quiet_glyphs() -> Iterator[None]:
    """Draw a box for a character that no installed font has, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        yield


def use_font(font: str | None) -> None:
    """Draw all texts in a font, and in `BASE_FONT` what it lacks; call it inside `figure_style`.

    A family that is not installed is replaced by `BASE_FONT`, with a warning.

    Args:
        font: a name in `FONTS` or a family; None for the family that the settings state.
    """
    import matplotlib as mpl

    wanted = [FONTS.get(font, font)] if font else mpl.rcParams["font.family"]
    families = [family for name in wanted if (family := _installed_family(name))]
    if not families:
        names = ", ".join(wanted)
        warnings.warn(f"the font {names} is not installed; {BASE_FONT} is used", stacklevel=2)
    mpl.rcParams["font.family"] = [*dict.fromkeys([*families, BASE_FONT])]


def _installed_family(name: str) -> str:
    """Return an installed family, for a generic name the first that matplotlib lists; or ""."""
    import matplotlib as mpl

    settings: Any = mpl.rcParams
    candidates = settings[f"font.{name}"] if name in _GENERIC else [name]
    return next((family for family in candidates if _characters_of(family)), "")


def fallback_fonts(figure: Figure) -> list[str]:
    """Return the families of installed fonts that have the figure's further characters.

    A figure whose texts need only the families in use needs no others.
    """
    import matplotlib as mpl
    from matplotlib.text import Text

    texts = [artist.get_text() for artist in figure.findobj(Text)]
    drawn = frozenset().union(*map(_characters_of, mpl.rcParams["font.family"]))
    return [*_families(frozenset("".join(texts)) - drawn)]


def use_fallback_fonts(families: Sequence[str]) -> None:
    """Draw the texts that are created from now on with these families where the others lack them.

    Call it inside `figure_style`, which restores the settings.
    """
    import matplotlib as mpl

    mpl.rcParams["font.family"] = [*mpl.rcParams["font.family"], *families]


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
