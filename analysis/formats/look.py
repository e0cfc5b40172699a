"""How figures are presented: venue, width, font, settings of a style file, length of captions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from partialnas.analysis.formats.caption import CaptionLength, check_caption_length
from partialnas.analysis.frames.provenance import drop_none
from partialnas.analysis.plotting.style import StyleName, Width, find_style
from partialnas.space.errors import UserError
from partialnas.space.validation import suggest

_STYLE_SUFFIX = ".mplstyle"

_IGNORED = (
    *("backend", "date.", "interactive", "keymap.", "pgf.", "timezone", "tk.", "toolbar"),
    *("webagg.", "figure.autolayout", "figure.constrained_layout", "savefig.", "svg.hashsalt"),
    "svg.id", "text.latex.preamble", "text.parse_math", "text.usetex",
)  # fmt: skip
"""Beginnings of settings that would change the size of figures, their names, or their bytes."""

_KEPT = ("savefig.dpi", "savefig.facecolor", "savefig.transparent")
"""Settings that are not ignored in spite of their beginning."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a figure is presented.

    Attributes:
        style: venue that determines width and font size.
        width: a column or a page of the venue, or None for its default width.
        font: `serif`, `sans` or the name of a family, or None for the font of the style.
        caption: length of the caption.
        settings: settings of matplotlib that replace those of the venue.
    """

    style: StyleName = "cvpr"
    width: Width | None = None
    font: str | None = None
    caption: CaptionLength = "full"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Return the options as arguments of a query, without defaults other than the style."""
        caption = None if self.caption == "full" else self.caption
        options = drop_none(width=self.width, font=self.font, caption=caption)
        return {"style": self.style, **options, **drop_none(settings=self.settings or None)}


DEFAULT_LOOK = Look()

LOOK_OPTIONS = ("style", "width", "font", "caption")
"""Options that state the look of a figure."""

LOOK_ARGUMENTS = (*LOOK_OPTIONS, "settings")
"""Arguments of a query that state the look of a figure."""


def find_look(
    style: str | Path = "cvpr",
    width: str | None = None,
    font: str | None = None,
    caption: str = "full",
    settings: Mapping[str, Any] | None = None,
) -> Look:
    """Return the look that options state.

    Args:
        style: a venue, a style file of matplotlib, or both with a comma between them; the file
            changes what it states.
        width: a column or a page of the venue.
        font: `serif`, `sans` or the name of a family.
        caption: `full`, `short` or `none`.
        settings: settings that a style file stated, from the stamp of an exported figure.

    Raises:
        UserError: unknown style, width or caption, or the style file cannot be read or is invalid.
    """
    venue, stated = "cvpr", dict(settings or {})
    for part in str(style).split(","):
        if part in get_args(StyleName):
            venue = part
        elif part.endswith(_STYLE_SUFFIX) or Path(part).is_file():
            stated |= read_style_file(Path(part))
        else:
            hint = suggest(part, get_args(StyleName))
            raise UserError(f"unknown style {part!r}; {hint}, or a file NAME{_STYLE_SUFFIX}")
    find_style(cast(StyleName, venue), cast("Width | None", width))
    check_caption_length(caption)
    return Look(
        style=cast(StyleName, venue), width=cast("Width | None", width), font=font,
        caption=cast(CaptionLength, caption), settings=stated,
    )  # fmt: skip


def read_style_file(path: Path) -> dict[str, Any]:
    """Return the settings of a style file of matplotlib as plain data.

    Settings that would change the size of figures, their names or their bytes are left out.

    Raises:
        UserError: the file cannot be read, or has an unknown key or an invalid value.
    """
    import matplotlib as mpl

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        _check_keys(path, lines)
        stated = mpl.rc_params_from_file(path, fail_on_error=True, use_default_template=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # UnicodeDecodeError is one
        raise UserError(f"{path}: is no valid style file of matplotlib: {error}") from None
    return {key: _plain(value) for key, value in stated.items() if not _is_ignored(key)}


def _check_keys(path: Path, lines: list[str]) -> None:
    import matplotlib as mpl

    for number, line in enumerate(lines, start=1):
        key, colon, _ = line.partition(":")
        key = key.strip()
        if not key or key.startswith("#"):
            continue
        if not colon or key not in mpl.rcParams:
            hint = suggest(key, mpl.rcParams) if colon else "expected KEY: VALUE"
            raise UserError(f"{path}, line {number}: matplotlib has no setting {key!r}; {hint}")


def _is_ignored(key: str) -> bool:
    return key.startswith(_IGNORED) and key not in _KEPT


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it, or the text that matplotlib reads it from."""
    value = list(value) if isinstance(value, tuple) else value
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return str(value)
