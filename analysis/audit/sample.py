"""Selection of the networks that an audit trains longer: the front, and others spread evenly."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.seed_means import FAILED_STATES, require_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import front
from partialnas.analysis.stats.rank_correlation import MIN_NETWORKS
from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError


@dataclass(frozen=True)
class Sample:
    """The networks of an audit.

    Attributes:
        digests: digests of the networks by label.
        description: how the networks were selected.
    """

    digests: dict[str, str]
    description: str


def choose_sample(
    folder: str | Path, size: int, *, metric: str | None = None, condition: str = ""
) -> Sample:
    """Select a sample of a study's networks; the same trials give the same sample.

    At most half of the sample are members of the front of the study's objectives: all members, or a
    selection spread evenly over the front. The other networks are ordered by the deciding quantity
    and divided into strata of equal size, and the middle one of each stratum is selected. In a
    search with rungs, networks are ordered by their results on the lowest rung, which all have.
    Reference arms of a search are excluded.

    Args:
        folder: folder of the study.
        size: number of networks.
        metric: quantity that decides; by default the study's first trained objective.
        condition: condition that the networks were trained under.

    Raises:
        UserError: fewer than three networks have finished training, or the quantity or condition is
            unknown.
    """
    whole = load_trials(folder)
    require_trials(whole.frame)
    whole = whole.under(condition or None)
    if whole.frame["condition"].nunique() > 1:
        names = ", ".join(whole.frame["condition"].unique())
        raise UserError(f"{folder}: several conditions; choose one of {names} as the condition")
    trials = whole.where(~whole.frame["baseline"] & ~_has_other_epochs(whole.frame))
    frame = trials.frame
    quantity = trials.quantity(metric or trials.deciding_quantity)
    values = _values(frame, quantity)
    if len(values) < MIN_NETWORKS:
        raise UserError(
            f"{folder}: an audit compares rankings and needs at least {MIN_NETWORKS} networks with "
            f"{quantity.key}; {len(values)} have finished training"
        )
    on_front = values.index.isin(front_names(whole))
    members, others = values[on_front], values[~on_front]
    first = _spread_evenly(members, max(size // 2, size - len(others)))
    rest = _spread_evenly(others, size - len(first))
    description = (
        f"{len(first) + len(rest)} of {len(values)} networks: {len(first)} of the {len(members)} "
        f"on the front, {len(rest)} of the others spread evenly over {quantity.key}"
    )
    digests = dict(zip(_labels(frame), frame["digest"], strict=True))
    return Sample({name: digests[name] for name in [*first.index, *rest.index]}, description)


def _has_other_epochs(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Return which trials have another full number of epochs than most of the study."""
    usual = frame["full_fidelity"].mode()
    return frame["full_fidelity"].ne(usual.iloc[0] if len(usual) else 0)


def _values(frame: pd.DataFrame, quantity: Quantity) -> "pd.Series[float]":
    """Return the mean of each network over its cheapest trials, from the best to the worst.

    Networks with a failed trial are left out (see `has_failed_seed`).
    """
    labels = _labels(frame)
    with_failure = labels[frame["state"].isin(FAILED_STATES)]
    frame = frame[~labels.isin(with_failure)]
    ended = frame[frame["state"].isin(("done", "early")) & frame[quantity.key].notna()]
    rung = trial_rungs(ended)
    lowest = rung[rung > 0].min() if rung.any() else 0
    cheapest = ended[rung.eq(lowest)]
    means = cheapest[quantity.key].groupby(labels[cheapest.index], sort=False).mean()
    return means.sort_values(ascending=quantity.better == "min", kind="stable")


def trial_rungs(frame: pd.DataFrame) -> "pd.Series[int]":
    """Return the rung of each trial, counted from 1; 0 at full fidelity and for failed trials."""
    number = frame["reason"].where(frame["state"].eq("early")).str.extract(r"rung (\d+) of")[0]
    return pd.to_numeric(number).fillna(0).astype("int64")


def front_names(trials: Trials) -> set[str]:
    """Return the labels of the networks on the front of a study's objectives."""
    if trials.frame["state"].eq("early").all():
        return set()
    rows = front(trials)
    return {*network_names(rows[rows["on_front"]])}


def _labels(frame: pd.DataFrame) -> "pd.Series[str]":
    """Return the network of each trial: its arm, or the number of its first trial, such as `#7`.

    In a search with rungs, the first trial at full fidelity counts if there is one.
    """
    order = frame.assign(early=frame["state"].eq("early")).sort_values(["early", "trial"])
    first = order.drop_duplicates("digest").set_index("digest")["trial"]
    numbers = "#" + frame["digest"].map(first).astype(str)
    return frame["arm"].where(frame["arm"].ne(""), numbers)


def _spread_evenly(values: "pd.Series[float]", count: int) -> "pd.Series[float]":
    """Return `count` of the ordered values: the middle one of each of `count` strata."""
    count = max(0, min(count, len(values)))
    edges = np.arange(count) * len(values) / max(count, 1)
    middle = edges + len(values) / max(count, 1) / 2
    return values.iloc[np.floor(middle).astype(int)]
