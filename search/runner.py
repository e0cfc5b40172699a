"""Run a study: the driver, and the only writer of its ledger."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from partialnas.runs.data import load_splits
from partialnas.runs.environment import environment
from partialnas.runs.files import write_file
from partialnas.runs.ledger import Ledger
from partialnas.runs.ledger_file import LEDGER_FILE
from partialnas.runs.subject import subject_data, subject_digest, subject_from
from partialnas.runs.task import Task
from partialnas.runs.trial import Context
from partialnas.search.executor import Executor, Feed, InProcess
from partialnas.search.feed import StudyFeed
from partialnas.search.growth import differences, growth, noted
from partialnas.search.keeping import drop_weights
from partialnas.search.placement import Placement, place
from partialnas.search.prepare import Prepared, prepare, rehearse_all, same_network
from partialnas.search.progress import Progress
from partialnas.search.sources import OptunaSource, Source
from partialnas.search.study import Study
from partialnas.search.watched import Watched
from partialnas.search.work import Item, Work, import_function
from partialnas.space.errors import MachineError, UserError


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
    prepared = prepare(study, beside)
    placement = place(study, address)
    work = _work(prepared, placement, folder, beside)
    for line in same_network(prepared):
        progress.event(f"note: {line}")
    with _ledger(prepared, folder, progress) as ledger:
        reference = subject_from(json.loads(ledger.meta["reference"]))
        work = replace(work, reference=reference)
        ledger.recover()
        write_file(folder / "study.yaml", _as_yaml(study))
        feed = StudyFeed(prepared, ledger, _source(prepared), progress.event)
        watched: Feed[Item] = Watched(feed, prepared, ledger, progress)
        try:
            with progress.showing():
                _executor(study, placement, folder).run(watched, work)
        finally:
            with suppress(Exception):
                ledger.recover()
        if study.recipe.keep_weights == "front":
            drop_weights(folder, feed.dominated())


def _ledger(prepared: Prepared, folder: Path, progress: Progress) -> Ledger:
    """The study's ledger, new or taken up; refused where it belongs to another study."""
    frozen = json.dumps(prepared.study.frozen(), sort_keys=True)
    if not (folder / LEDGER_FILE).exists():
        return Ledger.create(folder, _meta(prepared, frozen))
    ledger = Ledger.open(folder, write=True)
    try:
        ledger.trials()  # a damaged ledger is told before anything is written to it
        _check_same(ledger, prepared, folder)
        before = Study.model_validate_json(ledger.meta["frozen"]).frozen()
        lines = growth(before, prepared.study.frozen())
        for line in lines:
            progress.event(f"the study goes on with {line}")
        ledger.amend({"frozen": frozen, **noted(ledger.meta, lines)})
    except BaseException:
        ledger.close()
        raise
    return ledger


def _check_same(ledger: Ledger, prepared: Prepared, folder: Path) -> None:
    """Refuse a ledger of another study, or of one whose data, arms or reference have changed."""
    meta = ledger.meta
    if missing := [key for key in ("study", "frozen", "task", "reference") if key not in meta]:
        raise MachineError(
            f"{folder}: the ledger has lost what its study is ({', '.join(missing)}): put a copy "
            "in its place, or start in another folder with --out"
        )
    if meta["study"] != prepared.study.study:
        raise UserError(
            f"{folder} holds the study {meta['study']!r}, not {prepared.study.study!r}; "
            "name another folder with --out"
        )
    before, after = _identities(json.loads(meta["task"])), _identities(_tasks(prepared))
    changed = differences(before, after, "task")
    arms = {row.arm: row.digest for row in ledger.proposals() if row.arm in prepared.arms}
    for name, arm in prepared.arms.items():
        if arms.get(name, subject_digest(arm)) != subject_digest(arm):
            changed.append(f"arms.{name}: {arms[name]} -> {subject_digest(arm)}")
    reference = subject_digest(subject_from(json.loads(meta["reference"])))
    if prepared.study.reference and reference != subject_digest(prepared.reference):
        changed.append(f"reference: {reference} -> {subject_digest(prepared.reference)}")
    if changed:
        raise UserError(
            "what the study names has changed since it was begun:\n  "
            + "\n  ".join(changed)
            + "\nBring it back, or use another --out for a new study."
        )


def _meta(prepared: Prepared, frozen: str) -> dict[str, str]:
    return {
        "study": prepared.study.study,
        "study_digest": prepared.study.digest,
        "frozen": frozen,
        "task": json.dumps(_tasks(prepared)),
        "environment": json.dumps(environment()),
        "reference": json.dumps(subject_data(prepared.reference)),
    }


def _tasks(prepared: Prepared) -> dict[str, Any]:
    """The study's one task, or that of each condition, as plain data."""
    tasks = {each.name: each.task.model_dump(mode="json") for each in prepared.conditions}
    return tasks.get("", tasks)


def _identities(tasks: dict[str, Any]) -> dict[str, Any]:
    """The same without where the data lie."""
    if isinstance(tasks.get("data"), str):
        return Task.model_validate(tasks).identity()
    return {name: Task.model_validate(task).identity() for name, task in tasks.items()}


def _as_yaml(study: Study) -> str:
    head = "# The study as it was run, every setting stated.\n"
    return head + yaml.safe_dump(study.frozen(), sort_keys=False, allow_unicode=True)


def _source(prepared: Prepared) -> Source | None:
    study = prepared.study
    if study.search is None or prepared.space is None:
        return None
    return OptunaSource(prepared.space, study.search, study.objectives)


def _work(prepared: Prepared, placement: Placement, folder: Path, beside: Path) -> Work:
    study = prepared.study
    if study.trial is not None:
        import_function(study.trial, beside)
    else:
        rehearse_all(prepared)
    tasks = dict.fromkeys(condition.task for condition in prepared.conditions)
    context = Context(
        device=placement.device,
        folder=folder.resolve(),
        time_limit_s=study.executor.time_limit_s,
    )
    counted = ("params", "macs", "macs_core", "activations")
    return Work(
        context=context,
        splits={} if study.trial else {t: load_splits(t) for t in tasks},
        reference=prepared.reference,
        function=study.trial,
        required=tuple(name for name in study.objectives if name not in counted),
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
