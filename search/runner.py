"""Run a study: the driver, and the only writer of its ledger."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import yaml
from rich.console import Console

from partialnas.runs.data import load_splits
from partialnas.runs.design import stages_of
from partialnas.runs.files import write_file
from partialnas.runs.ledger import Ledger
from partialnas.runs.subject import subject_from
from partialnas.runs.trial import Context
from partialnas.search.begun import known_design, open_ledger
from partialnas.search.executor import Executor, Feed, InProcess
from partialnas.search.feed import StudyFeed
from partialnas.search.keeping import drop_weights
from partialnas.search.placement import Placement, place
from partialnas.search.prepare import prepare, rehearse_all
from partialnas.search.prepared import Prepared, same_network, unmatched
from partialnas.search.progress import Progress
from partialnas.search.sources import make_source
from partialnas.search.study import COUNTED, Study
from partialnas.search.watched import Watched
from partialnas.search.work import Item, Work, import_function


def run_study(
    study: Study,
    folder: Path,
    *,
    beside: Path = Path(),
    address: str | None = None,
    console: Console | None = None,
) -> None:
    """Run a study in `folder`, or carry on with it; returns when its budget or search ends.

    Args:
        study: what to run.
        folder: where the ledger is, or will be.
        beside: folder that the study's relative paths start from.
        address: a Ray cluster to join.
        console: where progress goes; standard error unless given.

    Raises:
        UserError: the study cannot run, or is another than the one in the folder.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: Ctrl-C; everything finished is in the ledger.
    """
    progress = Progress(console or Console(stderr=True))
    placement = place(study, address)
    prepared = prepare(study, beside, known_design(folder))
    work = _work(prepared, placement, folder, beside)
    for line in (*same_network(prepared), *unmatched(prepared)):
        progress.event(f"note: {line}")
    with open_ledger(prepared, folder, progress) as ledger:
        write_file(folder / "study.yaml", _as_yaml(study))
        feed = _drive(prepared, ledger, work, _executor(study, placement, folder), progress)
        if study.recipe.keep_weights == "front":
            drop_weights(folder, feed.dominated())


def run_stage(
    prepared: Prepared,
    folder: Path,
    *,
    beside: Path = Path(),
    address: str | None = None,
    console: Console | None = None,
) -> None:
    """Run a later stage of the study in `folder`, or carry on with it, into the same ledger.

    Args:
        prepared: the study with the stage's arms and recipe.
        folder: where the ledger is.
        beside: folder that the study's relative paths start from.
        address: a Ray cluster to join.
        console: where progress goes; standard error unless given.

    Raises:
        UserError: the study cannot run, or another driver works on it.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: Ctrl-C; everything finished is in the ledger.
    """
    stage = prepared.stage
    assert stage is not None, "a stage is run"
    progress = Progress(console or Console(stderr=True))
    placement = place(prepared.study, address)
    work = _work(prepared, placement, folder, beside)
    with Ledger.open(folder, write=True) as ledger:
        stages = stages_of(ledger.meta) | {stage.name: stage}
        told = {name: each.model_dump(mode="json") for name, each in stages.items()}
        ledger.amend({"stages": json.dumps(told)})
        _drive(prepared, ledger, work, _executor(prepared.study, placement, folder), progress)


def _drive(
    prepared: Prepared, ledger: Ledger, work: Work, executor: Executor, progress: Progress
) -> StudyFeed:
    """Has everything done that the study asks for; what decided about it."""
    reference = subject_from(json.loads(ledger.meta["reference"]))
    ledger.recover()
    feed = StudyFeed(prepared, ledger, make_source(prepared), progress.event)
    watched: Feed[Item] = Watched(feed, prepared, ledger, progress)
    try:
        with progress.showing():
            executor.run(watched, replace(work, reference=reference))
    finally:
        with suppress(Exception):
            ledger.recover()
    return feed


def _as_yaml(study: Study) -> str:
    head = "# The study as it was run, every setting stated.\n"
    return head + yaml.safe_dump(study.frozen(), sort_keys=False, allow_unicode=True)


def _work(prepared: Prepared, placement: Placement, folder: Path, beside: Path) -> Work:
    study = prepared.study
    if study.trial is not None:
        import_function(study.trial, beside)
    else:
        rehearse_all(prepared)
    tasks = dict.fromkeys(condition.task for condition in prepared.conditions)
    asked = (*study.objectives, *study.limits)
    context = Context(
        device=placement.device,
        folder=folder.resolve(),
        time_limit_s=study.executor.time_limit_s,
    )
    return Work(
        context=context,
        splits={} if study.trial else {t: load_splits(t) for t in tasks},
        reference=prepared.reference,
        function=study.trial,
        required=tuple(dict.fromkeys(n for n in asked if n not in COUNTED)),
        path=beside.resolve(),
    )


def _executor(study: Study, placement: Placement, folder: Path) -> Executor:
    if study.executor.kind == "in-process":
        return InProcess(folder / "workers.log")
    from partialnas.search.ray_executor import RayTune

    return RayTune(
        folder=folder,
        workers=placement.workers,
        address=placement.address,
        cpus_per_trial=placement.cpus_per_trial,
        gpus_per_trial=placement.gpus_per_trial,
        time_limit_s=_hard_limit(study.executor.time_limit_s),
    )


def _hard_limit(limit_s: float | None) -> float | None:
    """When a worker that does not end a trial by itself is taken to hang."""
    return None if limit_s is None else 1.5 * limit_s + 60
