"""Create or resume a study's ledger."""

import json
import os
from pathlib import Path

from partialnas.runs.config.design import Design
from partialnas.runs.datasets.task import explain_content, task_facts
from partialnas.runs.ledger.file import LEDGER_FILE
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import FAILED_STATES
from partialnas.runs.ledger.study_meta import stage_of, task_identities
from partialnas.runs.records.record import is_environment_failure
from partialnas.runs.records.subject import subject_data, subject_digest
from partialnas.runs.system.environment import environment
from partialnas.search.resolve.reference_point import reference_point
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.session.progress import Progress
from partialnas.search.session.source_record import changed_source_meta, new_source_meta
from partialnas.search.study.amendments import amendment_meta, differences, find_amendments
from partialnas.search.study.study_file import recorded_study
from partialnas.space.errors import MachineError, UserError
from partialnas.space.source_code import ModuleSource


def open_ledger(
    resolved: ResolvedStudy,
    folder: Path,
    progress: Progress,
    *,
    base_dir: Path = Path(),
    source: ModuleSource | None = None,
    accept_source: bool = False,
) -> Ledger:
    """Create the study's ledger, or open it to resume the study.

    Args:
        resolved: the study.
        folder: the study's folder.
        progress: shows the user what has changed since the last session.
        base_dir: folder that the study's relative paths start from.
        source: source of the study's function, if it calls one.
        accept_source: whether to continue although this source has changed.

    Raises:
        UserError: the folder holds another study, or the source has changed.
        MachineError: the ledger is damaged or cannot be written.
    """
    frozen = json.dumps(resolved.study.frozen())  # objectives keep the order of the study file
    if not (folder / LEDGER_FILE).exists():
        meta = _meta(resolved, frozen) | new_source_meta(source)
        return Ledger.create(folder, meta | base_dir_meta(folder, base_dir))
    ledger = Ledger.open(folder, write=True, wait=False)
    try:
        _check_study(ledger, resolved, folder)
        recorded = ledger.study
        before = recorded_study(recorded.frozen).frozen()
        lines = find_amendments(before, resolved.study.frozen())
        _check_subjects(ledger, resolved)
        sources, notes = changed_source_meta(ledger, source, accept=accept_source)
        lines += notes
        meta = {"frozen": frozen, **amendment_meta(recorded, lines), **_design(resolved)}
        meta |= sources | base_dir_meta(folder, base_dir)
        changed = {key: value for key, value in meta.items() if recorded.meta.get(key) != value}
        if changed or ledger.state_counts()["running"]:
            ledger.verify_trials()  # refuse a damaged ledger before anything is written to it
        for line in lines:
            progress.event(f"study changed: {line}")
        if changed:
            ledger.update_meta(changed)
    except BaseException:
        ledger.close()
        raise
    return ledger


def _check_study(ledger: Ledger, resolved: ResolvedStudy, folder: Path) -> None:
    """Refuse a ledger of another study, or one without the study's metadata."""
    meta = ledger.meta
    if missing := [key for key in ("study", "frozen", "task", "reference") if key not in meta]:
        raise MachineError(
            f"{folder}: ledger metadata is missing ({', '.join(missing)}); restore the ledger "
            "from a backup, or choose another folder with --out"
        )
    if meta["study"] != resolved.study.study:
        raise UserError(
            f"{folder} holds the study {meta['study']!r}, not {resolved.study.study!r}; "
            "choose another folder with --out"
        )


def _check_subjects(ledger: Ledger, resolved: ResolvedStudy) -> None:
    """Refuse to resume if data, arms or the reference of the study have changed."""
    tasks = {condition.name: condition.task for condition in resolved.conditions}
    changed = differences(ledger.study.task_identities(), task_identities(tasks), "task")
    for name, task in tasks.items():
        recorded = ledger.study.tasks.get(name, task).content
        if recorded != task.content and (reason := explain_content(recorded, task_facts(task))):
            changed.append(f"task.content: the files under {task.path}: {reason}")
    rows = [row for row in ledger.arms() if not stage_of(row)]
    arms = {str(row.arm): row.digest for row in rows if row.arm not in resolved.controls}
    for name, digest in arms.items():
        now = subject_digest(resolved.arms[name]) if name in resolved.arms else "removed"
        if digest != now:
            changed.append(f"arms.{name}: {digest} -> {now}")
    reference = subject_digest(ledger.study.reference)
    if resolved.study.reference and reference != subject_digest(resolved.reference):
        changed.append(f"reference: {reference} -> {subject_digest(resolved.reference)}")
    if changed:
        raise UserError(
            "data, arms or reference of the study have changed since it was started:\n  "
            + "\n  ".join(changed)
            + "\nRestore them, or choose another folder with --out for a new study."
        )


def _meta(resolved: ResolvedStudy, frozen: str) -> dict[str, str]:
    tasks = {c.name: c.task.model_dump(mode="json") for c in resolved.conditions}
    return {
        "study": resolved.study.study,
        "study_digest": resolved.study.digest,
        "frozen": frozen,
        "task": json.dumps(tasks.get("", tasks)),
        "environment": json.dumps(environment()),
        "reference": json.dumps(subject_data(resolved.reference)),
        "reference_point": json.dumps(reference_point(resolved)),
        **_design(resolved),
    }


def base_dir_meta(folder: Path, base_dir: Path) -> dict[str, str]:
    """Return the metadata with which the study can be run again from its folder."""
    return {"base_dir": Path(os.path.relpath(base_dir.resolve(), folder.resolve())).as_posix()}


def failed_trials(ledger: Ledger) -> list[str]:
    """Return the keys of the study's failed trials, without those of its later stages."""
    staged = {row.number for row in ledger.arms() if stage_of(row)}
    return [
        trial.key
        for trial in ledger.trial_results()
        if trial.state in FAILED_STATES and trial.proposal not in staged
    ]


def environment_failures(ledger: Ledger, stage: str) -> dict[str, str]:
    """Return the reasons of the trials that the environment has failed, by key.

    Args:
        ledger: the study's ledger.
        stage: later stage that the trials belong to; empty for the study itself.
    """
    if not ledger.state_counts()["failed"]:
        return {}
    stages = {row.number: stage_of(row) for row in ledger.arms()}
    return {
        trial.key: trial.reason
        for trial in ledger.trials()
        if trial.state == "failed"
        and trial.reason is not None
        and is_environment_failure(trial.reason)
        and stages.get(trial.proposal, "") == stage
    }


def _design(resolved: ResolvedStudy) -> dict[str, str]:
    return {"design": resolved.design.model_dump_json()} if resolved.design else {}


def recorded_design(folder: Path) -> Design | None:
    """Return the ablation design in a folder's ledger, or None if there is none."""
    if not (folder / LEDGER_FILE).exists():
        return None
    with Ledger.open(folder) as ledger:
        return ledger.study.design
