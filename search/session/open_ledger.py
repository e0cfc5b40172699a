"""The ledger of a study: begun, or taken up where it is the same study."""

import json
from pathlib import Path
from typing import Any

from partialnas.runs.config.design import Design
from partialnas.runs.ledger.file import LEDGER_FILE
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import stage_of, task_identities
from partialnas.runs.records.subject import subject_data, subject_digest
from partialnas.runs.system.environment import environment
from partialnas.search.resolve.reference_point import reference_point
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.session.progress import Progress
from partialnas.search.study.amendments import amendment_meta, differences, find_amendments
from partialnas.search.study.study import Study
from partialnas.space.errors import MachineError, UserError


def open_ledger(prepared: ResolvedStudy, folder: Path, progress: Progress) -> Ledger:
    """The study's ledger, new or taken up; refused where it belongs to another study."""
    frozen = json.dumps(prepared.study.frozen(), sort_keys=True)
    if not (folder / LEDGER_FILE).exists():
        return Ledger.create(folder, _meta(prepared, frozen))
    ledger = Ledger.open(folder, write=True, wait=False)
    try:
        _check_name(ledger, prepared, folder)
        recorded = ledger.study
        lines = find_amendments(
            Study.model_validate(recorded.frozen).frozen(), prepared.study.frozen()
        )
        _check_named(ledger, prepared)
        told = {"frozen": frozen, **amendment_meta(recorded, lines), **_design(prepared)}
        changed = {key: value for key, value in told.items() if recorded.meta.get(key) != value}
        if changed or ledger.state_counts()["running"]:
            ledger.verify_trials()  # a damaged ledger is told before anything is written to it
        for line in lines:
            progress.event(f"the study goes on with {line}")
        if changed:
            ledger.update_meta(changed)
    except BaseException:
        ledger.close()
        raise
    return ledger


def _check_name(ledger: Ledger, prepared: ResolvedStudy, folder: Path) -> None:
    """Refuse a ledger of another study, or one that does not know of which it is."""
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


def _check_named(ledger: Ledger, prepared: ResolvedStudy) -> None:
    """Refuse a ledger whose study names data, arms or a reference that have changed since."""
    tasks = {each.name: each.task for each in prepared.conditions}
    changed = differences(ledger.study.task_identities(), task_identities(tasks), "task")
    own = [row for row in ledger.arms() if not stage_of(row)]
    arms = {str(row.arm): row.digest for row in own if row.arm not in prepared.controls}
    for name, digest in arms.items():
        now = subject_digest(prepared.arms[name]) if name in prepared.arms else "gone"
        if digest != now:
            changed.append(f"arms.{name}: {digest} -> {now}")
    reference = subject_digest(ledger.study.reference)
    if prepared.study.reference and reference != subject_digest(prepared.reference):
        changed.append(f"reference: {reference} -> {subject_digest(prepared.reference)}")
    if changed:
        raise UserError(
            "what the study names has changed since it was begun:\n  "
            + "\n  ".join(changed)
            + "\nBring it back, or use another --out for a new study."
        )


def _meta(prepared: ResolvedStudy, frozen: str) -> dict[str, str]:
    return {
        "study": prepared.study.study,
        "study_digest": prepared.study.digest,
        "frozen": frozen,
        "task": json.dumps(_tasks(prepared)),
        "environment": json.dumps(environment()),
        "reference": json.dumps(subject_data(prepared.reference)),
        "reference_point": json.dumps(reference_point(prepared)),
        **_design(prepared),
    }


def _design(prepared: ResolvedStudy) -> dict[str, str]:
    return {"design": prepared.design.model_dump_json()} if prepared.design else {}


def recorded_design(folder: Path) -> Design | None:
    """The design of the ablation that was begun in a folder, if there is one."""
    if not (folder / LEDGER_FILE).exists():
        return None
    with Ledger.open(folder) as ledger:
        return ledger.study.design


def _tasks(prepared: ResolvedStudy) -> dict[str, Any]:
    """The study's one task, or that of each condition, as plain data."""
    tasks = {each.name: each.task.model_dump(mode="json") for each in prepared.conditions}
    return tasks.get("", tasks)
