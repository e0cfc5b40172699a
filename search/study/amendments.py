"""What may become of a study that has begun, and what else has changed about it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from partialnas.runs.config.overrides import PlainData
from partialnas.runs.system.environment import utc_now
from partialnas.search.study.study import immutable_settings
from partialnas.space.errors import UserError


def find_amendments(old: PlainData, new: PlainData) -> list[str]:
    """What has been appended to a begun study, one line each; a smaller budget is told as such.

    Raises:
        UserError: something else than budget, seeds, executor and further arms has changed.
    """
    refused = [*differences(immutable_settings(old), immutable_settings(new))]
    refused += _seeds(old["seeds"], new["seeds"])
    for name, arm in old["arms"].items():
        if new["arms"].get(name) != arm:
            refused.append(f"arms.{name}: changed or removed (arms may only be added)")
    refused += _factors(old.get("ablation"), new["ablation"])
    if refused:
        raise UserError(
            "the study has changed since it was begun; only budget, seeds, executor, further "
            "arms, factors and levels may grow:\n  "
            + "\n  ".join(refused)
            + "\nUse another --out for a new study."
        )
    grown = ("budget", "seeds", "executor", "arms", "ablation")
    lines = differences({k: old.get(k) for k in grown}, {k: new[k] for k in grown})
    smaller = {f"budget.{key}:" for key in old["budget"] if _less(new, old, key)}
    return [f"{line} (shrunk)" if line.split()[0] in smaller else line for line in lines]


def _seeds(old: Any, new: Any) -> list[str]:
    """What is wrong with a study's new seeds: a number may grow, of a rule only its `max`."""
    if isinstance(old, int) and isinstance(new, int):
        return [f"seeds: {old} -> {new} (may only grow)"] if new < old else []
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [f"seeds: {old} -> {new} (a rule stays a rule)"]
    lines = differences(old | {"max": 0}, new | {"max": 0}, "seeds")
    if new["max"] < old["max"]:
        lines.append(f"seeds.max: {old['max']} -> {new['max']} (may only grow)")
    return lines


def _factors(old: PlainData | None, new: PlainData | None) -> list[str]:
    """What is wrong with a study's new ablation: factors and levels may only be added."""
    if old is None or new is None:
        return differences(old, new, "ablation")
    stays = ("design", "baseline", "match", "tolerance", "within", "resolution")
    lines = differences({k: old[k] for k in stays}, {k: new[k] for k in stays}, "ablation")
    for name, factor in old["factors"].items():
        values = new["factors"].get(name, {}).get("values", {})
        for label, settings in factor["values"].items():
            if values.get(label) != settings:
                lines.append(f"ablation.factors.{name}.{label}: changed or removed")
    return lines


def _less(new: PlainData, old: PlainData, key: str) -> bool:
    """Whether a study has less of a budget than another; what is not stated is without end."""
    less, more = (study["budget"][key] for study in (new, old))
    return less is not None and (more is None or less < more)


def amendment_meta(meta: Mapping[str, str], lines: Sequence[str]) -> dict[str, str]:
    """What the ledger is to remember of a study's growth: when, and what, oldest first.

    Args:
        meta: what the ledger knows of its study.
        lines: what has changed now.
    """
    if not lines:
        return {}
    earlier = json.loads(meta.get("growth", "[]"))
    return {"growth": json.dumps([*earlier, {"when": utc_now(), "lines": [*lines]}])}


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
