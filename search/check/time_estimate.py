"""Estimate the time of a trial from pilot runs of the cheapest, median and most expensive ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from statistics import fmean

import numpy as np

from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.subject import Subject
from partialnas.search.check.pilot import time_trial
from partialnas.search.resolve.resolved_study import (
    ResolvedStudy,
    count_arm_trials,
    expected_trials,
    sample_space,
)
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


LoadSplits = Callable[[Task], Splits]
"""A function that returns the images of a task."""


@dataclass(frozen=True)
class _TrialKind:
    """Trials to time: those of one subject under one condition."""

    subject: Subject
    condition: Condition
    trunk_epochs: int = 0

    @cached_property
    def work(self) -> float:
        """MACs times epochs times images; 0 for models of timm, which have no cost formula."""
        if not isinstance(self.subject, Architecture):
            return 0.0
        recipe = self.condition.recipe
        macs = compute_cost(self.subject, self.condition.task.input_spec).macs
        return float(macs * (recipe.epochs - self.trunk_epochs) * recipe.data_share)


@dataclass(frozen=True)
class TrialTimer:
    """Times trials by pilot runs, each kind of trial once.

    Attributes:
        device: device to train on.
        load: returns the images of a task.
    """

    device: str
    load: LoadSplits
    _seconds: dict[tuple[Subject, Condition, int], float] = field(default_factory=dict)

    def time(self, kind: _TrialKind) -> float:
        """Return the seconds of a trial."""
        key = kind.subject, kind.condition, kind.trunk_epochs
        if key not in self._seconds:
            self._seconds[key] = self.time_again(kind)
        return self._seconds[key]

    def time_again(self, kind: _TrialKind) -> float:
        """Return the seconds of a trial from a new pilot run.

        On a GPU, the first pilot run of all does not count: it pays for what a worker process pays
        once, the CUDA context and the libraries and kernels that are loaded on first use.
        """
        splits, trunk = self.load(kind.condition.task), kind.trunk_epochs
        run = partial(time_trial, kind.subject, kind.condition, self.device, splits)
        if self.device != "cpu" and not self._seconds:
            run(trunk_epochs=trunk)
        return run(trunk_epochs=trunk)

    def time_all(self, kinds: Sequence[_TrialKind]) -> list[float]:
        """Return the seconds of trials; those of architectures are interpolated by their work.

        The architectures with the least, median and most work are timed, and all other models.
        """
        formula = sorted(
            (k for k in kinds if isinstance(k.subject, Architecture)), key=lambda k: k.work
        )
        if not formula:
            return [self.time(kind) for kind in kinds]
        timed = {kind.work: kind for kind in (formula[0], formula[len(formula) // 2], formula[-1])}
        seconds = [self.time(kind) for kind in timed.values()]
        return [
            float(np.interp(kind.work, [*timed], seconds)) if kind.work else self.time(kind)
            for kind in kinds
        ]


def estimate_trial_time(
    resolved: ResolvedStudy, device: str, load: LoadSplits
) -> TrialTimeEstimate:
    """Estimate the time of a trial.

    For each condition, and each rung of a search, trials are timed as `TrialTimer.time_all` does. A
    search is represented by sampled networks of its space, and its rungs are weighted by their
    long-run share of trials; its arms are weighted by their number.

    Args:
        resolved: the study.
        device: device to train on.
        load: returns the images of a task.

    Raises:
        UserError: one of the networks cannot be trained.
    """
    timer = TrialTimer(device, load)
    arms = [timer.time_all([*_arm_kinds(resolved, c)]) for c in resolved.conditions]
    groups = [_TrialGroup(seconds, len(seconds)) for seconds in arms if seconds]
    if resolved.study.search is not None:
        groups = [*_searched_groups(resolved, timer, groups)]
    error = _timing_error(resolved, timer)
    weights = [group.weight for group in groups]
    mean = fmean([fmean(group.seconds) for group in groups], weights)
    lower, upper = (fmean([g.bounds[end] for g in groups], weights) for end in (0, 1))
    low, high = (end(end(group.seconds) for group in groups) for end in (min, max))
    return TrialTimeEstimate(mean, low, high, lower * (1 - error), upper * (1 + error))


@dataclass(frozen=True)
class _TrialGroup:
    """Trials of one condition or rung.

    Attributes:
        seconds: seconds of each.
        weight: share of all trials, up to a factor.
        sampled: whether they are a sample of the trials, which may be cheaper or more expensive.
    """

    seconds: list[float]
    weight: float
    sampled: bool = False

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound of their mean: the quartiles of a sample."""
        if not self.sampled:
            return fmean(self.seconds), fmean(self.seconds)
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(low), float(high)


def _searched_groups(
    resolved: ResolvedStudy, timer: TrialTimer, arms: list[_TrialGroup]
) -> Iterator[_TrialGroup]:
    """Yield the groups of a search: its rungs, and its arms if the number of trials is known."""
    search, trials = resolved.study.search, expected_trials(resolved)
    assert search is not None
    shares = rung_shares(len(resolved.rungs), search.promote, resolved.study.first_seeds)
    arm_trials = count_arm_trials(resolved)
    for kinds, share in zip(_searched_kinds(resolved), shares, strict=True):
        weight = share if trials is None else share * max(trials - arm_trials, 0)
        yield _TrialGroup(timer.time_all(kinds), weight, sampled=True)
    if trials is not None:
        yield from (replace(group, weight=arm_trials) for group in arms)


def _arm_kinds(resolved: ResolvedStudy, condition: Condition) -> Iterator[_TrialKind]:
    for name, subject in resolved.arms.items():
        yield _TrialKind(subject, resolved.arm_condition(name, condition))


def _searched_kinds(resolved: ResolvedStudy) -> Iterator[list[_TrialKind]]:
    """Yield trials of sampled networks on each rung of a search, the last included."""
    networks = sample_space(resolved.space, _SAMPLE)
    trunk = 0
    for rung in resolved.all_rungs:
        yield [_TrialKind(n, rung, 0 if n.learned is not None else trunk) for n in networks]
        trunk = rung.recipe.trunk_epochs(rung.recipe.epochs) if rung.branches else 0


def _timing_error(resolved: ResolvedStudy, timer: TrialTimer) -> float:
    """Return the relative difference between two pilots of one network, within bounds."""
    last = resolved.all_rungs[-1]
    searched = resolved.study.search is not None
    kinds = [*_searched_kinds(resolved)][-1] if searched else [*_arm_kinds(resolved, last)]
    kind = min(kinds, key=lambda kind: kind.work)
    difference = abs(timer.time(kind) / timer.time_again(kind) - 1)
    return min(_MAX_ERROR, max(_MIN_ERROR, difference))
