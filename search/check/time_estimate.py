"""How long the trials of a study will take: a few timed steps of cheap, typical and dear ones."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np

from partialnas.runs.records.subject import Subject
from partialnas.search.check.pilot import time_trial
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.study.condition import Condition
from partialnas.search.study.fidelity import rung_shares
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import cost

_SAMPLE = 32
_LEAST_ERROR = 0.1


@dataclass(frozen=True)
class TrialTimeEstimate:
    """Seconds of one trial.

    Attributes:
        mean: on average.
        low: of the cheapest.
        high: of the dearest.
        lower: on average, at the least: of a search, the lower quartile; less what pilots differ.
        upper: on average, at the most: of a search, the upper quartile; more by what pilots differ.
    """

    mean: float
    low: float
    high: float
    lower: float
    upper: float


@dataclass(frozen=True)
class _Piece:
    """A trial that a study will have, or one like it; its work is MACs times epochs."""

    subject: Subject
    condition: Condition
    work: float


def estimate_trial_time(prepared: ResolvedStudy, device: str) -> TrialTimeEstimate:
    """What a trial of a study takes.

    Under each condition, and on each rung of a search, the trials of least, median and most work
    are timed; the others are taken to lie between them, by their work. Of a search some networks of
    the space stand for all, and each rung counts as often as it has trials in the long run.

    Raises:
        UserError: one of them cannot be trained.
    """
    search, ways = prepared.study.search, prepared.conditions
    weights: Sequence[float] | None = None
    if prepared.rungs and search is not None:
        ways = prepared.all_rungs
        weights = rung_shares(len(prepared.rungs), search.promote, prepared.study.first_seeds)
    seconds = [_seconds(prepared, way, device) for way in ways]
    everyone = [each for trials in seconds for each in trials]
    weights = weights or [len(trials) for trials in seconds]
    mean = fmean([fmean(trials) for trials in seconds], weights)
    ends = mean, mean
    if search is not None:
        lower, upper = (fmean([np.quantile(t, q) for t in seconds], weights) for q in (0.25, 0.75))
        ends = float(lower), float(upper)
    error = _error(prepared, ways[-1], device)
    return TrialTimeEstimate(
        mean, min(everyone), max(everyone), ends[0] * (1 - error), ends[1] * (1 + error)
    )


def _error(prepared: ResolvedStudy, condition: Condition, device: str) -> float:
    """By what share two pilots of one network differ; never less than a tenth."""
    piece = min(_pieces(prepared, condition), key=lambda each: each.work)
    one, other = (time_trial(piece.subject, piece.condition, device) for _ in range(2))
    difference = abs((one.seconds + one.startup_seconds) / (other.seconds + other.startup_seconds) - 1)
    return min(0.5, max(_LEAST_ERROR, difference))


def _seconds(prepared: ResolvedStudy, condition: Condition, device: str) -> list[float]:
    pieces = sorted(_pieces(prepared, condition), key=lambda piece: piece.work)
    chosen = {piece.work: piece for piece in (pieces[0], pieces[len(pieces) // 2], pieces[-1])}
    pilots = [time_trial(each.subject, each.condition, device) for each in chosen.values()]
    timed = [pilot.seconds + pilot.startup_seconds for pilot in pilots]
    between = partial(np.interp, xp=[*chosen], fp=timed)
    return [float(between(piece.work)) for piece in pieces]


def _pieces(prepared: ResolvedStudy, condition: Condition) -> Iterator[_Piece]:
    """The arms of a study, or networks of its space."""
    space, rng = prepared.space, random.Random(0)
    if space is not None and prepared.study.search is not None:
        for _ in range(_SAMPLE):
            network = space.architecture(space.sample(rng))
            yield _Piece(network, condition, _work(network, condition))
        return
    for name, subject in prepared.arms.items():
        how = prepared.arm_condition(name, condition)
        yield _Piece(subject, how, _work(subject, how))


def _work(subject: Subject, condition: Condition) -> float:
    """MACs of the training; of another library's model, which no formula counts, none."""
    if not isinstance(subject, Architecture):
        return 0.0
    task = condition.task
    macs = cost(subject, task.input_spec).macs
    return float(macs * condition.recipe.epochs)
