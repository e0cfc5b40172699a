"""Estimate the time of a trial from pilot runs of the cheapest, median and most expensive ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import fmean

import numpy as np

from partialnas.runs.records.subject import Subject
from partialnas.search.check.pilot import time_trial
from partialnas.search.resolve.resolved_study import ResolvedStudy, sample_space
from partialnas.search.study.fidelity import Condition, rung_shares
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import compute_cost

_SAMPLE = 32
_MIN_ERROR, _MAX_ERROR = 0.1, 0.5


@dataclass(frozen=True)
class TrialTimeEstimate:
    """Seconds of one trial.

    Attributes:
        mean: mean over all trials.
        low: time of the cheapest trial.
        high: time of the most expensive trial.
        lower: lower bound of the mean: `mean`, or the lower quartile in a search, minus the timing
            error.
        upper: upper bound of the mean: `mean`, or the upper quartile in a search, plus the timing
            error.
    """

    mean: float
    low: float
    high: float
    lower: float
    upper: float


@dataclass(frozen=True)
class _TrialKind:
    """Trials to time: those of one subject under one condition."""

    subject: Subject
    condition: Condition

    @cached_property
    def work(self) -> float:
        """MACs times epochs; 0 for models of other libraries, which have no cost formula."""
        if not isinstance(self.subject, Architecture):
            return 0.0
        macs = compute_cost(self.subject, self.condition.task.input_spec).macs
        return float(macs * self.condition.recipe.epochs)

    def time(self, device: str) -> float:
        """Return the seconds of a trial by a pilot run."""
        return time_trial(self.subject, self.condition, device)


def estimate_trial_time(resolved: ResolvedStudy, device: str) -> TrialTimeEstimate:
    """Estimate the time of a trial.

    For each condition, and each rung of a search, the trials with the least, median and most work
    are timed; the times of the others are interpolated by their work. A search is represented by
    sampled networks of its space, and its rungs are weighted by their long-run share of trials.

    Raises:
        UserError: one of the networks cannot be trained.
    """
    search, conditions = resolved.study.search, resolved.conditions
    weights: Sequence[float] | None = None
    if resolved.rungs and search is not None:
        conditions = resolved.all_rungs
        weights = rung_shares(len(resolved.rungs), search.promote, resolved.study.first_seeds)
    seconds = [_trial_seconds(resolved, condition, device) for condition in conditions]
    weights = weights or [len(trials) for trials in seconds]
    mean = fmean([fmean(trials) for trials in seconds], weights)
    lower = upper = mean
    if search is not None:
        lower, upper = (fmean([np.quantile(t, q) for t in seconds], weights) for q in (0.25, 0.75))
    error = _timing_error(resolved, conditions[-1], device)
    low, high = min(map(min, seconds)), max(map(max, seconds))
    return TrialTimeEstimate(mean, low, high, lower * (1 - error), upper * (1 + error))


def _timing_error(resolved: ResolvedStudy, condition: Condition, device: str) -> float:
    """Return the relative difference between two pilots of one network, within bounds."""
    kind = min(_trial_kinds(resolved, condition), key=lambda kind: kind.work)
    first, second = (kind.time(device) for _ in range(2))
    return min(_MAX_ERROR, max(_MIN_ERROR, abs(first / second - 1)))


def _trial_seconds(resolved: ResolvedStudy, condition: Condition, device: str) -> list[float]:
    kinds = sorted(_trial_kinds(resolved, condition), key=lambda kind: kind.work)
    timed = {kind.work: kind for kind in (kinds[0], kinds[len(kinds) // 2], kinds[-1])}
    seconds = [kind.time(device) for kind in timed.values()]
    interpolate = partial(np.interp, xp=[*timed], fp=seconds)
    return [float(interpolate(kind.work)) for kind in kinds]


def _trial_kinds(resolved: ResolvedStudy, condition: Condition) -> Iterator[_TrialKind]:
    """Yield the arms of a study, or sampled networks of its space."""
    if resolved.space is not None and resolved.study.search is not None:
        for network in sample_space(resolved.space, _SAMPLE):
            yield _TrialKind(network, condition)
        return
    for name, subject in resolved.arms.items():
        yield _TrialKind(subject, resolved.arm_condition(name, condition))
