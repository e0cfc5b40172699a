"""Overrides of nested settings by dotted keys, as in `--set`, `quick:` and conditions.

A name with a dot or an equals sign is quoted: `arms."v1.5".width=16`.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

from partialnas.space.errors import UserError
from partialnas.space.validation import quote

PlainData = dict[str, Any]

_NAME = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^."'=]+))\s*""")
"""One name of a dotted key, in quotes or without."""


def split_assignment(text: str) -> tuple[str, str]:
    """Split `KEY=VALUE` at the first equals sign that is not in quotes.

    Raises:
        UserError: there is no key or no equals sign.
    """
    end = _key_end(text)
    if end is None or text[end : end + 1] != "=":
        raise UserError(f"--set {quote(text)[1:-1]}: expected KEY=VALUE, such as recipe.epochs=2")
    return text[:end].strip(), text[end + 1 :]


def split_key(key: str) -> list[str]:
    """Split a dotted key such as `a.b.c` or `arms."v1.5".width` into its names.

    Raises:
        UserError: a name is empty, or a quote is not closed.
    """
    if _key_end(key) != len(key):
        raise UserError(
            f"invalid key {quote(key)}: expected names joined by dots, such as recipe.epochs; "
            "quote a name that has a dot, an equals sign or a quote"
        )
    names, position = [], 0
    while match := _NAME.match(key, position):
        names.append(next(part for part in match.groups() if part is not None).strip())
        position = match.end() + 1
    return names


def _key_end(text: str) -> int | None:
    """Return where the dotted key at the start of a text ends, or None if there is none."""
    position = -1
    while match := _NAME.match(text, position + 1):
        position = match.end()
        if text[position : position + 1] != ".":
            return position
    return None


def apply_overrides(data: PlainData, settings: Mapping[str, Any]) -> PlainData:
    """Return a copy of nested plain data with values replaced at dotted keys such as `a.b.c`.

    Raises:
        UserError: a key is not valid, or leads through a value that is not a mapping.
    """
    copied = copy.deepcopy(data)
    for key, value in settings.items():
        _put(copied, key, value)
    return copied


def _put(data: PlainData, key: str, value: Any) -> None:
    """Set the value at a dotted key in place; create missing mappings."""
    *parents, last = split_key(key)
    for position, parent in enumerate(parents):
        inner = data.setdefault(parent, {})
        if parent in ("recipe", "measure") and isinstance(inner, str) and inner != "none":
            inner = data[parent] = {"use": inner}
        if not isinstance(inner, dict):
            where = ".".join(parents[: position + 1])
            raise UserError(
                f"{key}: {where} is {quote(inner)}, not a mapping; remove {key} or set {where}"
            )
        data = inner
    data[last] = value
