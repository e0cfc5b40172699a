"""Feasibility: which networks satisfy the limits of their study."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.trials import Limits
from partialnas.runs.config.metric_limits import (
    Limit,
    Reading,
    limit_excess,
    total_violation,
    within_limits,
)
from partialnas.runs.config.quantities import QUANTITIES, Quantity

UNDECIDED_NOTE = (
    "?: undecided; the 95 % interval of the timing contains the limit, the timing is noisy or "
    "disturbed, or the value is missing. Search and front go by the value itself; a missing one is "
    "outside."
)
"""Explanation of the mark in tables and captions."""


def add_feasible_column(rows: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Return the rows with the columns `feasible` and `within_limits` if any study states limits.

    As in a search, the values that tables show are compared with the limits: means over seeds, and
    speeds on the common scale. `feasible` states whether these values satisfy the limits; it
    decides who can be on a front. `within_limits` is `yes`, `no`, or `?` where a timing does not
    decide (see `within_limits`). A network without a value for a limited quantity is infeasible;
    networks of a study without limits are feasible.

    Args:
        rows: one row per network, see `aggregate`.
        limits: limits by folder of the study.
    """
    if not any(limits.values()):
        return rows
    return rows.assign(feasible=_excess(rows, limits).eq(0), within_limits=_verdicts(rows, limits))


def limits_of(limits: Limits, folder: str) -> dict[str, Limit]:
    """Return the limits of the study in a folder."""
    return {key: Limit.model_validate(limit) for key, limit in limits.get(folder, {}).items()}


def measured_interval(rows: pd.DataFrame, quantity: Quantity) -> Floats:
    """Return the ends of the 95 % interval of a timing, shape (rows, 2); NaN if unknown."""
    if not quantity.timed or "relative_low" not in rows:
        return np.full((len(rows), 2), np.nan)
    ends = rows[["relative_low", "relative_high"]].to_numpy(float)
    share = ends / rows[["relative_throughput"]].to_numpy(float)
    if quantity.key == "latency_ms":
        share = 1 / share[:, ::-1]
    interval: Floats = rows[quantity.key].to_numpy(float)[:, None] * share
    return interval


def feasibility_sentence(rows: pd.DataFrame, limits: Limits) -> str:
    """Return how many networks are within the limits of their study; empty without limits.

    Args:
        rows: one row per network, see `add_feasible_column`; baselines do not count.
        limits: limits by folder of the study.
    """
    note = undecided_note(rows)
    if message := infeasible_message(rows, limits):
        return f"{message[0].upper()}{message[1:]}. {note}".strip()
    limited = rows[rows["folder"].isin([folder for folder, stated in limits.items() if stated])]
    limited = limited[~limited["baseline"]]
    if limited.empty:
        return ""
    bounds = " and ".join(
        dict.fromkeys(_bounds(limits_of(limits, folder)) for folder, of in limits.items() if of)
    )
    text = (
        f"Within the limits of the study ({bounds}): {limited['feasible'].sum():,} of "
        f"{len(limited):,} architectures; only these can be on the front."
    )
    return f"{text} {note}".strip()


def undecided_note(rows: pd.DataFrame) -> str:
    """Return the explanation of `?` if it marks any of the rows, else an empty text."""
    marked = "within_limits" in rows and rows["within_limits"].eq("?").any()
    return UNDECIDED_NOTE if marked else ""


def infeasible_message(rows: pd.DataFrame, limits: Limits) -> str:
    """Return the limits that no network satisfies and the closest network, or an empty text.

    Args:
        rows: one row per network, see `add_feasible_column`; baselines do not count.
        limits: limits by folder of the study.
    """
    searched = rows[~rows["baseline"]]
    if searched.empty or "feasible" not in searched or searched["feasible"].any():
        return ""
    excess = _excess(searched, limits).to_numpy()
    nearest = searched.iloc[[int(excess.argmin())]]
    stated = limits_of(limits, nearest["folder"].iloc[0])
    if np.isinf(excess).all():
        return f"no network has values for all limits yet ({_bounds(stated)})"
    reached = ", ".join(
        f"{key} {_text(key, value, limit)}"
        for (key, limit), value in zip(stated.items(), _values(nearest, stated)[0], strict=True)
    )
    none = f"no network is within the limits ({_bounds(stated)})"
    return f"{none}; the closest is {network_names(nearest).iloc[0]} with {reached}"


def _text(key: str, value: float, limit: Limit) -> str:
    quantity = QUANTITIES.get(key) or Quantity(key=key, name=key, better="min")
    return quantity.text(value, limit=limit)


def _bounds(stated: Mapping[str, Limit]) -> str:
    return ", ".join(f"{key} {limit}" for key, limit in stated.items())


def _values(rows: pd.DataFrame, stated: Mapping[str, Limit]) -> Floats:
    """Return the limited quantities, one row per network; NaN if a value is missing."""
    return rows.reindex(columns=[*stated]).to_numpy(float, na_value=np.nan)


def _excess(rows: pd.DataFrame, limits: Limits) -> "pd.Series[float]":
    """Return by how much each network violates the limits of its study; infinite if unknown."""
    total = pd.Series(0.0, index=rows.index)
    for folder in limits:
        stated, chosen = limits_of(limits, folder), rows["folder"].eq(folder)
        values = _values(rows[chosen], stated).tolist()
        excess = (limit_excess(stated, dict(zip(stated, row, strict=True))) for row in values)
        total[chosen] = np.array([*map(total_violation, excess)], dtype=float)
    return total


def _verdicts(rows: pd.DataFrame, limits: Limits) -> "pd.Series[str]":
    """Return whether each network is within the limits of its study: yes, no or ?."""
    verdicts = pd.Series("yes", index=rows.index, dtype=object)
    for folder in limits:
        stated, chosen = limits_of(limits, folder), rows["folder"].eq(folder)
        if stated and chosen.any():
            readings = [_readings(rows[chosen], key) for key in stated]
            networks = (dict(zip(stated, row, strict=True)) for row in zip(*readings, strict=True))
            decided = [within_limits(stated, network) for network in networks]
            verdicts[chosen] = np.array(decided, dtype=object)
    return verdicts


def _readings(rows: pd.DataFrame, key: str) -> list[Reading]:
    """Return a limited quantity of each network with its interval and its mark."""
    if key not in rows:
        return [Reading(np.nan)] * len(rows)
    quantity = QUANTITIES.get(key) or Quantity(key=key, name=key, better="min")
    values = rows[key].to_numpy(float, na_value=np.nan).tolist()
    ends = measured_interval(rows, quantity).tolist()
    marks = rows["noisy"].tolist() if quantity.timed else [False] * len(rows)
    rows_of = zip(values, ends, marks, strict=True)
    return [Reading(value, low, high, mark) for value, (low, high), mark in rows_of]
