"""Which networks of a study an audit trains longer: some of the front, the rest spread evenly."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.seed_means import require_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import front
from partialnas.analysis.stats.rank_correlation import MIN_NETWORKS
from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError


@dataclass(frozen=True)
class Sample:
    """The networks of an audit.

    Attributes:
        digests: of the networks, by what they are called.
        description: how they were chosen.
    """

    digests: dict[str, str]
    description: str


def choose_sample(
    folder: str | Path, size: int, *, metric: str | None = None, condition: str = ""
) -> Sample:
    """A sample of a study's networks, the same one for the same trials.

    Half of it at most are members of the front of the study's objectives, all where there are no
    more, else spread evenly over it. The others are ordered by the quantity that the study decides
    by, parted into as many strata with equally many networks, and the middle one of each is taken.
    In a search with rungs all are ordered by the lowest one, which all were trained on. Reference
    arms beside a search are left out.

    Args:
        folder: the study's.
        size: networks.
        metric: the quantity that decides; without it the study's first trained objective.
        condition: of the study that they were trained under.

    Raises:
        UserError: fewer than three networks have finished a training, or there is no such quantity
            or condition.
    """
    whole = load_trials(folder)
    require_trials(whole.frame)
    whole = whole.under(condition or None)
    if whole.frame["condition"].nunique() > 1:
        names = ", ".join(whole.frame["condition"].unique())
        raise UserError(f"{folder}: choose one of {names} with --condition")
    trials = whole.where(~whole.frame["baseline"] & ~_trained_otherwise(whole.frame))
    frame = trials.frame
    quantity = trials.quantity(metric or trials.default_axes()[1])
    values = _values(frame, quantity)
    if len(values) < MIN_NETWORKS:
        raise UserError(
            f"{folder}: an audit compares rankings, for which it takes {MIN_NETWORKS} networks with "
            f"{quantity.key} at least; {len(values)} have finished a training"
        )
    on_front = values.index.isin(front_names(trials, quantity))
    members, others = values[on_front], values[~on_front]
    taken = _spread(members, max(size // 2, size - len(others)))
    rest = _spread(others, size - len(taken))
    words = (
        f"{len(taken) + len(rest)} of {len(values)} networks: {len(taken)} of the {len(members)} "
        f"on the front, {len(rest)} of the others spread evenly over {quantity.key}"
    )
    digests = dict(zip(called(frame), frame["digest"], strict=True))
    return Sample({name: digests[name] for name in [*taken.index, *rest.index]}, words)


def _trained_otherwise(frame: pd.DataFrame) -> "pd.Series[bool]":
    """The trials of arms that are trained for another number of epochs than the study states."""
    usual = frame["full_fidelity"].mode()
    return frame["full_fidelity"].ne(usual.iloc[0] if len(usual) else 0)


def _values(frame: pd.DataFrame, quantity: Quantity) -> "pd.Series[float]":
    """Of each network the mean of its cheapest trainings, from the best to the worst."""
    ended = frame[frame["state"].isin(("done", "early")) & frame[quantity.key].notna()]
    rung = trial_rungs(ended)
    lowest = rung[rung > 0].min() if rung.any() else 0
    cheapest = ended[rung.eq(lowest)]
    means = cheapest[quantity.key].groupby(called(frame)[cheapest.index], sort=False).mean()
    return means.sort_values(ascending=quantity.better == "min", kind="stable")


def trial_rungs(frame: pd.DataFrame) -> "pd.Series[int]":
    """The rung that each trial was trained on, from 1; of trials that were trained in full 0.

    Zero also where a search has no rungs, and where a trial failed on one of them.
    """
    number = frame["reason"].where(frame["state"].eq("early")).str.extract(r"rung (\d+) of")[0]
    return pd.to_numeric(number).fillna(0).astype("int64")


def front_names(trials: Trials, quantity: Quantity) -> set[str]:
    """What the members of the front of a study's objectives are called (see `called`).

    Args:
        trials: trials of the study.
        quantity: that decides where the study states no objectives.
    """
    if trials.frame["state"].eq("early").all():
        return set()
    rows = front(trials, trials.objectives or {quantity.key: quantity.better})
    members = rows[rows["on_front"]]
    return {*network_names(members)}


def called(frame: pd.DataFrame) -> "pd.Series[str]":
    """What the network of each trial is called: its arm, or the number of its first trial, as `#7`.

    Of a search with rungs that of the first one that is in full, if there is one, as on its front.
    """
    order = frame.assign(early=frame["state"].eq("early")).sort_values(["early", "trial"])
    first = order.drop_duplicates("digest").set_index("digest")["trial"]
    numbers = "#" + frame["digest"].map(first).astype(str)
    return frame["arm"].where(frame["arm"].ne(""), numbers)


def _spread(values: "pd.Series[float]", count: int) -> "pd.Series[float]":
    """So many of them, each the middle one of as many strata."""
    count = max(0, min(count, len(values)))
    edges = np.arange(count) * len(values) / max(count, 1)
    middle = edges + len(values) / max(count, 1) / 2
    return values.iloc[np.floor(middle).astype(int)]
