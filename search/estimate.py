"""How long the trials of a study will take: a few timed steps of cheap, typical and dear ones."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np

from partialnas.runs.subject import Subject
from partialnas.search.condition import Condition
from partialnas.search.pilot import time_trial
from partialnas.search.prepared import Prepared
from partialnas.space.architecture import Architecture
from partialnas.space.cost import cost

_SAMPLE = 32


@dataclass(frozen=True)
class Estimate:
    """Seconds of one trial: on average, of the cheapest and of the dearest."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class _Piece:
    """A trial that a study will have, or one like it; its work is MACs times epochs."""

    subject: Subject
    condition: Condition
    work: float


def estimate(prepared: Prepared, device: str) -> Estimate:
    """What a trial of a study takes.

    Under each condition the trials of least, median and most work are timed; the others are taken
    to lie between them, by their work. Of a search some networks of the space stand for all.

    Raises:
        UserError: one of them cannot be trained.
    """
    seconds = [
        each for condition in prepared.conditions for each in _seconds(prepared, condition, device)
    ]
    return Estimate(fmean(seconds), min(seconds), max(seconds))


def _seconds(prepared: Prepared, condition: Condition, device: str) -> list[float]:
    pieces = sorted(_pieces(prepared, condition), key=lambda piece: piece.work)
    chosen = {piece.work: piece for piece in (pieces[0], pieces[len(pieces) // 2], pieces[-1])}
    pilots = [time_trial(each.subject, each.condition, device) for each in chosen.values()]
    timed = [pilot.seconds + pilot.start for pilot in pilots]
    between = partial(np.interp, xp=[*chosen], fp=timed)
    return [float(between(piece.work)) for piece in pieces]


def _pieces(prepared: Prepared, condition: Condition) -> Iterator[_Piece]:
    """The arms of a study, or networks of its space."""
    space, rng = prepared.space, random.Random(0)
    if space is not None and prepared.study.search is not None:
        for _ in range(_SAMPLE):
            network = space.architecture(space.sample(rng))
            yield _Piece(network, condition, _work(network, condition))
        return
    for name, subject in prepared.arms.items():
        how = prepared.under(name, condition)
        yield _Piece(subject, how, _work(subject, how))


def _work(subject: Subject, condition: Condition) -> float:
    """MACs of the training; of another library's model, which no formula counts, none."""
    if not isinstance(subject, Architecture):
        return 0.0
    task = condition.task
    macs = cost(subject, task.resolution, task.channels, task.classes).macs
    return float(macs * condition.recipe.epochs)
