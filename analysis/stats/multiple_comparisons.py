"""Comparisons of arms with baselines: simultaneous intervals, with seeds as blocks."""

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

_FEW_DEGREES = 2
"""Degrees of freedom up to which captions say that intervals are too wide to conclude much."""

UNEQUAL_BELOW = 0.01
"""p-value of the equal-variances test below which contrasts are paired instead of pooled.

Paired contrasts over few seeds have almost no power, and real residuals have heavy tails: a test at
5 % would raise false alarms more than twice as often (see docs/statistics.md)."""


@dataclass(frozen=True)
class Contrast:
    """The comparison of an arm with another; unavailable numbers are NaN.

    Attributes:
        arm: arm under comparison.
        against: baseline of the arm.
        n: number of seeds that both have.
        difference: arm minus baseline.
        low: lower end of the simultaneous interval.
        high: upper end of the simultaneous interval.
        p: p-value, adjusted for all contrasts.
        effect: difference over the residual standard deviation, with Hedges' correction.
        equivalent_p: p-value of two one-sided tests against the margin, not adjusted.
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
    """All contrasts of a study, tested together.

    Attributes:
        contrasts: contrasts in the requested order.
        method: `dunnett`: pooled standard deviation; `paired`: paired t tests with Holm-adjusted
            p-values and Bonferroni intervals; `none`: too few seeds for any test.
        level: confidence level of the simultaneous intervals.
        deviation: pooled residual standard deviation between seeds.
        degrees: degrees of freedom of the intervals; if paired, those of a contrast with all seeds.
        critical: simultaneous critical value of the intervals.
        variance_p: p-value of the equal-variances test; NaN with too few arms or seeds.
        seeds: seeds of the trials, the blocks of the model.
        note: sentence for captions that names the method and the reason for it.
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
    """Compare each arm with its baseline, with intervals that hold simultaneously at `level`.

    The model is value = arm + seed + residual with one residual variance, fitted to all cells,
    including those of arms without a baseline. If the variances differ between arms
    (`UNEQUAL_BELOW`), each contrast is a paired t test over its seeds instead.

    Args:
        values: values of finished trials by arm and seed, without NaN.
        pairs: arms and their baselines.
        level: simultaneous confidence level of the intervals.
        margin: largest negligible difference, in the unit of the values, for equivalence tests.
        first_stage: seeds that determined how many more were run (Stein's procedure). Standard
            deviation, degrees of freedom and method then come from these seeds only; means come
            from all seeds.
        same: arms that share the trials of another arm, by name; such trials count once.
    """
    aliases = same or {}
    tested = [(aliases.get(arm, arm), aliases.get(against, against)) for arm, against in pairs]
    counted = {arm: cells for arm, cells in values.items() if aliases.get(arm, arm) == arm}
    first = counted if first_stage is None else _with_seeds(counted, first_stage)
    whole, spread = fit(counted), fit(first)
    variance_p = equal_variances_p(spread)
    if not spread.degrees:
        estimates = [_Estimate(whole.difference(*pair)) for pair in tested]
        result = _Result("none", 0, math.nan, estimates)
    elif variance_p < UNEQUAL_BELOW:
        result = _paired(counted, first, tested, level)
    else:
        result = _dunnett(whole, spread, tested, level)
    contrasts = tuple(
        _contrast(names, _num_common_seeds(counted, pair), estimate, margin)
        for names, pair, estimate in zip(pairs, tested, result.estimates, strict=True)
    )
    return Comparison(
        contrasts=contrasts,
        method=result.method,
        level=level,
        deviation=spread.deviation,
        degrees=result.degrees,
        critical=result.critical,
        variance_p=variance_p,
        seeds=whole.seeds,
        note=_note(result, spread, variance_p, level, first_stage is not None, margin),
    )


@dataclass(frozen=True)
class _Estimate:
    """The estimate of one contrast; without degrees of freedom only its difference is known.

    `error` is the standard error of the difference, `deviation` the standard deviation between
    seeds, `p` the adjusted p-value.
    """

    difference: float
    error: float = math.nan
    degrees: int = 0
    deviation: float = math.nan
    critical: float = math.nan
    p: float = math.nan


@dataclass(frozen=True)
class _Result:
    """The estimates of all contrasts by one method."""

    method: Method
    degrees: int
    critical: float
    estimates: Sequence[_Estimate]


def _with_seeds(values: Values, seeds: Collection[int]) -> Values:
    kept = set(seeds)
    return {arm: {s: v for s, v in cells.items() if s in kept} for arm, cells in values.items()}


def _num_common_seeds(values: Values, pair: Pair) -> int:
    return len(values.get(pair[0], {}).keys() & values.get(pair[1], {}).keys())


def _dunnett(whole: BlockFit, spread: BlockFit, pairs: Sequence[Pair], level: float) -> _Result:
    """Pool the deviation and use the exact distribution of the largest of the correlated t."""
    degrees, deviation = spread.degrees, spread.deviation
    weights_of = {pair: w for pair in pairs if (w := whole.contrast_weights(*pair)) is not None}
    distinct = [pair for pair in weights_of if pair[0] != pair[1]]
    estimates = {pair: _Estimate(0.0, 0.0, degrees, deviation, 0.0, 1.0) for pair in weights_of}
    critical = math.nan
    if distinct:
        weights = np.stack([weights_of[pair] for pair in distinct])
        covariance = whole.covariance(weights)
        correlation = as_correlation(covariance)
        critical = critical_value(level, degrees, correlation)
        differences = [whole.estimate(row) for row in weights]
        errors = (deviation * np.sqrt(np.diag(covariance))).tolist()
        ratios = np.array([_ratio(d, e) for d, e in zip(differences, errors, strict=True)])
        p_values = exceedance_probability(ratios, degrees, correlation).tolist()
        for pair, difference, error, p in zip(distinct, differences, errors, p_values, strict=True):
            estimates[pair] = _Estimate(difference, error, degrees, deviation, critical, p)
    unknown = _Estimate(math.nan)
    return _Result("dunnett", degrees, critical, [estimates.get(pair, unknown) for pair in pairs])


def _paired(values: Values, first: Values, pairs: Sequence[Pair], level: float) -> _Result:
    """Test each contrast on its own seeds, with Holm's p-values and Bonferroni's intervals.

    Standard deviations come from the seeds of `first`, which keeps the tests exact if these seeds
    determined how many followed.
    """
    from scipy.special import stdtr, stdtrit

    estimates = {pair: _paired_estimate(values, first, pair) for pair in pairs}
    tested = {pair: e for pair, e in estimates.items() if e.degrees}
    tail = (1 - level) / (2 * max(len(tested), 1))
    ratios = {pair: abs(_ratio(e.difference, e.error)) for pair, e in tested.items()}
    p_values = {pair: float(2 * stdtr(e.degrees, -ratios[pair])) for pair, e in tested.items()}
    adjusted = _holm(p_values)
    for pair, e in tested.items():
        critical = float(stdtrit(e.degrees, 1 - tail))
        estimates[pair] = replace(e, critical=critical, p=adjusted[pair])
    most = max(estimates.values(), key=lambda e: e.degrees, default=_Estimate(math.nan))
    return _Result("paired", most.degrees, most.critical, [estimates[pair] for pair in pairs])


def _paired_estimate(values: Values, first: Values, pair: Pair) -> _Estimate:
    """Return difference, standard error and standard deviation of one pair."""
    differences, early = _differences(values, pair), _differences(first, pair)
    if not differences:
        return _Estimate(math.nan)
    if len(early) < 2:
        return _Estimate(fmean(differences))
    spread = stdev(early)
    error = spread / math.sqrt(len(differences))
    return _Estimate(fmean(differences), error, len(early) - 1, spread / math.sqrt(2))


def _differences(values: Values, pair: Pair) -> list[float]:
    arm, against = (values.get(name, {}) for name in pair)
    return [arm[seed] - against[seed] for seed in sorted(arm.keys() & against.keys())]


def _holm(p: Mapping[Pair, float]) -> dict[Pair, float]:
    """Return p-values with Holm's step-down adjustment."""
    adjusted: dict[Pair, float] = {}
    largest = 0.0
    for rank, pair in enumerate(sorted(p, key=lambda pair: p[pair])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[pair]))
        adjusted[pair] = largest
    return adjusted


def _ratio(difference: float, error: float) -> float:
    """Return difference over error; without noise ±infinity, or zero for no difference."""
    if error > 0:
        return difference / error
    return math.copysign(math.inf, difference) if difference else 0.0


def _contrast(names: Pair, n: int, estimate: _Estimate, margin: float | None) -> Contrast:
    half_width = estimate.critical * estimate.error
    return Contrast(
        *names,
        n=n,
        difference=estimate.difference,
        low=estimate.difference - half_width,
        high=estimate.difference + half_width,
        p=estimate.p,
        effect=_effect_size(estimate),
        equivalent_p=_equivalence_p(estimate, margin),
    )


def _effect_size(estimate: _Estimate) -> float:
    """Return Cohen's d with Hedges' exact correction, which needs two degrees of freedom."""
    half = estimate.degrees / 2
    if estimate.degrees < 2 or not estimate.deviation > 0:
        return math.nan
    log = math.lgamma(half) - math.lgamma(half - 0.5) - math.log(half) / 2
    return estimate.difference / estimate.deviation * math.exp(log)


def _equivalence_p(estimate: _Estimate, margin: float | None) -> float:
    """Return the larger p-value of the two one-sided tests against -margin and +margin."""
    from scipy.special import stdtr

    if margin is None or not estimate.degrees:
        return math.nan
    distance = margin - abs(estimate.difference)
    return float(stdtr(estimate.degrees, -_ratio(distance, estimate.error)))


def _note(
    result: _Result,
    spread: BlockFit,
    variance_p: float,
    level: float,
    two_stage: bool,
    margin: float | None,
) -> str:
    """Return one sentence that names the method and the reason for it."""
    seeds = len(spread.seeds)
    if result.method == "none":
        reason = "only one seed" if seeds == 1 else f"{seeds} seeds and too few finished trials"
        return f"Differences cannot be tested: {reason}."
    variance_test = (
        ""
        if math.isnan(variance_p)
        else f" (Brown-Forsythe test on the residuals: p = {variance_p:.2g})"
    )
    degrees = f"{result.degrees} degree{'s' * (result.degrees != 1)} of freedom"
    parts = [
        f"Simultaneous {level:.0%} intervals (Dunnett) from the model arm + seed; residual "
        f"standard deviation pooled over {len(spread.arms)} arms and {seeds} seeds, "
        f"{degrees}{variance_test}"
        if result.method == "dunnett"
        else f"Variances differ between arms{variance_test}, so each contrast is a paired t test "
        f"over its seeds, with Holm-adjusted p-values and simultaneous {level:.0%} intervals "
        "(Bonferroni)"
    ]
    if result.degrees <= _FEW_DEGREES:
        parts.append(
            f"with {seeds} seeds they reach {result.critical:.1f} standard errors to each side and "
            "settle little"
        )
    if two_stage:
        parts.append("standard deviation from the first stage of seeds only (Stein)")
    if margin is not None:
        parts.append(f"equivalence within ±{margin:g} by two one-sided tests, not adjusted")
    return f"{'; '.join(parts)}."


def detectable(
    deviation: float, pairs: int, arms: int, seeds: int, *, level: float = 0.95, power: float = 0.8
) -> float:
    """Return the smallest true difference that one simultaneous contrast detects with `power`.

    Assumes complete blocks and one baseline, and uses the noncentral t distribution of one contrast
    at the critical value of all `pairs`. Infinite if there are too few seeds or arms for any test.
    """
    from scipy.optimize import brentq

    degrees = (arms - 1) * (seeds - 1)
    if degrees < 1 or pairs < 1:
        return math.inf
    halves = tuple(tuple(1.0 if i == j else 0.5 for j in range(pairs)) for i in range(pairs))
    critical = critical_value(level, degrees, halves)
    bound = 2 * critical
    while two_sided_power(bound, critical, degrees) < power:
        bound *= 2
    shift = brentq(lambda shift: two_sided_power(shift, critical, degrees) - power, 0, bound)
    return float(shift) * deviation * math.sqrt(2 / seeds)


def seeds_needed(comparison: Comparison, until: float, most: int) -> dict[str, int]:
    """Return the number of seeds per arm that makes each half-width of its intervals `until`.

    The number is at least that of the comparison and otherwise at most `most`; it is `most` if
    there is no interval yet. An arm that shares no seed with its baseline gets no more seeds.
    """
    current = len(comparison.seeds)
    needed: dict[str, int] = {}
    for contrast in comparison.contrasts:
        count = max(current, min(most, _needed(contrast, until, most)))
        for arm in (contrast.arm, contrast.against):
            needed[arm] = max(needed.get(arm, current), count)
    return needed


def _needed(contrast: Contrast, until: float, most: int) -> int:
    half_width = (contrast.high - contrast.low) / 2
    if not contrast.n:
        return 0
    if math.isnan(half_width):
        return most
    # tolerance: a half-width of exactly `until` must not require one more seed by rounding
    return math.ceil(contrast.n * (half_width / until) ** 2 * (1 - 1e-9))
