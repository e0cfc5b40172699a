"""Effects of an ablation: comparison of each arm with its baseline, with seeds as blocks."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pandas as pd

from partialnas.analysis.ablation.arm_rows import ArmRows, arm_rows
from partialnas.analysis.frames.folders import Paths
from partialnas.analysis.frames.seed_means import FAILED_STATES, aggregate, require_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.stats.anova import anova
from partialnas.analysis.stats.linear_model import Values
from partialnas.analysis.stats.multiple_comparisons import Comparison, Contrast, compare
from partialnas.runs.config.design import CROSSED_DESIGNS, Design
from partialnas.runs.config.quantities import Quantity, differs_by_seed
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest

Pair = tuple[str, str]

_FINAL_STATES = ("done", "early", *FAILED_STATES)

COSTS = ("params", "macs", "throughput_img_s", "latency_ms")
"""Costs of an arm's network in tables; means over seeds if each seed has its own network."""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The effects of a study's arms on one quantity.

    Attributes:
        rows: trials of the arms, with the design.
        quantity: quantity under comparison.
        margin: largest negligible difference, or None if equivalence is not tested.
        table: one row per arm, see `effects`.
        values: values by arm and seed, of the trials that count.
        comparison: comparison of the arms with their baselines.
        steps: comparison of each rung of a ladder with the previous one; None for other designs.
        factorial: main effects and interactions (see `anova`); None for other designs.
        best: arm that is significantly better than every other, or None.
    """

    rows: ArmRows
    quantity: Quantity
    margin: float | None
    table: pd.DataFrame
    values: Values
    comparison: Comparison
    steps: Comparison | None
    factorial: pd.DataFrame | None
    best: str | None

    @property
    def design(self) -> Design | None:
        """Design of the study, or None for a plain list of arms."""
        return self.rows.design


def effects(
    folder: Paths,
    metric: str | None = None,
    *,
    margin: float | None = None,
    condition: str | None = None,
    against: str | None = None,
    level: float = 0.95,
) -> Effects:
    """Compare the arms of a study; the same ledger gives the same numbers.

    The table has for each arm: `arm`, one `level.FACTOR` per factor, `against`, `n` (number of
    seeds that count: done at full fidelity, with the quantity), `failed`, `missing` (not finished
    or not started), `state`, `mean`, `sd` (n - 1), the `difference` from its baseline with the
    simultaneous interval `low` to `high`, the adjusted `p`, the standardized `effect`,
    `equivalent_p`, the costs, and the error of the cost match. In a ladder, `step` to `step_p`
    describe the difference from the previous rung.

    Args:
        folder: folder of the study; several studies are combined if their tasks and recipes agree.
        metric: trained quantity as `KEY` or `KEY:min` / `KEY:max`; by default the study's first.
        margin: largest negligible difference, for equivalence tests; by default the design's.
        condition: condition to compare, for a study with several.
        against: arm that replaces the baselines of the design, or `none` for no comparisons; the
            default without a design is the first arm.
        level: confidence level of the simultaneous intervals.

    Raises:
        UserError: there are no trials or arms, a quantity, arm or condition is unknown, a condition
            must be chosen, or the studies have different recipes.
        MachineError: the ledger cannot be read.
    """
    rows = arm_rows(folder, condition)
    quantity = _quantity(rows.trials, metric)
    margin = _margin(rows.design, quantity, margin)
    values, same = _values(rows, quantity), _same(rows)
    first = rows.sequential.first_stage if rows.sequential else None
    test = partial(compare, values, level=level, margin=margin, first_stage=first, same=same)
    comparison = test(_pairs(rows, against))
    rungs = [*pairwise(rows.arms)] if rows.design and rows.design.kind == "ladder" else []
    steps = test([(after, before) for before, after in rungs]) if rungs else None
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
        best=best_arm(table, quantity, test, same),
    )


def best_arm(
    table: pd.DataFrame,
    quantity: Quantity,
    test: Callable[[Sequence[Pair]], Comparison],
    same: Mapping[str, str],
) -> str | None:
    """Return the arm that is significantly better than all others, or None.

    The arm with the best mean is compared with every other; all simultaneous intervals must exclude
    zero. This is Hsu's multiple comparison with the best (1984) at the two-sided critical value: at
    a level of 95 %, a wrong arm is selected in at most one of twenty studies. An arm with a failed
    seed is never selected.
    """
    ranked = table[table["mean"].notna()]
    if len(ranked) < 2:
        return None
    sign = 1 if quantity.better == "max" else -1
    top = ranked.iloc[int((sign * ranked["mean"]).argmax())]
    if top["failed"]:  # the mean over its other seeds is too good
        return None
    best = str(top["arm"])
    others = [arm for arm in ranked["arm"] if same.get(arm, arm) != same.get(best, best)]
    contrasts = test([(best, other) for other in others]).contrasts
    better = [(c.low if sign > 0 else -c.high) > 0 for c in contrasts]
    return best if better and all(better) else None


def _quantity(trials: Trials, metric: str | None) -> Quantity:
    require_trials(trials.frame)
    quantity = trials.quantity(metric or trials.deciding_quantity)
    if not differs_by_seed(quantity.key):
        raise UserError(
            f"{quantity.key}: does not differ between seeds, so that differences cannot be tested; "
            "choose a trained quantity such as val_nll or val_accuracy"
        )
    return quantity


def _margin(design: Design | None, quantity: Quantity, margin: float | None) -> float | None:
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise UserError(f"margin {margin:g}: expected a positive difference in {quantity.label}")
    return margin if margin is not None or design is None else design.margin.get(quantity.key)


def _values(rows: ArmRows, quantity: Quantity) -> dict[str, dict[int, float]]:
    """Return the values of the trials that count, by arm and seed."""
    counting = rows.frame[counts(rows.frame, quantity)]
    values: dict[str, dict[int, float]] = {arm: {} for arm in rows.arms}
    for row in counting[["arm", "seed", quantity.key]].itertuples(index=False):
        values[row[0]][int(row[1])] = float(row[2])
    return {arm: dict(sorted(seeds.items())) for arm, seeds in values.items() if seeds}


def counts(frame: pd.DataFrame, quantity: Quantity) -> "pd.Series[bool]":
    """Return which trials count: done at the study's full fidelity, with the quantity."""
    finite = frame[quantity.key].astype(float).abs().lt(math.inf)
    return frame["state"].eq("done") & frame["fidelity"].ge(frame["full_fidelity"]) & finite


def _same(rows: ArmRows) -> dict[str, str]:
    """Return arms that share all trials with an earlier arm (same network, same recipe)."""
    keys_by_arm = rows.frame.groupby("arm", sort=False)["key"]
    trials = {str(arm): frozenset(keys) for arm, keys in keys_by_arm}
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
        hint = suggest(baseline, (*rows.arms, "none"))
        raise UserError(f"unknown arm {quote(baseline)}; {hint}")
    return [(arm, baseline) for arm in rows.arms if arm != baseline]


def _factorial(rows: ArmRows, values: Values, level: float) -> pd.DataFrame | None:
    design = rows.design
    if design is None or design.kind not in CROSSED_DESIGNS:
        return None
    levels = {arm.name: arm.levels for arm in design.arms}
    designed = {arm: seeds for arm, seeds in values.items() if arm in levels}
    return anova(designed, levels, design.factors, level) if designed else None


def _table(
    rows: ArmRows,
    quantity: Quantity,
    values: Values,
    comparison: Comparison,
    steps: Comparison | None,
    level: float,
) -> pd.DataFrame:
    contrast_of = {contrast.arm: contrast for contrast in comparison.contrasts}
    step_of = {step.arm: step for step in steps.contrasts} if steps else {}
    columns = ["arm", "digest", "state", "fidelity", "full_fidelity", quantity.key, *COSTS, "noisy"]
    frame = rows.frame[columns]
    by_arm = dict.fromkeys(rows.arms, frame.iloc[:0]) | dict([*frame.groupby("arm")])
    table = (
        {
            "arm": arm,
            **_levels(rows.design, arm),
            **_seed_counts(by_arm[arm], rows.seeds.get(arm, 0), quantity),
            **_mean_and_sd(values.get(arm, {})),
            **_contrast(contrast_of.get(arm), level),
            **(_step(step_of.get(arm)) if steps else {}),
            **_costs(by_arm[arm]),
            **_cost_match(rows.design, arm),
        }
        for arm in rows.arms
    )
    return rounded(pd.DataFrame(table))


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Round real numbers to ten significant digits, since further digits depend on the machine."""
    reals = [str(key) for key, kind in table.dtypes.items() if kind == "float64"]
    return table.assign(**{key: [float(f"{value:.10g}") for value in table[key]] for key in reals})


def _levels(design: Design | None, name: str) -> dict[str, str]:
    if design is None:
        return {}
    arm = design.arm(name)
    return {f"level.{f.name}": arm.levels.get(f.name, "") if arm else "" for f in design.factors}


def _seed_counts(trials: pd.DataFrame, planned: int, quantity: Quantity) -> dict[str, Any]:
    """Return how many trials count, failed or are missing, and the state of an arm without any."""
    counted = int(counts(trials, quantity).sum())
    ended = int(trials["state"].isin(_FINAL_STATES).sum())
    missing = max(planned, len(trials)) - ended
    state = "" if counted else "failed" if ended else "missing"
    return {"n": counted, "failed": ended - counted, "missing": missing, "state": state}


def _mean_and_sd(values: Mapping[int, float]) -> dict[str, float]:
    column = pd.Series([*values.values()], dtype="float64")
    return {"mean": column.mean(), "sd": column.std()}


def _contrast(contrast: Contrast | None, level: float) -> dict[str, Any]:
    names = ("difference", "low", "high", "p", "effect", "equivalent_p")
    statistics = {name: getattr(contrast, name) if contrast else math.nan for name in names}
    equivalence = ""
    if not math.isnan(statistics["equivalent_p"]):
        equivalence = "equivalent" if statistics["equivalent_p"] < 1 - level else "not shown"
    return {
        "against": contrast.against if contrast else "",
        "pairs": contrast.n if contrast else 0,
        **statistics,
        "equivalence": equivalence,
    }


def _step(step: Contrast | None) -> dict[str, Any]:
    names = {"step": "difference", "step_low": "low", "step_high": "high", "step_p": "p"}
    return {key: getattr(step, name) if step else math.nan for key, name in names.items()}


def _costs(trials: pd.DataFrame) -> dict[str, Any]:
    costs = {key: trials[key].astype("float64").mean() for key in COSTS}
    return {**costs, "noisy": bool(trials["noisy"].any())}


def _cost_match(design: Design | None, name: str) -> dict[str, Any]:
    if design is None or design.match == "none":
        return {}
    arm = design.arm(name)
    match = arm.matched if arm else None
    error, problem = (match.error, match.problem) if match else (math.nan, "")
    return {"match_error": error, "unmatched": problem}


def unmatched_arms(result: Effects) -> frozenset[str]:
    """Return the arms without a twin within the tolerance."""
    arms = result.design.arms if result.design else ()
    return frozenset(arm.name for arm in arms if arm.matched and arm.matched.problem)


def limit_verdicts(result: Effects) -> dict[str, str]:
    """Return whether each arm is within the limits of its study: `yes`, `no` or `?`.

    Empty without limits; see `add_feasible_column`.
    """
    quantity, trials = result.quantity, result.rows.trials
    if trials.frame.empty or not any(trials.limits.values()):
        return {}
    rows = aggregate(trials, {quantity.key: quantity.better})
    return dict(zip(rows["arm"], rows["within_limits"], strict=True))


LIMIT_MARKS = {"no": "‡", "?": "?"}
"""Mark of arms outside the limits of their study, and of undecided ones."""


def mark_arms(result: Effects, labels: Iterable[str], arms: Iterable[str]) -> list[str]:
    """Return the label of each arm with its marks.

    A dagger means that the arm has no twin within the tolerance; see also `LIMIT_MARKS`.
    """
    unmatched, verdicts = unmatched_arms(result), limit_verdicts(result)
    marked = []
    for label, arm in zip(labels, arms, strict=True):
        marks = ["†"] * (arm in unmatched) + [LIMIT_MARKS.get(verdicts.get(arm, ""), "")]
        marked.append(" ".join(filter(None, [label, *marks])) if label else label)
    return marked


def mean_half_width(comparison: Comparison, n: int) -> float:
    """Return half the width of the interval of one mean, from the pooled deviation between seeds.

    The interval excludes the variation that all arms share, and is not simultaneous. NaN if there
    is no pooled deviation.
    """
    from scipy.special import stdtrit

    if not n or comparison.method != "dunnett":
        return math.nan
    quantile = float(stdtrit(comparison.degrees, (1 + comparison.level) / 2))
    return quantile * comparison.deviation / math.sqrt(n)
