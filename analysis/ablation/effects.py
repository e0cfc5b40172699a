"""What an ablation shows: each arm beside its baseline, with seeds as blocks."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.ablation.arm_rows import ArmRows, arm_rows
from partialnas.analysis.frames.columns import find_quantity
from partialnas.analysis.frames.seed_means import FAILED_STATES, require_trials
from partialnas.analysis.frames.selection import default_axes
from partialnas.analysis.stats.anova import anova
from partialnas.analysis.stats.multiple_comparisons import Comparison, Contrast, compare
from partialnas.runs.config.design import Design
from partialnas.runs.config.quantities import Quantity, differs_by_seed
from partialnas.space.errors import UserError

Pair = tuple[str, str]

_ENDED = ("done", "early", *FAILED_STATES)
"""States of trials that will not change any more."""

COSTS = ("params", "macs", "throughput_img_s", "latency_ms")
"""Costs of an arm's network that tables tell: means where each seed has a network of its own."""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The effects of a study's arms on one quantity.

    Attributes:
        rows: the trials, with the study's settings and its design.
        quantity: what is compared.
        margin: a difference that makes none; None where equivalence is not tested.
        table: one row per arm, see `effects`.
        values: by arm and seed, of the trials that count.
        comparison: of the arms with what they are compared with.
        steps: of a ladder's rungs, each with the one before; None for other designs.
        factorial: main effects and interactions (see `anova`); None for other designs.
        best: the arm that is better than every other, each interval excluding zero; or None.
    """

    rows: ArmRows
    quantity: Quantity
    margin: float | None
    table: pd.DataFrame
    values: Mapping[str, Mapping[int, float]]
    comparison: Comparison
    steps: Comparison | None
    factorial: pd.DataFrame | None
    best: str | None

    @property
    def design(self) -> Design | None:
        """The study's design; None for a plain list of arms."""
        return self.rows.design


def effects(
    folder: Path | str | Sequence[Path | str],
    metric: str | None = None,
    *,
    margin: float | None = None,
    condition: str | None = None,
    against: str | None = None,
    level: float = 0.95,
) -> Effects:
    """Compares the arms of a study; the same ledger gives the same numbers.

    The table has for each arm: `arm`, its `level.FACTOR`s, `against`, `n` (seeds that count: done,
    in full, with the quantity), `failed`, `missing` (planned or never begun), `state`, `mean`, `sd`
    (n - 1), the `difference` from its baseline with the simultaneous interval `low` to `high`,
    adjusted `p`, `effect` (standardised), `equivalent_p`, the same from `step` to `step_p` for the
    rung before, its costs, and how well it was matched.

    Args:
        folder: of the study; several are put together where task and recipe agree.
        metric: a trained quantity as `KEY` or `KEY:min` / `KEY:max`; by default the study's first.
        margin: a difference that makes none, for equivalence tests; by default the design's.
        condition: the one whose trials are compared, of a study that has several.
        against: an arm in place of the design's baselines, or `none` for no comparisons; without a
            design the first arm.
        level: of the simultaneous intervals.

    Raises:
        UserError: no trials or arms, an unknown quantity, arm or condition, a choice to make, or
            studies of different recipes.
        MachineError: the ledger cannot be read.
    """
    rows = arm_rows(folder, condition)
    quantity = _quantity(rows.frame, metric)
    margin = _margin(rows.design, quantity, margin)
    values, same = _values(rows, quantity), _same(rows)
    judge = partial(
        compare, values, level=level, margin=margin, first_stage=rows.first_stage, same=same
    )
    pairs = _pairs(rows, against)
    comparison = judge(pairs)
    rungs = [*pairwise(rows.arms)] if rows.design and rows.design.kind == "ladder" else []
    steps = judge([(after, before) for before, after in rungs]) if rungs else None
    table = _table(rows, quantity, values, comparison, steps, level)
    return Effects(
        rows=rows,
        quantity=quantity,
        margin=margin,
        table=table,
        values=values,
        comparison=comparison,
        steps=steps,
        factorial=_factorial(rows, {a: v for a, v in values.items() if a not in same}, level),
        best=best_arm(table, quantity, judge, same),
    )


def best_arm(
    table: pd.DataFrame,
    quantity: Quantity,
    judge: Callable[[Sequence[Pair]], Comparison],
    same: Mapping[str, str],
) -> str | None:
    """The arm that the intervals support as the best of all; None where they support none.

    The arm with the best mean is compared with every other; all simultaneous intervals must exclude
    zero. That is Hsu's multiple comparison with the best (1984) at the two-sided critical value,
    so the wrong arm is called the best in at most one of twenty studies at a level of 95 %.
    """
    known = table[table["mean"].notna()]
    if len(known) < 2:
        return None
    sign = 1 if quantity.better == "max" else -1
    best = str(known["arm"].iloc[int((sign * known["mean"]).argmax())])
    others = [arm for arm in known["arm"] if same.get(arm, arm) != same.get(best, best)]
    found = judge([(best, other) for other in others])
    ahead = [(each.low if sign > 0 else -each.high) > 0 for each in found.contrasts]
    return best if ahead and all(ahead) else None


def _quantity(frame: pd.DataFrame, metric: str | None) -> Quantity:
    require_trials(frame)
    quantity = find_quantity(metric or default_axes(frame)[1], frame)
    if not differs_by_seed(quantity.key):
        raise UserError(
            f"{quantity.key}: does not differ between seeds, so there is nothing to compare by "
            "them; choose a trained quantity such as val_nll or val_accuracy"
        )
    return quantity


def _margin(design: Design | None, quantity: Quantity, margin: float | None) -> float | None:
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise UserError(f"margin {margin:g}: expected a difference above 0, in {quantity.label}")
    return margin if margin is not None or design is None else design.margin.get(quantity.key)


def _values(rows: ArmRows, quantity: Quantity) -> dict[str, dict[int, float]]:
    """By arm and seed the values of the trials that count."""
    counting = rows.frame[counts(rows.frame, quantity)]
    values: dict[str, dict[int, float]] = {arm: {} for arm in rows.arms}
    for row in counting[["arm", "seed", quantity.key]].itertuples(index=False):
        values[row[0]][int(row[1])] = float(row[2])
    return {arm: dict(sorted(seeds.items())) for arm, seeds in values.items() if seeds}


def counts(frame: pd.DataFrame, quantity: Quantity) -> "pd.Series[bool]":
    """Which trials count: done, at the study's full fidelity, with the quantity."""
    finite = frame[quantity.key].astype(float).abs().lt(math.inf)
    return frame["state"].eq("done") & frame["fidelity"].ge(frame["full_fidelity"]) & finite


def _same(rows: ArmRows) -> dict[str, str]:
    """Arms whose trials are those of an earlier arm: the same network with the same recipe."""
    trials = {str(a): frozenset(of["key"]) for a, of in rows.frame.groupby("arm", sort=False)}
    first: dict[frozenset[str], str] = {}
    for arm in rows.arms:
        if trials.get(arm):
            first.setdefault(trials[arm], arm)
    return {arm: first[keys] for arm, keys in trials.items() if keys and first[keys] != arm}


def _pairs(rows: ArmRows, against: str | None) -> list[Pair]:
    if against is None and rows.design is not None:
        return [*rows.design.contrasts]
    if against == "none" and against not in rows.arms:
        return []
    baseline = against or rows.arms[0]
    if baseline not in rows.arms:
        raise UserError(f"{baseline!r}: no such arm; there are {', '.join(rows.arms)}, or none")
    return [(arm, baseline) for arm in rows.arms if arm != baseline]


def _factorial(
    rows: ArmRows, values: Mapping[str, Mapping[int, float]], level: float
) -> pd.DataFrame | None:
    design = rows.design
    if design is None or design.kind not in ("factorial", "fractional"):
        return None
    levels = {arm.name: arm.levels for arm in design.arms}
    of_design = {arm: seeds for arm, seeds in values.items() if arm in levels}
    return anova(of_design, levels, design.factors, level) if of_design else None


def _table(
    rows: ArmRows,
    quantity: Quantity,
    values: Mapping[str, Mapping[int, float]],
    comparison: Comparison,
    steps: Comparison | None,
    level: float,
) -> pd.DataFrame:
    told = {each.arm: each for each in comparison.contrasts}
    stepped = {each.arm: each for each in steps.contrasts} if steps else {}
    needed = ["arm", "digest", "state", "fidelity", "full_fidelity", quantity.key, *COSTS, "noisy"]
    frame = rows.frame[needed]
    by_arm = dict.fromkeys(rows.arms, frame.iloc[:0]) | dict([*frame.groupby("arm")])
    table = (
        {
            "arm": arm,
            **_levels(rows.design, arm),
            **_seeds(by_arm[arm], rows.seeds.get(arm, 0), quantity),
            **_spread(values.get(arm, {})),
            **_contrast(told.get(arm), level),
            **(_step(stepped.get(arm)) if steps else {}),
            **_costs(by_arm[arm]),
            **_matched(rows.design, arm),
        }
        for arm in rows.arms
    )
    return rounded(pd.DataFrame(table))


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ten significant digits in its real numbers, beyond which machines differ."""
    reals = [str(key) for key, kind in table.dtypes.items() if kind == "float64"]
    return table.assign(**{key: [float(f"{value:.10g}") for value in table[key]] for key in reals})


def _levels(design: Design | None, arm: str) -> dict[str, str]:
    if design is None:
        return {}
    found = design.arm(arm)
    return {
        f"level.{f.name}": found.levels.get(f.name, "") if found else "" for f in design.factors
    }


def _seeds(trials: pd.DataFrame, planned: int, quantity: Quantity) -> dict[str, Any]:
    """How many trials count, failed, or are missing, and the word for an arm without a value."""
    counted = int(counts(trials, quantity).sum())
    ended = int(trials["state"].isin(_ENDED).sum())
    missing = max(planned, len(trials)) - ended
    state = "" if counted else "failed" if ended else "missing"
    return {"n": counted, "failed": ended - counted, "missing": missing, "state": state}


def _spread(values: Mapping[int, float]) -> dict[str, float]:
    column = pd.Series([*values.values()], dtype="float64")
    return {"mean": column.mean(), "sd": column.std()}


def _contrast(found: Contrast | None, level: float) -> dict[str, Any]:
    names = ("difference", "low", "high", "p", "effect", "equivalent_p")
    told = {name: getattr(found, name) if found else math.nan for name in names}
    verdict = ""
    if not math.isnan(told["equivalent_p"]):
        verdict = "equivalent" if told["equivalent_p"] < 1 - level else "not shown"
    against = found.against if found else ""
    return {"against": against, "pairs": found.n if found else 0, **told, "equivalence": verdict}


def _step(found: Contrast | None) -> dict[str, Any]:
    names = {"step": "difference", "step_low": "low", "step_high": "high", "step_p": "p"}
    return {key: getattr(found, name) if found else math.nan for key, name in names.items()}


def _costs(trials: pd.DataFrame) -> dict[str, Any]:
    told = {key: trials[key].astype("float64").mean() for key in COSTS}
    return {**told, "noisy": bool(trials["noisy"].any())}


def _matched(design: Design | None, arm: str) -> dict[str, Any]:
    if design is None or design.match == "none":
        return {}
    found = design.arm(arm)
    matched = found.matched if found else None
    return {
        "match_error": matched.error if matched else math.nan,
        "unmatched": matched.problem if matched else "",
    }


def unmatched_arms(found: Effects) -> frozenset[str]:
    """The arms for which no twin within the tolerance was found."""
    arms = found.design.arms if found.design else ()
    return frozenset(arm.name for arm in arms if arm.matched and arm.matched.problem)


def mean_half_width(comparison: Comparison, n: int) -> float:
    """Half the width of the interval of one mean, from the pooled deviation between seeds.

    What seeds have in common is taken out; the interval holds for this mean alone. NaN where one
    deviation for all arms is not known.
    """
    from scipy.special import stdtrit

    if not n or comparison.method != "dunnett":
        return math.nan
    quantile = float(stdtrit(comparison.degrees, (1 + comparison.level) / 2))
    return quantile * comparison.deviation / math.sqrt(n)
