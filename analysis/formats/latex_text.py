"""Escape text for LaTeX so that pdflatex compiles it without further packages.

Special characters, punctuation, Greek letters and accented letters have commands. Other scripts and
emoji exist in the fonts of XeLaTeX and LuaLaTeX only: pdflatex prints their code points.
"""

import itertools
import re
import unicodedata

_COMMANDS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}",
    "*": "{*}", "-": "-{}", "`": "{`}", "'": "{'}", "–": "--{}", "—": "---{}",
    "“": "``{}", "”": "''{}", "‘": "`{}", "’": "'{}", "„": ",,{}", "«": r"$\ll$", "»": r"$\gg$",
    "…": r"\dots{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "÷": r"$\div$",
    "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "≈": r"$\approx$", "∞": r"$\infty$",
    "·": r"$\cdot$", "•": r"$\bullet$", "°": r"$^\circ$", "†": r"$\dagger$", "‡": r"$\ddagger$",
    "→": r"$\to$", "←": r"$\leftarrow$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "∈": r"$\in$", "√": r"$\surd$", "∑": r"$\sum$", "∂": r"$\partial$", "∇": r"$\nabla$",
    "⟂": r"$\perp$", "§": r"\S{}", "¶": r"\P{}", "©": r"\copyright{}", "£": r"\pounds{}",
    "€": "EUR", "¬": r"$\neg$", "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}",
    "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
    "µ": r"$\mu$", "ϵ": r"$\epsilon$", "ε": r"$\varepsilon$", "ς": r"$\varsigma$",
    "ϕ": r"$\phi$", "φ": r"$\varphi$", "ϑ": r"$\vartheta$", "ϱ": r"$\varrho$", "ϖ": r"$\varpi$",
}  # fmt: skip

_LIGATURES = {"-": "-–—", "'": "'’”"}
"""Characters that need braces before others, with which they would become one."""

_ARGUMENTS = "[*"
"""Characters that need braces at the beginning of a row, where a command would take them."""

_GREEK = (
    *("alpha", "beta", "gamma", "delta", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "chi", "psi", "omega"),
)
_LATIN_CAPITALS = {
    "ALPHA": "A", "BETA": "B", "EPSILON": "E", "ZETA": "Z", "ETA": "H", "IOTA": "I", "KAPPA": "K",
    "MU": "M", "NU": "N", "OMICRON": "O", "RHO": "P", "TAU": "T", "CHI": "X",
}  # fmt: skip
"""Greek capitals that look like Latin ones; LaTeX has no commands for them."""

_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
"""LaTeX's accents by combining character."""

_LETTER = re.compile(f".[{''.join(_ACCENTS)}]*", re.DOTALL)

_UNPRINTED = ("Cc", "Cf", "Cs", "Mn", "Me")
"""Unicode categories of what modifies other characters."""


def escape_latex(text: str) -> str:
    """Return one line of text as LaTeX."""
    letters = re.findall(_LETTER, unicodedata.normalize("NFC", text))
    pieces: list[tuple[str, str | None]] = []
    begun = False
    for letter, after in itertools.zip_longest(letters, letters[1:], fillvalue=""):
        piece = letter if _is_plain(letter, after, begun=begun) else _escape_letter(letter)
        begun |= piece is None or bool(piece.strip())
        pieces.append((letter, piece))
    groups = itertools.groupby(pieces, key=lambda pair: pair[1] is None)
    return "".join(
        _either("".join(letter for letter, _ in group))
        if is_foreign
        else "".join(piece or "" for _, piece in group)
        for is_foreign, group in groups
    )


def _is_plain(letter: str, after: str, *, begun: bool) -> bool:
    """Return whether a character that sometimes needs braces needs none before `after`."""
    if letter in _LIGATURES:
        return not after or after not in _LIGATURES[letter]
    return begun and letter in _ARGUMENTS


def _escape_letter(letter: str) -> str | None:
    """Return a character with its combining accents as LaTeX, or None if pdflatex has no glyph."""
    decomposed = unicodedata.normalize("NFD", letter)
    base, accents = decomposed[0], decomposed[1:]
    if base.isascii() and base.isalpha() and all(accent in _ACCENTS for accent in accents):
        for accent in accents:
            base = rf"\{_ACCENTS[accent]}{{{base}}}"
        return base
    return _escape_character(letter[0])


def _escape_character(char: str) -> str | None:
    if char in _COMMANDS:
        return _COMMANDS[char]
    if char.isascii():
        return char if char.isprintable() else " "
    if command := _greek(char):
        return command
    if unicodedata.category(char) in _UNPRINTED:
        return ""
    plain = unicodedata.normalize("NFKC", char).replace("\N{FRACTION SLASH}", "/")
    return escape_latex(plain) if plain.isascii() else None


def _either(run: str) -> str:
    """Return other scripts as they are for new engines, as code points for pdflatex."""
    points = " ".join(f"U+{ord(char):04X}" for char in run)
    return rf"\ifdefined\Umathcode {run}\else {points}\fi{{}}"


def _greek(char: str) -> str | None:
    """Return a Greek letter as LaTeX, or None for another character."""
    name = unicodedata.name(char, "").replace("LAMDA", "LAMBDA")
    case, _, letter = name.removeprefix("GREEK ").partition(" LETTER ")
    if name == f"GREEK SMALL LETTER {letter}" and letter.lower() in (*_GREEK, "omicron"):
        return "o" if letter == "OMICRON" else rf"$\{letter.lower()}$"
    if case == "CAPITAL" and letter in _LATIN_CAPITALS:
        return _LATIN_CAPITALS[letter]
    if case == "CAPITAL" and name.startswith("GREEK") and letter.lower() in _GREEK:
        return rf"$\{letter.capitalize()}$"
    return None
