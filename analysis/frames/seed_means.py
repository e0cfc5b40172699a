"""Means over seeds: one row per network from one row per trial."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Objectives
from partialnas.analysis.frames.columns import find_quantity, known_quantities
from partialnas.analysis.frames.feasibility import add_feasible_column
from partialnas.analysis.frames.folders import Paths
from partialnas.analysis.frames.load import as_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.runs.config.quantities import differs_by_seed
from partialnas.space.errors import UserError

FAILED_STATES = ("failed", "timeout")
"""States of trials that ended without a result."""

_PER_TRIAL = (
    *("key", "seed", "state", "reason", "warnings", "attempts", "failures", "last_failure"),
    "function_source",
)


def aggregate(
    trials: Trials | pd.DataFrame | Paths, objectives: Objectives | None = None
) -> pd.DataFrame:
    """Return one row per architecture of each study and condition, in the order of first trials.

    The networks of one arm make one row, even if each seed has its own network (learned ratios);
    counts and speeds are then means over these networks. Trained quantities are means over the
    completed trials: done, at full fidelity, with every trained objective. `n` counts these trials,
    `_sd` columns hold their standard deviation (n − 1), `failed` counts failed trials (see
    `has_failed_seed`), `trial` is the number of the first trial. If a study states limits,
    `feasible` states whether a network satisfies them (see `add_feasible_column`).

    Trials on the lower rungs of a search (state `early`) do not count; networks without other
    trials are left out.

    Args:
        trials: trials of one or several studies, as `load` or `load_trials` returns them.
        objectives: quantities that decide, and the direction of each; by default those of each
            study.

    Raises:
        UserError: no trials, or an unknown objective.
    """
    trials = as_trials(trials)
    require_trials(trials.frame)
    frame = trials.frame[trials.frame["state"].ne("early")]
    if frame.empty:
        raise UserError("no network has been trained at full fidelity yet; let the search continue")
    deciding = objectives_by_folder(trials, frame, objectives)
    if objectives is None:  # a metric that no trial has reached yet has no column
        absent = {key for of in deciding.values() for key in of} - {*frame.columns}
        frame = frame.assign(**dict.fromkeys(sorted(absent), np.nan))
    for key, better in dict.fromkeys(pair for of in deciding.values() for pair in of.items()):
        find_quantity(f"{key}:{better}", frame)
    code = architecture_codes(frame).to_numpy()
    trained = [key for key in known_quantities(frame) if differs_by_seed(key)]
    counts = _counted_trials(frame, deciding)
    values = frame[trained].astype(float).where(counts).groupby(code)
    facts = frame.drop(columns=[*trained, *_PER_TRIAL], errors="ignore")
    if len(code) == code.max() + 1:  # one trial per architecture
        rows = _of_single_trials(frame, facts, counts, trained)
        return add_feasible_column(rows, trials.limits)
    facts = facts.groupby(code).first()
    for key in _averaged(frame, trained):
        facts[key] = _mean(frame[key], code)
    n = counts.groupby(code).sum().rename("n")
    failed = frame["state"].isin(FAILED_STATES).groupby(code).sum().rename("failed")
    rows = pd.concat([facts, n, failed, values.mean(), values.std().add_suffix("_sd")], axis=1)
    return add_feasible_column(rows, trials.limits)


def objectives_by_folder(
    trials: Trials, frame: pd.DataFrame, objectives: Objectives | None
) -> dict[str, Objectives]:
    """Return the objectives that decide in each study of a frame, by folder.

    Args:
        trials: settings of the studies.
        frame: trials or networks of these studies.
        objectives: the same objectives for all studies, or None for those of each study.

    Raises:
        UserError: nothing states the objectives of a study.
    """
    folders = map(str, frame["folder"].unique()) if "folder" in frame else [""]
    deciding = {
        folder: trials.objectives_of(folder) if objectives is None else objectives
        for folder in folders
    }
    if not all(deciding.values()):
        raise UserError("no objectives: name at least one quantity, such as val_nll: min")
    return deciding


def _counted_trials(frame: pd.DataFrame, deciding: Mapping[str, Objectives]) -> "pd.Series[bool]":
    """Return which trials count: those completed with every trained objective of their study."""
    trained = {folder: {*filter(differs_by_seed, keys)} for folder, keys in deciding.items()}
    groups = {frozenset(keys) for keys in trained.values()}
    if len(groups) == 1:
        return completed_mask(frame, sorted(groups.pop()))
    counts = pd.Series(data=False, index=frame.index)
    for folder, keys in trained.items():
        counts |= frame["folder"].eq(folder) & completed_mask(frame, sorted(keys))
    return counts


def _of_single_trials(
    frame: pd.DataFrame, facts: pd.DataFrame, counts: "pd.Series[bool]", trained: list[str]
) -> pd.DataFrame:
    """Return the rows of `aggregate` if every architecture has one trial."""
    values = frame[trained].astype(float).where(counts)
    n = counts.astype("int64").rename("n")
    failed = frame["state"].isin(FAILED_STATES).astype("int64").rename("failed")
    spreads = pd.DataFrame(np.nan, index=frame.index, columns=[f"{key}_sd" for key in trained])
    return pd.concat([facts, n, failed, values, spreads], axis=1).reset_index(drop=True)


def architecture_codes(frame: pd.DataFrame) -> "pd.Series[int]":
    """Return the number, from 0, of the architecture or arm of each trial."""
    network = frame["digest"]
    if "arm" in frame:
        network = network.where(frame["arm"].eq(""), "")
    keys = [frame[key] for key in ("folder", "condition", "arm") if key in frame]
    # constant keys change nothing and take time
    differing = [key for key in keys if key.nunique(dropna=False) > 1]
    return frame.groupby([*differing, network], sort=False, dropna=False).ngroup()


def _averaged(frame: pd.DataFrame, trained: list[str]) -> list[str]:
    """Return the counted and measured columns, which differ if each seed has its own network."""
    ends = [key for key in ("relative_low", "relative_high") if key in frame]
    return [key for key in (*known_quantities(frame), *ends) if key not in trained]


def _mean(column: "pd.Series[Any]", code: Any) -> "pd.Series[Any]":
    mean = column.astype("float64").groupby(code).mean()
    return mean.round().astype(column.dtype) if column.dtype == "Int64" else mean


def require_trials(frame: pd.DataFrame) -> None:
    """Raise an error if there are no trials.

    Raises:
        UserError: the frame has no rows.
    """
    if frame.empty:
        raise UserError("no trials: this study has not run any yet")


def has_failed_seed(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which networks have a failed trial: they compete on no front and in no ranking.

    Their means cover the seeds that ended well. That is no mean over all seeds: whether a training
    fails depends on the network, and a network that diverges for some seeds must not win by the
    others. A search treats them in the same way.

    Args:
        rows: one row per network, see `aggregate`.
    """
    return rows["failed"].gt(0)


def completed_mask(frame: pd.DataFrame, trained: list[str]) -> "pd.Series[bool]":
    """Return which trials are done, at full fidelity, with every quantity of `trained`."""
    counts = frame["state"].eq("done") & frame[trained].notna().all(axis=1)
    if "full_fidelity" in frame:
        counts &= frame["fidelity"].ge(frame["full_fidelity"])
    return counts
