"""What may be concluded of arms against baselines: simultaneous intervals, with seeds as blocks."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

import numpy as np

from partialnas.analysis.stats.linear_model import BlockFit, Values, equal_variances_p, fit
from partialnas.analysis.stats.multivariate_t import (
    as_correlation,
    critical_value,
    exceedance_probability,
    two_sided_power,
)

Pair = tuple[str, str]
Method = Literal["dunnett", "paired", "none"]

UNEQUAL_BELOW = 0.01
"""Level of the check of equal variances: below it, contrasts are paired instead of pooled.

Paired contrasts of few seeds resolve almost nothing, and on real residuals, whose tails are heavy,
a check at 5 % raises false alarms more than twice as often (see docs/statistics.md)."""


@dataclass(frozen=True)
class Contrast:
    """An arm compared with another; figures that cannot be told are NaN.

    Attributes:
        arm: the one that is judged.
        against: its baseline.
        n: seeds that both have.
        difference: arm minus baseline.
        low: lower end of the simultaneous interval.
        high: its upper end.
        p: adjusted for all contrasts.
        effect: difference over the residual deviation, with Hedges' correction.
        equivalent_p: of two one-sided tests against the margin, for this contrast alone.
    """

    arm: str
    against: str
    n: int
    difference: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    effect: float = math.nan
    equivalent_p: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """All contrasts of a study, judged together.

    Attributes:
        contrasts: in the order asked for.
        method: `dunnett`: pooled deviation; `paired`: each contrast by itself, Holm's p-values and
            Bonferroni's intervals; `none`: nothing can be concluded.
        level: of the simultaneous intervals.
        deviation: pooled residual standard deviation between seeds.
        degrees: of freedom of what the intervals rest on; paired, of a contrast with all seeds.
        critical: simultaneous critical value that belongs to them.
        variance_p: of the check of equal variances; NaN where there are too few arms or seeds.
        seeds: the blocks.
        note: one sentence for captions: which method and why.
    """

    contrasts: tuple[Contrast, ...]
    method: Method
    level: float
    deviation: float
    degrees: int
    critical: float
    variance_p: float
    seeds: tuple[int, ...]
    note: str


def compare(
    values: Values,
    pairs: Sequence[Pair],
    *,
    level: float = 0.95,
    margin: float | None = None,
    first_stage: Collection[int] | None = None,
    same: Mapping[str, str] | None = None,
) -> Comparison:
    """Judges each pair of arm and baseline, so that all intervals hold together at `level`.

    The model is value = arm + seed + residual with one residual deviation, fitted to all cells
    there are, those of arms in no pair among them. Where the residuals' variances differ between
    arms (`UNEQUAL_BELOW`), each contrast is a paired t test over its seeds instead.

    Args:
        values: of finished trials by arm and seed, without NaN.
        pairs: arm and what it is compared with.
        level: of the intervals together.
        margin: a difference that makes no difference, in the values' unit, for equivalence tests.
        first_stage: seeds that fixed how many more were run (Stein's procedure): deviation, degrees
            of freedom and the choice of method come from them alone, means from all seeds.
        same: arms that share the trainings of another arm, which then count once.
    """
    known = same or {}
    judged = [(known.get(arm, arm), known.get(against, against)) for arm, against in pairs]
    counted = {arm: cells for arm, cells in values.items() if known.get(arm, arm) == arm}
    first = counted if first_stage is None else _only(counted, first_stage)
    whole, spread = fit(counted), fit(first)
    variance_p = equal_variances_p(spread)
    if not spread.degrees:
        verdicts = _Verdicts(
            "none", 0, math.nan, [_Verdict(whole.difference(*pair)) for pair in judged]
        )
    elif variance_p < UNEQUAL_BELOW:
        verdicts = _paired(counted, first, judged, level)
    else:
        verdicts = _dunnett(whole, spread, judged, level)
    contrasts = tuple(
        _contrast(names, _common(counted, pair), verdict, margin)
        for names, pair, verdict in zip(pairs, judged, verdicts.each, strict=True)
    )
    return Comparison(
        contrasts=contrasts,
        method=verdicts.method,
        level=level,
        deviation=spread.deviation,
        degrees=verdicts.degrees,
        critical=verdicts.critical,
        variance_p=variance_p,
        seeds=whole.seeds,
        note=_note(verdicts, spread, variance_p, level, first_stage is not None, margin),
    )


@dataclass(frozen=True)
class _Verdict:
    """One contrast; without degrees of freedom, no more than its difference is known.

    `error` is the standard error of the difference, `deviation` that between seeds, `p` adjusted.
    """

    difference: float
    error: float = math.nan
    degrees: int = 0
    deviation: float = math.nan
    critical: float = math.nan
    p: float = math.nan


@dataclass(frozen=True)
class _Verdicts:
    """Those of all contrasts by one method."""

    method: Method
    degrees: int
    critical: float
    each: Sequence[_Verdict]


def _only(values: Values, seeds: Collection[int]) -> Values:
    kept = set(seeds)
    return {arm: {s: v for s, v in cells.items() if s in kept} for arm, cells in values.items()}


def _common(values: Values, pair: Pair) -> int:
    return len(values.get(pair[0], {}).keys() & values.get(pair[1], {}).keys())


def _dunnett(whole: BlockFit, spread: BlockFit, pairs: Sequence[Pair], level: float) -> _Verdicts:
    """Pooled deviation, and the exact distribution of the largest of the correlated t."""
    degrees, deviation = spread.degrees, spread.deviation
    told = {pair: weights for pair in pairs if (weights := whole.contrast_weights(*pair)) is not None}
    apart = [pair for pair in told if pair[0] != pair[1]]
    each = {pair: _Verdict(0.0, 0.0, degrees, deviation, 0.0, 1.0) for pair in told}
    critical = math.nan
    if apart:
        weights = np.stack([told[pair] for pair in apart])
        covariance = whole.covariance(weights)
        correlation = as_correlation(covariance)
        critical = critical_value(level, degrees, correlation)
        differences = [whole.estimate(each) for each in weights]
        errors = (deviation * np.sqrt(np.diag(covariance))).tolist()
        sizes = np.array([_ratio(d, e) for d, e in zip(differences, errors, strict=True)])
        beyond = exceedance_probability(sizes, degrees, correlation).tolist()
        for pair, difference, error, p in zip(apart, differences, errors, beyond, strict=True):
            each[pair] = _Verdict(difference, error, degrees, deviation, critical, p)
    unknown = _Verdict(math.nan)
    return _Verdicts("dunnett", degrees, critical, [each.get(pair, unknown) for pair in pairs])


def _paired(values: Values, first: Values, pairs: Sequence[Pair], level: float) -> _Verdicts:
    """Each contrast by the differences of its own seeds: Holm's p-values, Bonferroni's intervals.

    Deviations are of the `first` seeds, which also stay exact where these fixed how many followed.
    """
    from scipy.special import stdtr, stdtrit

    alone = [_paired_verdict(values, first, pair) for pair in pairs]
    told = len({pair for pair, verdict in zip(pairs, alone, strict=True) if verdict.degrees})
    tail = (1 - level) / (2 * max(told, 1))
    each = [
        replace(
            verdict,
            critical=float(stdtrit(verdict.degrees, 1 - tail)),
            p=float(2 * stdtr(verdict.degrees, -abs(_ratio(verdict.difference, verdict.error)))),
        )
        if verdict.degrees
        else verdict
        for verdict in alone
    ]
    adjusted = _holm({pair: v.p for pair, v in zip(pairs, each, strict=True) if v.degrees})
    each = [replace(v, p=adjusted.get(pair, v.p)) for pair, v in zip(pairs, each, strict=True)]
    most = max(each, key=lambda verdict: verdict.degrees, default=_Verdict(math.nan))
    return _Verdicts("paired", most.degrees, most.critical, each)


def _paired_verdict(values: Values, first: Values, pair: Pair) -> _Verdict:
    """Difference, error and deviation of one pair."""
    every, early = _differences(values, pair), _differences(first, pair)
    if not every:
        return _Verdict(math.nan)
    if len(early) < 2:
        return _Verdict(fmean(every))
    spread = stdev(early)
    return _Verdict(
        fmean(every), spread / math.sqrt(len(every)), len(early) - 1, spread / math.sqrt(2)
    )


def _differences(values: Values, pair: Pair) -> list[float]:
    arm, against = (values.get(name, {}) for name in pair)
    return [arm[seed] - against[seed] for seed in sorted(arm.keys() & against.keys())]


def _holm(p: Mapping[Pair, float]) -> dict[Pair, float]:
    """Holm's step-down adjustment."""
    adjusted: dict[Pair, float] = {}
    least = 0.0
    for rank, pair in enumerate(sorted(p, key=lambda each: p[each])):
        least = max(least, min(1.0, (len(p) - rank) * p[pair]))
        adjusted[pair] = least
    return adjusted


def _ratio(difference: float, error: float) -> float:
    """Difference over error; without any noise infinite, and zero for no difference."""
    if error > 0:
        return difference / error
    return math.copysign(math.inf, difference) if difference else 0.0


def _contrast(names: Pair, n: int, verdict: _Verdict, margin: float | None) -> Contrast:
    width = verdict.critical * verdict.error
    return Contrast(
        *names,
        n=n,
        difference=verdict.difference,
        low=verdict.difference - width,
        high=verdict.difference + width,
        p=verdict.p,
        effect=_effect(verdict),
        equivalent_p=_equivalent_p(verdict, margin),
    )


def _effect(verdict: _Verdict) -> float:
    """Cohen's d with Hedges' exact correction, which needs two degrees of freedom."""
    half = verdict.degrees / 2
    if verdict.degrees < 2 or not verdict.deviation > 0:
        return math.nan
    log = math.lgamma(half) - math.lgamma(half - 0.5) - math.log(half) / 2
    return verdict.difference / verdict.deviation * math.exp(log)


def _equivalent_p(verdict: _Verdict, margin: float | None) -> float:
    """The greater of the p-values against a difference of -margin or less, and margin or more."""
    from scipy.special import stdtr

    if margin is None or not verdict.degrees:
        return math.nan
    inside = margin - abs(verdict.difference)
    return float(stdtr(verdict.degrees, -_ratio(inside, verdict.error)))


def _note(
    verdicts: _Verdicts,
    spread: BlockFit,
    variance_p: float,
    level: float,
    staged: bool,
    margin: float | None,
) -> str:
    """Which method and why, in one sentence."""
    if verdicts.method == "none":
        seeds = len(spread.seeds)
        few = "one seed" if seeds == 1 else f"{seeds} seeds and too few finished trials"
        return f"Nothing can be concluded about differences: {few}."
    checked = "" if math.isnan(variance_p) else f" (Brown-Forsythe p = {variance_p:.2g})"
    parts = [
        f"simultaneous {level:.0%} intervals (Dunnett) of the model arm + seed, residual deviation "
        f"pooled over {len(spread.arms)} arms and {len(spread.seeds)} seeds "
        f"({_degrees(verdicts.degrees)}){checked}"
        if verdicts.method == "dunnett"
        else f"variances differ between arms{checked}, so each contrast is a paired t test over "
        f"its seeds with Holm's p-values and Bonferroni's simultaneous {level:.0%} intervals"
    ]
    if staged:
        parts.append("deviation from the first stage of seeds alone (Stein)")
    if margin is not None:
        parts.append(f"equivalence within ±{margin:g} by two one-sided tests, not adjusted")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _degrees(count: int) -> str:
    return f"{count} degree{'s' * (count != 1)} of freedom"


def detectable(
    deviation: float,
    pairs: int,
    arms: int,
    seeds: int,
    *,
    level: float = 0.95,
    power: float = 0.8,
) -> float:
    """The smallest true difference that a simultaneous contrast finds with that power.

    For complete blocks and one baseline, by the noncentral t of one contrast at the critical value
    of all `pairs`; infinite where seeds or arms are too few to conclude anything.
    """
    from scipy.optimize import brentq

    degrees = (arms - 1) * (seeds - 1)
    if degrees < 1 or pairs < 1:
        return math.inf
    halves = tuple(tuple(1.0 if i == j else 0.5 for j in range(pairs)) for i in range(pairs))
    critical = critical_value(level, degrees, halves)
    most = 2 * critical
    while two_sided_power(most, critical, degrees) < power:
        most *= 2
    shift = brentq(lambda each: two_sided_power(each, critical, degrees) - power, 0, most)
    return float(shift) * deviation * math.sqrt(2 / seeds)


def seeds_needed(comparison: Comparison, until: float, most: int) -> dict[str, int]:
    """Per arm, how many seeds make the half-width of each of its intervals at most `until`.

    Never fewer than the comparison has and, those aside, at most `most`: as many where nothing can
    be concluded yet. An arm without any value that its baseline also has gets no more.
    """
    have = len(comparison.seeds)
    needed: dict[str, int] = {}
    for contrast in comparison.contrasts:
        count = max(have, min(most, _needed(contrast, until, most)))
        for arm in (contrast.arm, contrast.against):
            needed[arm] = max(needed.get(arm, have), count)
    return needed


def _needed(contrast: Contrast, until: float, most: int) -> int:
    width = (contrast.high - contrast.low) / 2
    if not contrast.n:
        return 0
    if math.isnan(width):
        return most
    # Half-widths of 0.3 must not ask for one seed more because 0.3 is not a binary number.
    return math.ceil(contrast.n * (width / until) ** 2 * (1 - 1e-9))
