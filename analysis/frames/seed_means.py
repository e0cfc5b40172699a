"""Means over seeds: one row per network from one row per trial."""

from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Objectives
from partialnas.analysis.frames.columns import find_quantity, known_quantities
from partialnas.analysis.frames.feasibility import add_feasible_column
from partialnas.analysis.frames.trials import Trials, as_trials
from partialnas.runs.config.quantities import differs_by_seed
from partialnas.space.errors import UserError

FAILED_STATES = ("failed", "timeout")
"""States of trials that ended without a result."""


_PER_TRIAL = ("key", "seed", "state", "reason", "warnings")


def aggregate(trials: Trials | pd.DataFrame, objectives: Objectives) -> pd.DataFrame:
    """One row per architecture of each study and condition, in the order of their first trials.

    The networks of one arm make one row, also where each seed has its own (learned ratios, and what
    follows from them); counts and speeds are then means over these. Trained quantities are means
    over the trials that count: done, at the study's full fidelity, with every trained objective.
    `n` is how many those are, `_sd` columns hold their standard deviation (n − 1), `failed` is how
    many trials failed; `trial` is the first one's number. Where a study states limits, `feasible`
    tells which networks satisfy them (see `analysis.limits`).

    Trials on the rungs below the last of a search (`early`) are left out, and networks that have
    no others with them.

    Raises:
        UserError: there are no trials, or an objective is unknown.
    """
    trials = as_trials(trials)
    require_trials(trials.frame)
    frame = trials.frame[trials.frame["state"].ne("early")]
    if frame.empty:
        raise UserError("no network has been trained in full yet: let the search go on")
    if not objectives:
        raise UserError("no objectives: name at least one quantity, such as val_nll: min")
    keys = [find_quantity(f"{key}:{better}", frame).key for key, better in objectives.items()]
    code = architecture_codes(frame).to_numpy()
    trained = [key for key in known_quantities(frame) if differs_by_seed(key)]
    counts = completed_mask(frame, [key for key in keys if differs_by_seed(key)])
    values = frame[trained].astype(float).where(counts).groupby(code)
    facts = frame.drop(columns=[*trained, *_PER_TRIAL], errors="ignore")
    if len(code) == code.max() + 1:  # one trial each: nothing to put together
        rows = _of_single_trials(frame, facts, counts, trained)
        return add_feasible_column(rows, trials.limits)
    facts = facts.groupby(code).first()
    for key in _averaged(frame, trained):
        facts[key] = _mean(frame[key], code)
    n = counts.groupby(code).sum().rename("n")
    failed = frame["state"].isin(FAILED_STATES).groupby(code).sum().rename("failed")
    rows = pd.concat([facts, n, failed, values.mean(), values.std().add_suffix("_sd")], axis=1)
    return add_feasible_column(rows, trials.limits)


def _of_single_trials(
    frame: pd.DataFrame, facts: pd.DataFrame, counts: "pd.Series[bool]", trained: list[str]
) -> pd.DataFrame:
    """The rows of `aggregate` where every architecture has one trial."""
    values = frame[trained].astype(float).where(counts)
    n = counts.astype("int64").rename("n")
    failed = frame["state"].isin(FAILED_STATES).astype("int64").rename("failed")
    spreads = pd.DataFrame(np.nan, index=frame.index, columns=[f"{key}_sd" for key in trained])
    return pd.concat([facts, n, failed, values, spreads], axis=1).reset_index(drop=True)


def architecture_codes(frame: pd.DataFrame) -> "pd.Series[int]":
    """The number, from 0, of the architecture or arm that each trial is of."""
    network = frame["digest"]
    if "arm" in frame:
        network = network.where(frame["arm"].eq(""), "")
    keys = [frame[key] for key in ("folder", "condition", "arm") if key in frame]
    differing = [key for key in keys if key.nunique(dropna=False) > 1]  # others cost time alone
    return frame.groupby([*differing, network], sort=False, dropna=False).ngroup()


def _averaged(frame: pd.DataFrame, trained: list[str]) -> list[str]:
    """Counted and measured columns, which differ within an arm where each seed has a network."""
    ends = [key for key in ("relative_low", "relative_high") if key in frame]
    return [key for key in (*known_quantities(frame), *ends) if key not in trained]


def _mean(column: "pd.Series[Any]", code: Any) -> "pd.Series[Any]":
    mean = column.astype("float64").groupby(code).mean()
    return mean.round().astype(column.dtype) if column.dtype == "Int64" else mean


def require_trials(frame: pd.DataFrame) -> None:
    """Refuses a table without rows.

    Raises:
        UserError: there are no trials.
    """
    if frame.empty:
        raise UserError("no trials: nothing has been run in this study yet")


def completed_mask(frame: pd.DataFrame, trained: list[str]) -> "pd.Series[bool]":
    """Which trials count: done, at the study's full fidelity, with every quantity of `trained`."""
    counts = frame["state"].eq("done") & frame[trained].notna().all(axis=1)
    if "full_fidelity" in frame:
        counts &= frame["fidelity"].ge(frame["full_fidelity"])
    return counts
