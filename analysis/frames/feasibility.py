"""Which networks satisfy the limits that their study states."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.trials import Limits
from partialnas.runs.config.metric_limits import Limit


def add_feasible_column(rows: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """The rows with a column `feasible`, where any study states limits.

    As in the search, means over seeds count, and of speeds the figures as they were timed, which
    measurements of other networks do not change. A network without a figure that is limited does
    not satisfy the limit; networks of a study without limits satisfy all there are.

    Args:
        rows: one for each network, as `aggregate` has them.
        limits: by folder.
    """
    if not any(limits.values()):
        return rows
    return rows.assign(feasible=_excess(rows, limits).eq(0))


def feasibility_sentence(rows: pd.DataFrame, limits: Limits) -> str:
    """How many networks are within the limits of their study, as a sentence; empty without limits.

    Args:
        rows: one for each network, as `add_feasible_column` gives them; baselines do not count.
        limits: by folder.
    """
    if told := infeasible_message(rows, limits):
        return f"{told[0].upper()}{told[1:]}."
    own = rows[rows["folder"].isin([folder for folder, stated in limits.items() if stated])]
    own = own[~own["baseline"]]
    if own.empty:
        return ""
    bounds = " and ".join(dict.fromkeys(_bounds(stated) for stated in limits.values() if stated))
    text = (
        f"Within the limits of the study ({bounds}): {own['feasible'].sum():,} of {len(own):,} "
        "architectures; the front is made of these alone."
    )
    if any(_is_rescaled(own, key) for stated in limits.values() for key in stated):
        text += " Speeds are held against limits as they were timed, not on the common scale."
    return text


def infeasible_message(rows: pd.DataFrame, limits: Limits) -> str:
    """Which limits no network is within, and which comes nearest; empty where one is within all.

    Args:
        rows: one for each network, as `add_feasible_column` gives them; baselines do not count.
        limits: by folder.
    """
    own = rows[~rows["baseline"]]
    if own.empty or "feasible" not in own or own["feasible"].any():
        return ""
    nearest = own.iloc[[int(_excess(own, limits).to_numpy().argmin())]]
    stated = limits[nearest["folder"].iloc[0]]
    reached = ", ".join(f"{key} {as_timed(nearest, key).iloc[0]:.4g}" for key in stated)
    none = f"no network is within the limits ({_bounds(stated)})"
    return f"{none}; {network_names(nearest).iloc[0]} comes nearest with {reached}"


def _bounds(stated: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {Limit.model_validate(told)}" for key, told in stated.items())


def _excess(rows: pd.DataFrame, limits: Limits) -> "pd.Series[float]":
    """By how much each network is beyond the limits of its study; infinite where unknown."""
    total = pd.Series(0.0, index=rows.index)
    for folder, stated in limits.items():
        own = rows["folder"].eq(folder)
        for key, told in stated.items():
            values = as_timed(rows, key)
            excess = values.map(Limit.model_validate(told).excess).clip(lower=0)
            total += excess.where(np.isfinite(values), np.inf).where(own, 0.0)
    return total


def _is_rescaled(rows: pd.DataFrame, key: str) -> bool:
    """Whether a quantity of any network is told on a scale other than the one it was timed on."""
    return key in rows and not np.allclose(
        as_timed(rows, key), rows[key].astype("float64"), equal_nan=True
    )


def as_timed(rows: pd.DataFrame, key: str) -> "pd.Series[float]":
    """A quantity of networks; of speeds not the one on a common scale, but the one as timed."""
    if key not in rows:
        return pd.Series(float("nan"), index=rows.index)
    values = rows[key].astype("float64")
    if key not in ("throughput_img_s", "latency_ms") or "throughput_raw_img_s" not in rows:
        return values
    # what a study's own function told was never put on another scale
    factor = (rows["throughput_raw_img_s"] / rows["throughput_img_s"]).fillna(1.0)
    return values / factor if key == "latency_ms" else values * factor
