"""Confirmations: results of selected networks with fresh seeds, compared with the original ones."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arms import load_arm_trials
from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.feasibility import infeasible_message
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.seed_means import FAILED_STATES, aggregate, has_failed_seed
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import front
from partialnas.runs.config.design import StudyStage
from partialnas.runs.config.quantities import QUANTITIES, Quantity
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest

_LEVEL = 0.95


def select_networks(folder: str | Path, top: str, condition: str = "") -> dict[str, str]:
    """Return the digests of the networks to confirm, by label.

    Args:
        folder: folder of the study.
        top: `front` (front of the study's objectives), `all` (all arms), or the number of the best
            networks by the deciding quantity, within the limits and without a failed seed. The
            baselines of an ablation are added.
        condition: condition of the trials that decide.

    Raises:
        UserError: there is no network to select, the condition is unknown, or `top` is invalid.
    """
    trials = load_trials(folder)
    frame = trials.frame
    conditions = list(frame["condition"].unique())
    if conditions == [""] and condition:
        raise UserError(f"--condition {condition}: the study has no conditions")
    if conditions and condition not in conditions:
        given = f"--condition {condition}".strip()
        raise UserError(f"{given}: {suggest(condition, conditions)}")
    trials = trials.where(frame["condition"].eq(condition))
    rows = _best_networks(trials, top)
    selected = dict(zip(network_names(rows), rows["digest"], strict=True))
    return _baselines(folder, trials.frame, selected) | selected


def _best_networks(trials: Trials, top: str) -> pd.DataFrame:
    quantity = trials.quantity(trials.deciding_quantity)
    if top == "front":
        networks = front(trials)
        rows = networks[networks["on_front"]]
    else:
        networks = aggregate(trials, {quantity.key: quantity.better})
        is_chosen = networks["n"].gt(0)
        if top != "all":
            is_chosen &= ~has_failed_seed(networks)
        if top != "all" and "feasible" in networks:
            is_chosen &= networks["feasible"]
        rows = networks[is_chosen]
    if rows.empty:
        reason = infeasible_message(networks, trials.limits)
        raise UserError(f"no network to select: {reason or 'no network has finished its trials'}")
    ordered = rows.sort_values(quantity.key, ascending=quantity.better == "min", kind="stable")
    if top in ("front", "all"):
        return ordered
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", top):
        raise UserError(f"--top: expected front, all or a positive number, got {quote(top)}")
    return ordered.head(int(top))


def _baselines(folder: str | Path, frame: pd.DataFrame, selected: dict[str, str]) -> dict[str, str]:
    """Return the baselines of the selected arms of an ablation."""
    with Ledger.open(Path(folder)) as ledger:
        design = ledger.study.design
    against = [arm.against for arm in design.arms if arm.name in selected] if design else []
    digests = dict(zip(frame["arm"], frame["digest"], strict=True))
    return {name: digests[name] for name in against if name is not None and name in digests}


class Confirmation(NamedTuple):
    """Results of a confirmation.

    Attributes:
        table: one row per arm, see `confirmation_table`.
        quantity: quantity that decides in the study.
        stage: stage of the confirmation.
        others: other objectives of the study.
    """

    table: pd.DataFrame
    quantity: Quantity
    stage: StudyStage
    others: Sequence[Quantity]

    def objective_columns(self) -> dict[str, list[str]]:
        """Return the other objectives by label, as texts: at selection → with fresh seeds."""
        rows = self.table.to_dict("records")
        return {
            quantity.label: [_course(row, quantity) for row in rows] for quantity in self.others
        }


def _course(row: Mapping[Any, Any], quantity: Quantity) -> str:
    """Return a quantity of an arm; a trained one at selection and with fresh seeds."""
    texts = (quantity.text(row[f"{quantity.key}_{when}"]) for when in ("chosen", "confirmed"))
    return " → ".join(filter(None, texts))


def confirmation_table(folder: str | Path, stage: str = "confirm") -> Confirmation:
    """Return the results of a stage of confirmation, one row per arm.

    Returns:
        `arm`, `n` (number of fresh seeds that are done), `failed`, the deciding quantity as
        `chosen` (mean of the trials behind the selection), `confirmed` (mean of the fresh seeds)
        and `confirmed_sd`, `shift` (confirmed minus chosen), and mean, standard deviation and the
        ends of the 95 % t interval of test accuracy and test log-likelihood over the fresh seeds
        (`test_accuracy`, `_sd`, `_low`, `_high`), within the bounds of the quantity. Of each other
        objective, `KEY_chosen` is the value at selection; `KEY_confirmed` is the mean of the fresh
        seeds, missing for counts and measurements. The best confirmed arm comes first.

    Raises:
        UserError: the study has no such stage.
    """
    with Ledger.open(Path(folder)) as ledger:
        stages = ledger.study.stages
    if stage not in stages:
        hint = suggest(stage, stages) or "see `partialnas confirm --help`"
        raise UserError(f"{folder}: the study has no stage {quote(stage)}; {hint}")
    fresh = load_trials(folder, stage=stage).frame
    trials = load_trials(folder)
    trials = trials.where(trials.frame["condition"].eq(stages[stage].condition))
    study, quantity = trials.frame, trials.quantity(trials.deciding_quantity)
    others = [trials.quantity(key) for key in trials.objectives if key != quantity.key]
    by_arm = load_arm_trials(folder).frame
    by_arm = by_arm[by_arm["condition"].eq(stages[stage].condition)]
    rows = []
    for arm, confirmed in fresh.groupby("arm", sort=False):
        original = study[study["digest"].eq(confirmed["digest"].iloc[0])]
        if arm in set(by_arm["arm"]):
            original = by_arm[by_arm["arm"].eq(arm)]
        row = _row(str(arm), original, confirmed, quantity.key)
        rows.append(row | _other_values(original, confirmed, others))
    ascending = quantity.better == "min"
    table = pd.DataFrame(rows).sort_values("confirmed", ascending=ascending, kind="stable")
    return Confirmation(table.reset_index(drop=True), quantity, stages[stage], others)


def _row(arm: str, original: pd.DataFrame, confirmed: pd.DataFrame, key: str) -> dict[str, Any]:
    done = confirmed[confirmed["state"].eq("done")]
    chosen = original.loc[original["state"].eq("done"), key].mean()
    row: dict[str, Any] = {
        "arm": arm,
        "n": len(done),
        "failed": int(confirmed["state"].isin(FAILED_STATES).sum()),
        "chosen": chosen,
        "confirmed": done[key].mean(),
        "confirmed_sd": done[key].std(),
        "shift": done[key].mean() - chosen,
    }
    for test in ("test_accuracy", "test_nll"):
        mean, deviation = done[test].mean(), done[test].std()
        half = _half_width(deviation, len(done))
        row |= {test: mean, f"{test}_sd": deviation}
        ends = np.clip((mean - half, mean + half), *QUANTITIES[test].bounds)
        row |= dict(zip((f"{test}_low", f"{test}_high"), ends.tolist(), strict=True))
    return row


def _other_values(
    original: pd.DataFrame, confirmed: pd.DataFrame, objectives: Sequence[Quantity]
) -> dict[str, float]:
    values: dict[str, float] = {}
    for quantity in objectives:
        key, trained = quantity.key, quantity.source == "trained"
        chosen, fresh = (rows[rows["state"].eq("done")] for rows in (original, confirmed))
        values[f"{key}_chosen"] = chosen[key].astype("float64").mean()
        values[f"{key}_confirmed"] = fresh[key].mean() if trained and key in fresh else math.nan
    return values


def _half_width(deviation: float, n: int) -> float:
    """Return half the width of the t interval of a mean; NaN for a single seed."""
    from scipy.special import stdtrit

    if n < 2:
        return math.nan
    return float(stdtrit(n - 1, (1 + _LEVEL) / 2)) * deviation / math.sqrt(n)
