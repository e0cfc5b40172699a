"""Compare a study with the one that its ledger was created for: allowed amendments, or an error."""

import json
import math
from collections.abc import Sequence
from typing import Any

from partialnas.runs.config.overrides import PlainData
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.runs.system.environment import utc_now
from partialnas.search.study.study_fields import immutable_settings
from partialnas.space.errors import UserError
from partialnas.space.validation import first_messages, quote


def find_amendments(old: PlainData, new: PlainData) -> list[str]:
    """Return the allowed changes to a study, one line each; a smaller budget is marked.

    Args:
        old: the frozen study in the ledger.
        new: the frozen study to continue with.

    Raises:
        UserError: something else than the budget, seeds, executor or additional arms, factors and
            levels has changed.
    """
    errors = [*differences(immutable_settings(old), immutable_settings(new))]
    errors += _seed_errors(old["seeds"], new["seeds"])
    for name, arm in old["arms"].items():
        if new["arms"].get(name) != arm:
            errors.append(f"arms.{name}: changed or removed (arms may only be added)")
    errors += _ablation_errors(old.get("ablation"), new["ablation"])
    if errors:
        raise UserError(
            "the study has changed since its ledger was created; only the budget, seeds and "
            "executor may change, and arms, factors and levels may be added:\n  "
            + "\n  ".join(first_messages(errors))
            + "\nUndo these changes, or start a new study in another folder with --out."
        )
    amendable = ("budget", "seeds", "executor", "arms", "ablation")
    lines = differences({k: old.get(k) for k in amendable}, {k: new[k] for k in amendable})
    smaller = {f"budget.{key}:" for key in old["budget"] if _is_smaller(new, old, key)}
    return [f"{line} (reduced)" if line.split()[0] in smaller else line for line in lines]


def _seed_errors(old: Any, new: Any) -> list[str]:
    """Return the errors in new seeds: a number may grow; in a rule, only `max` may grow."""
    if isinstance(old, int) and isinstance(new, int):
        return [f"seeds: {old} -> {new} (may only grow)"] if new < old else []
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [f"seeds: {old} -> {new} (a number or a rule must stay one)"]
    lines = differences(old | {"max": 0}, new | {"max": 0}, "seeds")
    if new["max"] < old["max"]:
        lines.append(f"seeds.max: {old['max']} -> {new['max']} (may only grow)")
    return lines


def _ablation_errors(old: PlainData | None, new: PlainData | None) -> list[str]:
    """Return the errors in a new ablation: factors and levels may only be added."""
    if old is None or new is None:
        return differences(old, new, "ablation")
    fixed = ("design", "baseline", "match", "tolerance", "within", "resolution")
    lines = differences({k: old[k] for k in fixed}, {k: new[k] for k in fixed}, "ablation")
    for name, factor in old["factors"].items():
        values = new["factors"].get(name, {}).get("values", {})
        for label, settings in factor["values"].items():
            if values.get(label) != settings:
                lines.append(f"ablation.factors.{name}.{label}: changed or removed")
    return lines


def _is_smaller(new: PlainData, old: PlainData, key: str) -> bool:
    """Return whether one limit of a budget is smaller than before; None is unlimited."""
    after, before = new["budget"][key], old["budget"][key]
    return after is not None and (before is None or after < before)


def amendment_meta(study: RecordedStudy, lines: Sequence[str]) -> dict[str, str]:
    """Return the ledger metadata that records amendments with their time, oldest first.

    Args:
        study: the study as recorded in the ledger.
        lines: the new amendments.
    """
    if not lines:
        return {}
    return {"growth": json.dumps([*study.amendments, {"when": utc_now(), "lines": [*lines]}])}


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return `path: old -> new` for every place where two nested values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        nested = [differences(old.get(k), new.get(k), f"{path}.{k}" if path else k) for k in keys]
        return [line for lines in nested for line in lines]
    if old == new or (_is_nan(old) and _is_nan(new)):
        return []
    return [f"{path}: {quote(old)} -> {quote(new)}"]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
