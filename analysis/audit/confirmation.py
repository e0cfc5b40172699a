"""Confirmations: what chosen arms reach with fresh seeds, beside what they were chosen for."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from partialnas.analysis.frames.arms import load_arm_trials
from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.feasibility import infeasible_message
from partialnas.analysis.frames.load import load, load_trials
from partialnas.analysis.frames.seed_means import aggregate
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import front
from partialnas.runs.config.design import StudyStage
from partialnas.runs.config.quantities import Quantity
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import UserError

_LEVEL = 0.95


def select_networks(folder: str | Path, top: str, condition: str = "") -> dict[str, str]:
    """The digests of the networks to be confirmed, by what they are called.

    Args:
        folder: the study's.
        top: `front` (the front of the study's objectives), `all` (all arms), or a number: so many
            of the best by what the study decides by. An ablation's baselines come along.
        condition: of the study that decides.

    Raises:
        UserError: nothing to choose from, no such condition, or `top` is none of these.
    """
    trials = load_trials(folder)
    frame = trials.frame
    known = list(frame["condition"].unique())
    if known == [""] and condition:
        raise UserError(f"--condition {condition}: the study has no conditions")
    if known and condition not in known:
        raise UserError(f"--condition: choose one of {', '.join(map(str, known))}")
    trials = trials.where(frame["condition"].eq(condition))
    rows = _ranked(trials, top)
    names = network_names(rows)
    chosen = dict(zip(names, rows["digest"], strict=True))
    return _baselines(folder, trials.frame, chosen) | chosen


def _ranked(trials: Trials, top: str) -> pd.DataFrame:
    quantity = trials.quantity(trials.default_axes()[1])
    if top == "front":
        everyone = front(trials, trials.objectives)
        rows = everyone[everyone["on_front"]]
    else:
        everyone = aggregate(trials, {quantity.key: quantity.better})
        rows = everyone[everyone["n"].gt(0)]
    if rows.empty:
        why = (
            infeasible_message(everyone, trials.limits)
            or "no network has finished its trials"
        )
        raise UserError(f"nothing to choose from: {why}")
    ordered = rows.sort_values(quantity.key, ascending=quantity.better == "min", kind="stable")
    if top in ("front", "all"):
        return ordered
    if not top.isdigit() or not int(top):
        raise UserError(f"--top: expected front, all or a number from 1, got {top!r}")
    return ordered.head(int(top))


def _baselines(folder: str | Path, frame: pd.DataFrame, chosen: dict[str, str]) -> dict[str, str]:
    """What chosen arms of an ablation are compared with."""
    with Ledger.open(Path(folder)) as ledger:
        design = ledger.study.design
    against = [arm.against for arm in design.arms if arm.name in chosen] if design else []
    digests = dict(zip(frame["arm"], frame["digest"], strict=True))
    return {name: digests[name] for name in against if name is not None and name in digests}


class Confirmation(NamedTuple):
    """Results of a confirmation: `table`, the deciding `quantity`, and the `stage`."""

    table: pd.DataFrame
    quantity: Quantity
    stage: StudyStage


def confirmation_table(folder: str | Path, stage: str = "confirm") -> Confirmation:
    """What a stage of confirmation found: one row an arm, in the order of what was confirmed.

    Returns:
        `arm`, `n` (fresh seeds that are done), `failed`, the deciding quantity as `chosen` (mean of
        the trials that the choice was made from), `confirmed` (mean of fresh seeds) and
        `confirmed_sd`, `shift` (confirmed minus chosen), and mean, deviation and the ends of the
        95 % t interval of test accuracy and test log-likelihood over fresh seeds (`test_accuracy`,
        `_sd`, `_low`, `_high`).

    Raises:
        UserError: the study has no such stage.
    """
    with Ledger.open(Path(folder)) as ledger:
        stages = ledger.study.stages
    if stage not in stages:
        there = f"; there are {', '.join(stages)}" if stages else ""
        raise UserError(f"{folder}: has no stage {stage!r}{there}; see `partialnas confirm --help`")
    fresh = load(folder, stage=stage)
    trials = load_trials(folder)
    trials = trials.where(trials.frame["condition"].eq(stages[stage].condition))
    own, quantity = trials.frame, trials.quantity(trials.default_axes()[1])
    shared = load_arm_trials(folder).frame
    shared = shared[shared["condition"].eq(stages[stage].condition)]
    rows = []
    for arm, rows_of_arm in fresh.groupby("arm", sort=False):
        before = own[own["digest"].eq(rows_of_arm["digest"].iloc[0])]
        if arm in set(shared["arm"]):
            before = shared[shared["arm"].eq(arm)]
        rows.append(_row(str(arm), before, rows_of_arm, quantity.key))
    table = pd.DataFrame(rows).sort_values(
        "confirmed", ascending=quantity.better == "min", kind="stable"
    )
    return Confirmation(table.reset_index(drop=True), quantity, stages[stage])


def _row(arm: str, before: pd.DataFrame, trials: pd.DataFrame, key: str) -> dict[str, Any]:
    done = trials[trials["state"].eq("done")]
    chosen = before.loc[before["state"].eq("done"), key].mean()
    row: dict[str, Any] = {
        "arm": arm,
        "n": len(done),
        "failed": int(trials["state"].isin(("failed", "timeout")).sum()),
        "chosen": chosen,
        "confirmed": done[key].mean(),
        "confirmed_sd": done[key].std(),
        "shift": done[key].mean() - chosen,
    }
    for test in ("test_accuracy", "test_nll"):
        mean, deviation = done[test].mean(), done[test].std()
        half = _half_width(deviation, len(done))
        row |= {
            test: mean,
            f"{test}_sd": deviation,
            f"{test}_low": mean - half,
            f"{test}_high": mean + half,
        }
    return row


def _half_width(deviation: float, n: int) -> float:
    """Of the t interval of a mean; NaN for a single seed."""
    from scipy.stats import t

    if n < 2:
        return math.nan
    return float(t.ppf((1 + _LEVEL) / 2, n - 1)) * deviation / math.sqrt(n)
