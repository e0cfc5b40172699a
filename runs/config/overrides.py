"""Settings by dotted keys, as `--set`, `quick:` and conditions write them."""

import copy
from collections.abc import Mapping
from typing import Any

from partialnas.space.errors import UserError

PlainData = dict[str, Any]


def apply_overrides(data: PlainData, settings: Mapping[str, Any]) -> PlainData:
    """A copy of nested plain data with other values at `a.b.c`.

    Raises:
        UserError: a key leads through something that has no keys.
    """
    copied = copy.deepcopy(data)
    for key, value in settings.items():
        _put(copied, key, value)
    return copied


def _put(data: PlainData, key: str, value: Any) -> None:
    """Set `a.b.c` in nested mappings, making those that are missing."""
    *parents, last = key.split(".")
    for position, parent in enumerate(parents):
        inner = data.setdefault(parent, {})
        if parent == "recipe" and isinstance(inner, str):
            inner = data[parent] = {"use": inner}
        if not isinstance(inner, dict):
            where = ".".join(parents[: position + 1])
            raise UserError(f"{key}: {where} is {inner!r}, which has no keys of its own")
        data = inner
    data[last] = value
