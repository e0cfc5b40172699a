"""Run a study: the driver, and the only writer of its ledger."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import DRY_RUN_NOTICE, stages_meta
from partialnas.runs.system.files import write_file
from partialnas.runs.training.context import Context
from partialnas.runs.training.user_function import import_function
from partialnas.search.driver.running_front import delete_trunk_checkpoints, delete_weights
from partialnas.search.driver.scheduler import Scheduler, make_source
from partialnas.search.executors.base import Executor, Feed, InProcess
from partialnas.search.executors.cluster_files import shared_folder, user_modules
from partialnas.search.executors.tasks import Item, TaskRunner
from partialnas.search.resolve.resolve import check_reference, resolve_study
from partialnas.search.resolve.resolved_study import (
    ResolvedStudy,
    duplicate_arm_messages,
    unmatched_arm_messages,
)
from partialnas.search.resolve.resources import Resources, resolve_resources
from partialnas.search.session.dry_run import DryRunWorker, as_dry_run, check_folder
from partialnas.search.session.fail_fast import FailFastFeed
from partialnas.search.session.feed_wrappers import ProgressFeed, StoppableFeed
from partialnas.search.session.open_ledger import open_ledger, recorded_design
from partialnas.search.session.progress import Progress
from partialnas.search.session.signals import handle_signals
from partialnas.search.study.study import COUNTED, Study
from partialnas.search.study.study_file import to_yaml

if TYPE_CHECKING:
    from partialnas.runs.datasets.loaders import Splits


def run_study(
    study: Study,
    folder: Path,
    *,
    base_dir: Path = Path(),
    address: str | None = None,
    console: Console | None = None,
) -> None:
    """Run a study in `folder`, or carry on with it; returns when its budget or search ends.

    Args:
        study: what to run.
        folder: where the ledger is, or will be.
        base_dir: folder that the study's relative paths start from.
        address: a Ray cluster to join.
        console: where progress goes; standard error unless given.

    Raises:
        UserError: the study cannot run, or is another than the one in the folder.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: Ctrl-C, pressed once when the trials under way are done, twice now;
            everything finished is in the ledger.
        Terminated: SIGTERM or SIGUSR1; the same.
    """
    progress = Progress(console or Console(stderr=True))
    check_folder(study, folder, dry_run=False)
    placement = resolve_resources(study, address)
    prepared = resolve_study(study, base_dir, recorded_design(folder))
    work = _work(prepared, placement, base_dir)
    for line in (*duplicate_arm_messages(prepared), *unmatched_arm_messages(prepared)):
        progress.event(f"note: {line}")
    with open_ledger(prepared, folder, progress) as ledger:
        write_file(folder / "study.yaml", to_yaml(study))
        shared = shared_folder(folder, study.executor.shared)
        executor = _executor(study, placement, shared, base_dir)
        feed = _drive(prepared, ledger, _placed(work, shared), executor, progress)
        if study.recipe.keep_weights == "front":
            delete_weights(folder, feed.dominated_keys())
        if study.recipe.keep_weights != "all":
            delete_trunk_checkpoints(folder)


def rehearse_study(
    study: Study, folder: Path, *, base_dir: Path = Path(), console: Console | None = None
) -> None:
    """Play a study in `folder` with made-up results, in this process (see `search.rehearsal`).

    Args:
        study: what to rehearse; its ledger has the name of a rehearsal.
        folder: where the ledger is, or will be.
        base_dir: folder that the study's relative paths start from.
        console: where progress goes; standard error unless given.

    Raises:
        UserError: the study cannot run, or the folder holds a real one.
        MachineError: the disk fails.
    """
    progress = Progress(console or Console(stderr=True))
    played = as_dry_run(study)
    check_folder(played, folder, dry_run=True)
    prepared = resolve_study(played, base_dir, recorded_design(folder))
    progress.event(DRY_RUN_NOTICE)
    with open_ledger(prepared, folder, progress) as ledger:
        ledger.update_meta({"rehearsal": "yes"})
        write_file(folder / "study.yaml", to_yaml(played))
        own = _required(study) if study.trial else ()
        work = DryRunWorker(prepared.reference, own)
        _drive(prepared, ledger, work, InProcess(folder / "workers.log"), progress)


def run_stage(
    prepared: ResolvedStudy,
    folder: Path,
    *,
    base_dir: Path = Path(),
    address: str | None = None,
    console: Console | None = None,
) -> None:
    """Run a later stage of the study in `folder`, or carry on with it, into the same ledger.

    Args:
        prepared: the study with the stage's arms and recipe.
        folder: where the ledger is.
        base_dir: folder that the study's relative paths start from.
        address: a Ray cluster to join.
        console: where progress goes; standard error unless given.

    Raises:
        UserError: the study cannot run, or another driver works on it.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: Ctrl-C, pressed once when the trials under way are done, twice now;
            everything finished is in the ledger.
        Terminated: SIGTERM or SIGUSR1; the same.
    """
    stage = prepared.stage
    assert stage is not None, "a stage is run"
    progress = Progress(console or Console(stderr=True))
    placement = resolve_resources(prepared.study, address)
    work = _work(prepared, placement, base_dir)
    with Ledger.open(folder, write=True) as ledger:
        ledger.update_meta(stages_meta(ledger.study.stages | {stage.name: stage}))
        shared = shared_folder(folder, prepared.study.executor.shared)
        executor = _executor(prepared.study, placement, shared, base_dir)
        _drive(prepared, ledger, _placed(work, shared), executor, progress)


def _drive(
    prepared: ResolvedStudy,
    ledger: Ledger,
    work: TaskRunner | DryRunWorker,
    executor: Executor,
    progress: Progress,
) -> Scheduler:
    """Has everything done that the study asks for; what decided about it."""
    reference = ledger.study.reference
    ledger.requeue_running()
    feed = Scheduler(prepared, ledger, make_source(prepared), progress.event)
    watched: Feed[Item] = ProgressFeed(feed, prepared, ledger, progress)
    log = ledger.path.with_name("workers.log")
    first: Feed[Item] = FailFastFeed(watched, prepared.study.executor.pilot, log)
    try:
        with progress.live_display(), handle_signals(progress.event) as stop:
            stoppable: StoppableFeed[Item] = StoppableFeed(first, stop)
            executor.run(stoppable, replace(work, reference=reference))
            if stoppable.stopped_early:
                raise KeyboardInterrupt
    finally:
        with suppress(Exception):
            ledger.requeue_running()
    return feed


def _work(prepared: ResolvedStudy, placement: Resources, base_dir: Path) -> TaskRunner:
    """What workers do; the folder where they write is told later (see `_placed`)."""
    study = prepared.study
    if study.trial is not None:
        import_function(study.trial, base_dir)
    else:
        check_reference(prepared)
    return TaskRunner(
        context=Context(device=placement.device, time_limit_s=study.executor.time_limit_s),
        splits={} if study.trial else _splits(prepared),
        reference=prepared.reference,
        function=study.trial,
        required_metrics=_required(study),
        module_dir=base_dir.resolve(),
    )


def _splits(prepared: ResolvedStudy) -> "dict[Task, Splits]":
    from partialnas.runs.datasets.loaders import load_splits

    ways = (*prepared.rungs, *prepared.conditions)
    return {task: load_splits(task) for task in dict.fromkeys(way.task for way in ways)}


def _required(study: Study) -> tuple[str, ...]:
    """What a function that stands in for training must tell."""
    asked = (*study.objectives, *study.limits)
    return tuple(dict.fromkeys(name for name in asked if name not in COUNTED))


def _placed(work: TaskRunner, folder: Path) -> TaskRunner:
    """The work, with checkpoints and weights in a folder."""
    return replace(work, context=replace(work.context, folder=folder))


def _executor(study: Study, placement: Resources, folder: Path, base_dir: Path) -> Executor:
    if study.executor.kind == "in-process":
        return InProcess(folder / "workers.log")
    from partialnas.search.executors.ray_tune import RayTune

    return RayTune(
        folder=folder,
        workers=placement.workers,
        address=placement.address,
        cpus_per_trial=placement.cpus_per_trial,
        gpus_per_trial=placement.gpus_per_trial,
        time_limit_s=_hard_limit(study.executor.time_limit_s),
        isolate=study.executor.isolate,
        modules=user_modules(base_dir) if study.trial and placement.address else (),
    )


def _hard_limit(limit_s: float | None) -> float | None:
    """When a worker that does not end a trial by itself is taken to hang."""
    return None if limit_s is None else 1.5 * limit_s + 60
