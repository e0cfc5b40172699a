"""Run a study or a stage of it; this process is the only writer of the ledger."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from partialnas.runs.datasets.memory import check_free_memory
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import DRY_RUN_NOTICE, is_dry_run, stages_meta
from partialnas.runs.system.files import write_file
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.user_function import function_source, import_function
from partialnas.search.driver.running_front import delete_trunk_checkpoints, delete_weights
from partialnas.search.driver.scheduler import Scheduler, make_source
from partialnas.search.executors.base import Executor, Feed, InProcess
from partialnas.search.executors.cluster_files import shared_folder, user_modules
from partialnas.search.executors.tasks import Item, ReferenceCheck, TaskRunner
from partialnas.search.resolve.resolve import check_reference, resolve_study
from partialnas.search.resolve.resolved_study import ResolvedStudy, arm_notes, data_notes
from partialnas.search.resolve.resources import Resources, check_precision, resolve_resources
from partialnas.search.session.dry_run import DryRunWorker, as_dry_run, check_folder
from partialnas.search.session.fail_fast import FailFastFeed
from partialnas.search.session.feed_wrappers import (
    ProgressFeed,
    ReferenceCheckFeed,
    ReportedCurveFeed,
    StoppableFeed,
)
from partialnas.search.session.open_ledger import (
    environment_failures,
    failed_trials,
    open_ledger,
    recorded_design,
)
from partialnas.search.session.progress import Progress
from partialnas.search.session.signals import handle_signals
from partialnas.search.session.source_record import changed_source_meta
from partialnas.search.study.amendments import amendment_meta
from partialnas.search.study.study import Study
from partialnas.search.study.study_data import STUDY_FILE, recorded_base_dir
from partialnas.search.study.study_fields import COUNTED, MEASURED_LIMITS
from partialnas.search.study.study_file import to_yaml
from partialnas.space.errors import DeviceFaultError, UserError
from partialnas.space.plugins import module_folder
from partialnas.space.source_code import ModuleSource

HANG_GRACE_S = 60.0
"""Seconds beyond 1.5 times `executor.time_limit_s` for each lane until a worker counts as hung."""

if TYPE_CHECKING:
    from partialnas.runs.datasets.loaders import Splits


def run_study(
    study: Study,
    folder: Path,
    *,
    base_dir: Path = Path(),
    address: str | None = None,
    accept_source: bool = False,
    retry_failed: bool = False,
    console: Console | None = None,
    hang_grace_s: float = HANG_GRACE_S,
) -> None:
    """Run or resume a study in `folder`, until its budget or its search ends.

    Args:
        study: the study.
        folder: folder of the ledger.
        base_dir: folder that the study's relative paths refer to.
        address: address of a Ray cluster to join, or None to start Ray on this machine.
        accept_source: whether to continue although the source of the study's function has changed.
        retry_failed: whether to run failed trials again.
        console: console for progress messages; by default on standard error.
        hang_grace_s: see `HANG_GRACE_S`.

    Raises:
        UserError: the study cannot run, the folder holds another study, or the source of the
            study's function has changed.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: after Ctrl-C, once the running trials are done; at once after a second
            Ctrl-C. The ledger has all finished trials.
        Terminated: on SIGTERM or SIGUSR1, in the same way.
    """
    progress = Progress(console or Console(stderr=True))
    check_folder(study, folder, dry_run=False)
    resolved = resolve_study(study, base_dir, recorded_design(folder))
    source = _import_function(study, base_dir)
    resources = _resources(study, address)
    work = _task_runner(resolved, resources, base_dir, source)
    for line in (*(f"note: {note}" for note in arm_notes(resolved)), *data_notes(resolved)):
        progress.event(line)
    ledger = open_ledger(
        resolved, folder, progress, base_dir=base_dir, source=source, accept_source=accept_source
    )
    with ledger:
        if retry_failed:
            progress.event(f"running {ledger.retry(failed_trials(ledger))} failed trials again")
            if timings := ledger.retry_timings():
                progress.event(f"timing {timings} networks again that could not be timed")
        write_file(folder / STUDY_FILE, to_yaml(study), is_resumable=True)
        shared = shared_folder(folder, study.executor.shared)
        executor = _executor(study, resources, shared, base_dir, hang_grace_s)
        runner = _with_folder(work, shared)
        feed = _drive(resolved, ledger, runner, executor, progress, resources.workers)
        if study.recipe.keep_weights == "front":
            delete_weights(folder, feed.dominated_keys())
        if study.recipe.keep_weights != "all":
            delete_trunk_checkpoints(folder)


def rehearse_study(
    study: Study, folder: Path, *, base_dir: Path = Path(), console: Console | None = None
) -> None:
    """Run a study in `folder` as a dry run, with simulated results, in this process.

    Args:
        study: the study; its ledger gets the name of the dry run.
        folder: folder of the ledger.
        base_dir: folder that the study's relative paths refer to.
        console: console for progress messages; by default on standard error.

    Raises:
        UserError: the study cannot run, or the folder holds a real one.
        MachineError: the disk fails.
    """
    progress = Progress(console or Console(stderr=True))
    dry_run = as_dry_run(study)
    check_folder(dry_run, folder, dry_run=True)
    resolved = resolve_study(dry_run, base_dir, recorded_design(folder))
    progress.event(DRY_RUN_NOTICE)
    with open_ledger(resolved, folder, progress, base_dir=base_dir) as ledger:
        ledger.update_meta({"rehearsal": "yes"})
        write_file(folder / STUDY_FILE, to_yaml(dry_run))
        required = _required_metrics(study) if study.trial else ()
        work = DryRunWorker(resolved.reference, required)
        _drive(resolved, ledger, work, InProcess(folder / "workers.log"), progress)


def run_stage(
    resolved: ResolvedStudy,
    folder: Path,
    *,
    base_dir: Path | None = None,
    address: str | None = None,
    console: Console | None = None,
) -> None:
    """Run or resume a later stage of the study in `folder`, into the same ledger.

    Args:
        resolved: the study with the stage's arms and recipe.
        folder: folder of the ledger.
        base_dir: folder that the study's relative paths refer to; by default the recorded one.
        address: address of a Ray cluster to join, or None to start Ray on this machine.
        console: console for progress messages; by default on standard error.

    Raises:
        UserError: the study cannot run, another process is running it, or the source of its
            function has changed.
        MachineError: the disk or the device fails.
        KeyboardInterrupt: after Ctrl-C, once the running trials are done; at once after a second
            Ctrl-C. The ledger has all finished trials.
        Terminated: on SIGTERM or SIGUSR1, in the same way.
    """
    stage = resolved.stage
    assert stage is not None, "the study is resolved for a stage"
    if is_dry_run(resolved.study.study):
        raise UserError(
            f"{folder} holds a dry run with simulated results, and stage {stage.name} would train "
            "networks; run the study itself first"
        )
    progress = Progress(console or Console(stderr=True))
    resources = _resources(resolved.study, address)
    base_dir = base_dir or recorded_base_dir(folder) or Path()
    source = _import_function(resolved.study, base_dir)
    work = _task_runner(resolved, resources, base_dir, source)
    with Ledger.open(folder, write=True) as ledger:
        sources, notes = changed_source_meta(ledger, source, accept=False)
        meta = sources | amendment_meta(ledger.study, notes)
        ledger.update_meta(meta | stages_meta(ledger.study.stages | {stage.name: stage}))
        shared = shared_folder(folder, resolved.study.executor.shared)
        executor = _executor(resolved.study, resources, shared, base_dir)
        runner = _with_folder(work, shared)
        _drive(resolved, ledger, runner, executor, progress, resources.workers)


def _drive(
    resolved: ResolvedStudy,
    ledger: Ledger,
    work: TaskRunner | DryRunWorker,
    executor: Executor,
    progress: Progress,
    workers: int = 1,
) -> Scheduler:
    """Run the items of a study; return its scheduler."""
    reference = ledger.study.reference
    ledger.requeue_running()
    stage = resolved.stage.name if resolved.stage else ""
    _retry_environment_failures(ledger, stage, progress)
    lanes = work.context.lanes if isinstance(work, TaskRunner) else 1
    source = make_source(resolved)
    feed = Scheduler(resolved, ledger, source, progress.event, lanes=lanes, workers=workers)
    progress_feed: Feed[Item] = ProgressFeed(feed, resolved, ledger, progress)
    log = ledger.path.with_name("workers.log")
    pilot = FailFastFeed(progress_feed, resolved.study.executor.pilot, log)
    outer: Feed[Item] = pilot
    if isinstance(work, TaskRunner) and work.function and work.context.folder:
        outer = ReportedCurveFeed(outer, work.context.folder)
    try:
        with progress.live_display(), handle_signals(progress.event) as stop:
            checked = ReferenceCheckFeed(outer, _worker_check(resolved))
            stoppable = StoppableFeed(checked, stop)
            executor.run(stoppable, replace(work, reference=reference))
            if stoppable.stopped_early:
                raise KeyboardInterrupt
    except DeviceFaultError:  # in this process; the next session must not begin with its trial
        pilot.release()
        raise
    finally:
        with suppress(Exception):
            ledger.requeue_running()
    if failures := environment_failures(ledger, stage):
        progress.event(
            f"{len(failures)} trials failed because of the environment, not of their network "
            f"({next(iter(failures.values()))}): repair it, and run the same command again to "
            "repeat them"
        )
    return feed


def _retry_environment_failures(ledger: Ledger, stage: str, progress: Progress) -> None:
    """Plan the trials again that failed because of the environment, such as a missing module."""
    if failures := environment_failures(ledger, stage):
        ledger.retry(failures)
        progress.event(f"running {len(failures)} trials again that the environment had failed")


def _import_function(study: Study, base_dir: Path) -> ModuleSource | None:
    """Import the function that replaces training, if any; return its source."""
    if study.trial is None:
        return None
    source = function_source(study.trial, base_dir)
    import_function(study.trial, base_dir, source.digest if source else "")
    return source


def _task_runner(
    resolved: ResolvedStudy, resources: Resources, base_dir: Path, source: ModuleSource | None
) -> TaskRunner:
    """Return what workers run; the folder is set later (see `_with_folder`)."""
    study = resolved.study
    check_precision(resolved, resources.device)
    check_reference(resolved, on_cpu=_worker_check(resolved) is not None)
    return TaskRunner(
        context=Context(
            device=resources.device,
            time_limit_s=study.executor.time_limit_s,
            lanes=_lanes(study, resources),
            gpu_share=resources.gpus_per_trial or 1.0,
        ),
        splits={} if study.trial else _splits(resolved),
        reference=resolved.reference,
        function=study.trial,
        function_digest=source.digest if source else "",
        required_metrics=_required_metrics(study),
        times_networks=study.times_networks,
        module_dirs=_module_dirs(study, base_dir),
        plugins=study.plugins,
    )


def _lanes(study: Study, resources: Resources) -> int:
    """Return how many seeds of a network a worker trains side by side."""
    return 1 if study.trial else study.executor.lanes_on(resources.device)


def _resources(study: Study, address: str | None) -> Resources:
    """Return the devices and workers of a study."""
    from partialnas.search.executors.ray_tune import cluster_hardware

    return resolve_resources(study, address, cluster_hardware)


def _worker_check(resolved: ResolvedStudy) -> ReferenceCheck | None:
    """Return the check of the reference that a worker of Ray does before it trains, or None.

    Only workers use a GPU: this process may have none, and if it used one, it would hold memory of
    the GPU for the whole run.
    """
    study = resolved.study
    if study.executor.kind != "ray" or not study.times_networks or study.measure.device == "cpu":
        return None
    return ReferenceCheck(settings=tuple((c.task, c.protocol) for c in resolved.conditions))


def _module_dirs(study: Study, base_dir: Path) -> tuple[Path, ...]:
    """Return where the study's modules are, for workers; none if it has none of its own."""
    modules = [*([study.trial.partition(":")[0]] if study.trial else []), *study.plugins]
    folders = [folder for module in modules if (folder := module_folder(module))]
    return tuple(dict.fromkeys([base_dir.resolve(), *folders])) if modules else ()


def _splits(resolved: ResolvedStudy) -> "dict[Task, Splits]":
    from partialnas.runs.datasets.loaders import load_splits

    check_free_memory(resolved.tasks)
    return {task: load_splits(task) for task in resolved.tasks}


def _required_metrics(study: Study) -> tuple[str, ...]:
    """Return the metrics that a user function must return."""
    provided = {*COUNTED, *(MEASURED_LIMITS if study.times_networks else ())}
    names = (*study.objectives, *study.limits)
    return tuple(dict.fromkeys(name for name in names if name not in provided))


def _with_folder(work: TaskRunner, folder: Path) -> TaskRunner:
    """Return the task runner with a folder for checkpoints and weights."""
    return replace(work, context=replace(work.context, folder=folder))


def _executor(
    study: Study,
    resources: Resources,
    folder: Path,
    base_dir: Path,
    hang_grace_s: float = HANG_GRACE_S,
) -> Executor:
    if study.executor.kind == "in-process":
        return InProcess(folder / "workers.log")
    from partialnas.search.executors.ray_tune import RayTune

    limit_s = study.executor.time_limit_s  # of a trial; a worker has several in its lanes
    own_modules, lanes = study.trial or study.plugins, _lanes(study, resources)
    return RayTune(
        folder=folder,
        workers=resources.workers,
        address=resources.address,
        cpus_per_trial=resources.cpus_per_trial,
        gpus_per_trial=resources.gpus_per_trial,
        gpus=resources.gpus if resources.gpus_per_trial else 0,
        time_limit_s=None if limit_s is None else 1.5 * limit_s * lanes + hang_grace_s,
        isolate=study.executor.isolate,
        modules=user_modules(base_dir) if own_modules and resources.address else (),
    )
