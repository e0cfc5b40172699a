"""What may become of a study that has begun, and what else has changed about it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from partialnas.runs.ledger_rows import now
from partialnas.runs.settings import Plain
from partialnas.search.study import fixed
from partialnas.space.errors import UserError


def growth(old: Plain, new: Plain) -> list[str]:
    """What has been appended to a begun study, one line each; a smaller budget is told as such.

    Raises:
        UserError: something else than budget, seeds, executor and further arms has changed.
    """
    refused = [*differences(fixed(old), fixed(new))]
    if new["seeds"] < old["seeds"]:
        refused.append(f"seeds: {old['seeds']} -> {new['seeds']} (may only grow)")
    for name, arm in old["arms"].items():
        if new["arms"].get(name) != arm:
            refused.append(f"arms.{name}: changed or removed (arms may only be added)")
    if refused:
        raise UserError(
            "the study has changed since it was begun; only budget, seeds, executor and further "
            "arms may grow:\n  " + "\n  ".join(refused) + "\nUse another --out for a new study."
        )
    grown = ("budget", "seeds", "executor", "arms")
    lines = differences({k: old[k] for k in grown}, {k: new[k] for k in grown})
    smaller = {f"budget.{key}:" for key in old["budget"] if _less(new, old, key)}
    return [f"{line} (shrunk)" if line.split()[0] in smaller else line for line in lines]


def _less(new: Plain, old: Plain, key: str) -> bool:
    """Whether a study has less of a budget than another; what is not stated is without end."""
    less, more = (study["budget"][key] for study in (new, old))
    return less is not None and (more is None or less < more)


def noted(meta: Mapping[str, str], lines: Sequence[str]) -> dict[str, str]:
    """What the ledger is to remember of a study's growth: when, and what, oldest first.

    Args:
        meta: what the ledger knows of its study.
        lines: what has changed now.
    """
    if not lines:
        return {}
    earlier = json.loads(meta.get("growth", "[]"))
    return {"growth": json.dumps([*earlier, {"when": now(), "lines": [*lines]}])}


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """`path: old -> new` for every place where two plain data differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        nested = [differences(old.get(k), new.get(k), f"{at}.{k}" if at else k) for k in keys]
        return [line for lines in nested for line in lines]
    if old == new or (_is_nan(old) and _is_nan(new)):
        return []
    return [f"{at}: {old!r} -> {new!r}"]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
