"""Feasibility: which networks satisfy the limits of their study."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.trials import Limits
from partialnas.runs.config.metric_limits import Limit, limit_excess, total_violation


def add_feasible_column(rows: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Return the rows with a column `feasible` if any study states limits.

    As in a search, means over seeds are compared with the limits, and speeds as they were timed,
    which do not depend on measurements of other networks. A network without a value for a limited
    quantity is infeasible; networks of a study without limits are feasible.

    Args:
        rows: one row per network, see `aggregate`.
        limits: limits by folder of the study.
    """
    if not any(limits.values()):
        return rows
    return rows.assign(feasible=_excess(rows, limits).eq(0))


def feasibility_sentence(rows: pd.DataFrame, limits: Limits) -> str:
    """Return how many networks are within the limits of their study; empty without limits.

    Args:
        rows: one row per network, see `add_feasible_column`; baselines do not count.
        limits: limits by folder of the study.
    """
    if message := infeasible_message(rows, limits):
        return f"{message[0].upper()}{message[1:]}."
    limited = rows[rows["folder"].isin([folder for folder, stated in limits.items() if stated])]
    limited = limited[~limited["baseline"]]
    if limited.empty:
        return ""
    bounds = " and ".join(dict.fromkeys(_bounds(stated) for stated in limits.values() if stated))
    text = (
        f"Within the limits of the study ({bounds}): {limited['feasible'].sum():,} of "
        f"{len(limited):,} architectures; only these can be on the front."
    )
    if any(_is_rescaled(limited, key) for stated in limits.values() for key in stated):
        text += " Limits apply to speeds as they were timed, not to those on the common scale."
    return text


def infeasible_message(rows: pd.DataFrame, limits: Limits) -> str:
    """Return the limits that no network satisfies and the closest network, or an empty text.

    Args:
        rows: one row per network, see `add_feasible_column`; baselines do not count.
        limits: limits by folder of the study.
    """
    searched = rows[~rows["baseline"]]
    if searched.empty or "feasible" not in searched or searched["feasible"].any():
        return ""
    nearest = searched.iloc[[int(_excess(searched, limits).to_numpy().argmin())]]
    stated = limits[nearest["folder"].iloc[0]]
    reached = ", ".join(f"{key} {as_timed(nearest, key).iloc[0]:.4g}" for key in stated)
    none = f"no network is within the limits ({_bounds(stated)})"
    return f"{none}; the closest is {network_names(nearest).iloc[0]} with {reached}"


def _bounds(stated: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {Limit.model_validate(limit)}" for key, limit in stated.items())


def _excess(rows: pd.DataFrame, limits: Limits) -> "pd.Series[float]":
    """Return by how much each network violates the limits of its study; infinite if unknown."""
    total = pd.Series(0.0, index=rows.index)
    for folder, stated in limits.items():
        is_limited = rows["folder"].eq(folder)
        bounds = {key: Limit.model_validate(limit) for key, limit in stated.items()}
        values = zip(*(as_timed(rows, key)[is_limited] for key in bounds), strict=True)
        excess = [limit_excess(bounds, dict(zip(bounds, row, strict=True))) for row in values]
        if bounds:
            total[is_limited] = np.array([*map(total_violation, excess)])
    return total


def _is_rescaled(rows: pd.DataFrame, key: str) -> bool:
    """Return whether a quantity of any network differs from its value as timed."""
    if key not in rows:
        return False
    return not np.allclose(as_timed(rows, key), rows[key].astype("float64"), equal_nan=True)


def as_timed(rows: pd.DataFrame, key: str) -> "pd.Series[float]":
    """Return a quantity of networks; speeds as they were timed, not on the common scale."""
    if key not in rows:
        return pd.Series(float("nan"), index=rows.index)
    values = rows[key].astype("float64")
    if key not in ("throughput_img_s", "latency_ms") or "throughput_raw_img_s" not in rows:
        return values
    # results of a study's own function are not rescaled
    factor = (rows["throughput_raw_img_s"] / rows["throughput_img_s"]).fillna(1.0)
    return values / factor if key == "latency_ms" else values * factor
