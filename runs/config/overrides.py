"""Overrides of nested settings by dotted keys, as in `--set`, `quick:` and conditions."""

import copy
from collections.abc import Mapping
from typing import Any

from partialnas.space.errors import UserError

PlainData = dict[str, Any]


def apply_overrides(data: PlainData, settings: Mapping[str, Any]) -> PlainData:
    """Return a copy of nested plain data with values replaced at dotted keys such as `a.b.c`.

    Raises:
        UserError: a key leads through a value that is not a mapping.
    """
    copied = copy.deepcopy(data)
    for key, value in settings.items():
        _put(copied, key, value)
    return copied


def _put(data: PlainData, key: str, value: Any) -> None:
    """Set the value at a dotted key in place; create missing mappings."""
    *parents, last = key.split(".")
    for position, parent in enumerate(parents):
        inner = data.setdefault(parent, {})
        if parent == "recipe" and isinstance(inner, str):
            inner = data[parent] = {"use": inner}
        if not isinstance(inner, dict):
            where = ".".join(parents[: position + 1])
            raise UserError(
                f"{key}: {where} is {inner!r}, not a mapping; remove {key} or set {where}"
            )
        data = inner
    data[last] = value
