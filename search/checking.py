"""Check a study: validate it, count its trials, estimate its time; run none of them."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean

from partialnas.runs.subject import Subject, subject_name
from partialnas.search.pilot import time_trial
from partialnas.search.placement import Placement, place
from partialnas.search.prepare import (
    Prepared,
    expected_trials,
    prepare,
    rehearse_all,
    same_network,
)
from partialnas.search.progress import clock
from partialnas.search.study import Study
from partialnas.search.work import import_function
from partialnas.space.checks import check

_SAMPLE = 16


def check_study(study: Study, *, beside: Path, show: Callable[[str], None]) -> None:
    """Say what a study will do, and what about it makes no sense.

    Args:
        study: the study.
        beside: folder that its relative paths start from.
        show: is handed one line at a time.

    Raises:
        UserError: the study cannot run; names every mistake.
        MachineError: the device it asks for is not there.
    """
    prepared = prepare(study, beside)
    placement = place(study)
    if study.trial is not None:
        import_function(study.trial, beside)
    else:
        rehearse_all(prepared)
    for line in (*_plan(prepared), *_remarks(prepared), *_time(prepared, placement)):
        show(line)


def _plan(prepared: Prepared) -> Iterator[str]:
    study = prepared.study
    yield f"study {study.study}: {study.question}" if study.question else f"study {study.study}"
    for condition in prepared.conditions:
        task = condition.task
        shape = f"{task.channels} x {task.resolution} x {task.resolution}, {task.classes} classes"
        under = f" under {condition.name}" if condition.name else ""
        yield f"task{under}: {task.data}, {shape}, batches of {condition.recipe.batch_size}"
    if prepared.space is not None:
        yield f"space: {prepared.space.size()}"
    if prepared.arms:
        yield f"arms: {', '.join(prepared.arms)}"
    for name, control in prepared.controls.items():
        yield f"arm {name}: static, the ratios of {control.origin} as {control.ratios}"
    yield f"reference: {subject_name(prepared.reference)}"
    trials = expected_trials(study)
    many = f"as many as {study.budget.hours:g} h allow" if trials is None else str(trials)
    each = f"{study.seeds} seed{'s' * (study.seeds > 1)} for each network"
    yield f"trials: {many} ({each})"


def _remarks(prepared: Prepared) -> Iterator[str]:
    lines = check(prepared.space) if prepared.space is not None else []
    for line in (*lines, *same_network(prepared)):
        yield f"note: {line}"


def _time(prepared: Prepared, placement: Placement) -> Iterator[str]:
    study = prepared.study
    if study.trial is not None:
        yield f"time: not estimated, {study.trial} stands in for training"
        return
    typical = _typical(prepared)
    pilots = [time_trial(typical, each, placement.device) for each in prepared.conditions]
    trial = fmean(pilot.seconds + pilot.start for pilot in pilots)
    trials, workers = expected_trials(study), placement.workers
    told = f"time: about {trial:.1f} s a trial on {placement.device}"
    if trials is None:
        yield f"{told}, {workers} at a time"
        return
    timing = clock(trials / study.seeds * study.measure.max_seconds)
    yield (
        f"{told}; {trials} trials, {workers} at a time, take about "
        f"{clock(trials * trial / workers)}, and timing the networks at most {timing} more"
    )


def _typical(prepared: Prepared) -> Subject:
    """The network of median cost among some of the space; the first arm where there is none."""
    space = prepared.space
    if space is None:
        return next(iter(prepared.arms.values()))
    rng = random.Random(0)
    sampled = [space.architecture(space.sample(rng)) for _ in range(_SAMPLE)]
    return sorted(sampled, key=lambda architecture: space.cost(architecture).macs)[_SAMPLE // 2]
