"""Check a study: validate it, count its trials, estimate its time; run none of them."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from partialnas.runs.subject import Subject, subject_name
from partialnas.search.pilot import time_trial
from partialnas.search.placement import Placement, place
from partialnas.search.prepare import Prepared, prepare, same_network
from partialnas.search.progress import clock
from partialnas.search.study import Study
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
    for line in (*_plan(prepared), *_remarks(prepared), *_time(prepared, placement)):
        show(line)


def _plan(prepared: Prepared) -> Iterator[str]:
    study, task = prepared.study, prepared.task
    yield f"study {study.study}: {study.question}" if study.question else f"study {study.study}"
    shape = f"{task.channels} x {task.resolution} x {task.resolution}, {task.classes} classes"
    yield f"task: {task.data}, {shape}"
    if prepared.space is not None:
        yield f"space: {prepared.space.size()}"
    if prepared.arms:
        yield f"arms: {', '.join(prepared.arms)}"
    yield f"reference: {subject_name(prepared.reference)}"
    yield f"trials: {_trials(prepared)} ({study.seeds} seed(s) for each network)"


def _trials(prepared: Prepared) -> int:
    study = prepared.study
    arms = len(prepared.arms) * study.seeds
    return study.budget.trials or arms if study.search is not None else arms


def _remarks(prepared: Prepared) -> Iterator[str]:
    lines = check(prepared.space) if prepared.space is not None else []
    for line in (*lines, *same_network(prepared)):
        yield f"note: {line}"


def _time(prepared: Prepared, placement: Placement) -> Iterator[str]:
    study = prepared.study
    if study.trial is not None:
        yield f"time: not estimated, {study.trial} stands in for training"
        return
    pilot = time_trial(_typical(prepared), prepared, placement.device)
    training = _trials(prepared) * (pilot.seconds + pilot.start) / placement.workers
    timing = _trials(prepared) / study.seeds * study.measure.max_seconds
    yield (
        f"time: about {pilot.seconds + pilot.start:.1f} s a trial on {placement.device}; "
        f"{_trials(prepared)} trials with {placement.workers} worker(s) take about "
        f"{clock(training)}, and timing the networks at most {clock(timing)} more"
    )


def _typical(prepared: Prepared) -> Subject:
    """The network of median cost among some of the space; the first arm where there is none."""
    space = prepared.space
    if space is None:
        return next(iter(prepared.arms.values()))
    rng = random.Random(0)
    sampled = [space.architecture(space.sample(rng)) for _ in range(_SAMPLE)]
    return sorted(sampled, key=lambda architecture: space.cost(architecture).macs)[_SAMPLE // 2]
