"""Columns of frames of trials: quantities, and names of networks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pandas as pd
from pandas.api.types import is_numeric_dtype

from partialnas.runs.config.quantities import QUANTITIES, Direction, Quantity, readable_name
from partialnas.space.errors import UserError
from partialnas.space.validation import suggest

_NOT_QUANTITIES = frozenset(
    (
        *("trial", "seed", "fidelity", "full_fidelity", "threads", "batch_size", "resolution"),
        *("relative_low", "relative_high", "noisy", "tainted", "baseline", "warnings"),
        *("feasible", "attempts", "failures"),
    )
)


def find_quantity(
    name: str, frame: pd.DataFrame, objectives: Mapping[str, Direction] | None = None
) -> Quantity:
    """Return the quantity that `name` asks for: `KEY`, or `KEY:min` / `KEY:max` for a direction.

    A user's own metric is a quantity too; `name` or the study's objectives state its direction.

    Raises:
        UserError: the frame has no such numbers, or nothing states which direction is better.
    """
    key, _, direction = name.partition(":")
    if key not in known_quantities(frame):
        raise UserError(_unknown(key, known_quantities(frame)))
    registered = QUANTITIES.get(key)
    if not direction:
        direction = registered.better if registered else (objectives or {}).get(key, "")
    if direction not in ("min", "max"):
        raise UserError(f"{name}: unknown direction; write {key}:min or {key}:max")
    plain = registered or Quantity(key=key, name=readable_name(key), better="min")
    return replace(plain, better=cast(Direction, direction))


def known_quantities(frame: pd.DataFrame) -> list[str]:
    """Return the quantities that `frame` has columns for: registered ones, then users' metrics."""
    numeric = [str(key) for key, kind in frame.dtypes.items() if is_numeric_dtype(kind)]
    metrics = [key for key in numeric if key not in QUANTITIES and key not in _NOT_QUANTITIES]
    return [key for key in QUANTITIES if key in numeric] + metrics


def _unknown(name: str, choices: list[str]) -> str:
    return f"{name}: these trials have no such quantity; {suggest(name, choices)}"


def network_names(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return the name of each arm; `#7`, the number of the first trial, for other networks."""
    return rows["arm"].where(rows["arm"].ne(""), "#" + rows["trial"].astype(str))


def calls_function(trials: pd.DataFrame) -> bool:
    """Return whether a function of the user evaluated any of the trials."""
    return "function" in trials and bool(trials["function"].fillna("").ne("").any())
