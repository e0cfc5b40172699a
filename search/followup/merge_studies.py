"""Merge the ledgers of one study that ran in several places."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from partialnas.runs.config.design import StudyStage
from partialnas.runs.config.overrides import PlainData
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.merge import LedgerMerge, write_merged
from partialnas.runs.ledger.study_meta import RecordedStudy, stages_meta
from partialnas.runs.system.files import write_file
from partialnas.search.session.open_ledger import base_dir_meta
from partialnas.search.study.amendments import amendment_meta, differences, find_amendments
from partialnas.search.study.study_data import recorded_base_dir
from partialnas.search.study.study_fields import immutable_settings
from partialnas.search.study.study_file import recorded_study, to_yaml
from partialnas.space.errors import UserError

_MERGED_KEYS = ("frozen", "study_digest", "stages", "sequential", "growth", "design")
_MERGED_RECORDS = ("trial_sources", "failures", "failed_timings")
_FILE_KEYS = ("required_partialnas", "ledger_id", "base_dir")
_MAY_DIFFER = ("environment", "task", *_FILE_KEYS, *_MERGED_RECORDS)


def merge_studies(folders: Sequence[Path], out: Path) -> LedgerMerge:
    """Merge the ledgers and weights in `folders` into `out`.

    Returns:
        The merged ledgers.

    Raises:
        UserError: fewer than two folders, a duplicate folder, different studies, or `out` already
            has a ledger.
        MachineError: a ledger is damaged, or the disk is full or not writable.
    """
    _check_folders(folders)
    merge = LedgerMerge()
    metas: dict[Path, dict[str, str]] = {}
    for folder in folders:
        with Ledger.open(folder) as ledger:
            metas[folder] = ledger.meta
        merge.add(folder)
    meta = _merged_meta(metas)
    if base_dir := recorded_base_dir(folders[0]):
        meta |= base_dir_meta(out, base_dir)
    write_merged(merge, meta, out)
    write_file(out / "study.yaml", to_yaml(recorded_study(RecordedStudy(meta).frozen)))
    return merge


def _check_folders(folders: Sequence[Path]) -> None:
    if len(folders) < 2:
        raise UserError("merge: expected at least two result folders of a study")
    paths = [folder.resolve() for folder in folders]
    for folder in folders:
        if paths.count(folder.resolve()) > 1:
            raise UserError(f"merge: duplicate folder {folder}")


def _merged_meta(metas: Mapping[Path, dict[str, str]]) -> dict[str, str]:
    """Return the metadata of the merged ledger."""
    first, *others = metas
    meta = dict(metas[first])
    for folder in others:
        meta = _merge_meta(meta, metas[folder], first, folder)
    recorded = RecordedStudy(meta)
    study = recorded_study(recorded.frozen)
    line = f"merged the trials of {', '.join(folder.name for folder in metas)}"
    return {**meta, "study_digest": study.digest, **amendment_meta(recorded, [line])}


def _merge_meta(
    meta: dict[str, str], other: dict[str, str], first: Path, folder: Path
) -> dict[str, str]:
    """Return the metadata of one ledger merged with those of another one."""
    ignored = {*_MERGED_KEYS, *_MAY_DIFFER}
    one, two = ({k: v for k, v in m.items() if k not in ignored} for m in (meta, other))
    lines = differences(one, two)
    old, new = RecordedStudy(meta), RecordedStudy(other)
    lines += differences(old.task_identities(), new.task_identities(), "task")
    lines += _source_errors(old, new)
    try:
        frozen, is_extension = _merged_study(old.frozen, new.frozen)
        stages = _merged_stages(old.stages, new.stages)
    except UserError as error:
        lines.append(str(error))
    if lines:
        head = f"{first} and {folder} have different studies and cannot be merged:"
        raise UserError("\n  ".join([head, *lines]))
    merged = {**meta, "frozen": json.dumps(frozen)}
    if is_extension and "design" in other:
        merged["design"] = other["design"]
    if stages:
        merged |= stages_meta(stages)
    if notes := [*old.amendments, *new.amendments]:
        merged["growth"] = json.dumps(sorted(notes, key=lambda note: str(note["when"])))
    return merged | _merged_sequential(old, new) | _merged_records(old, new)


def _source_errors(old: RecordedStudy, new: RecordedStudy) -> list[str]:
    """Return the difference between the latest sources of the studies' function, if any."""
    latest = [s.trial_sources[-1]["digest"] for s in (old, new) if s.trial_sources]
    if len({*latest}) < 2:
        return []
    advice = "run one study with `--accept-source` and the source of the other first"
    return [f"source of {old.frozen.get('trial')}: {latest[0]} -> {latest[1]} ({advice})"]


def _merged_records(old: RecordedStudy, new: RecordedStudy) -> dict[str, str]:
    """Return all recorded sources of the studies' function, and all recorded failures."""
    versions = {(s["when"], s["digest"]): s for s in (*old.trial_sources, *new.trial_sources)}
    failures = {key: [*past] for key, past in old.failures.items()}
    for key, past in new.failures.items():
        entries = failures.setdefault(key, [])
        entries += [failure for failure in past if failure not in entries]
    sources = [version for _, version in sorted(versions.items())]
    timings = sorted({*old.failed_timings, *new.failed_timings}, key=lambda failed: failed.ended)
    plain = [timing.model_dump(mode="json") for timing in timings]
    records = {"trial_sources": sources, "failures": failures, "failed_timings": plain}
    return {key: json.dumps(record) for key, record in records.items() if record}


def _merged_study(old: PlainData, new: PlainData) -> tuple[PlainData, bool]:
    """Return two frozen studies merged, and whether the second extends the first's design.

    The studies may differ in settings that may be amended and in the seed of the sampler.

    Raises:
        UserError: there are other differences.
    """
    common = _merged_settings(old, new)
    one, two = old | common, new | common
    _check_equal(immutable_settings(one), immutable_settings(two))
    if _is_amendment(one, two):
        return two, one != two
    if not _is_amendment(two, one):
        before, after = ({k: s[k] for k in ("ablation", "seeds")} for s in (one, two))
        _check_equal(before, after)
    return one, False


def _is_amendment(old: PlainData, new: PlainData) -> bool:
    try:
        find_amendments(old, new)
    except UserError:
        return False
    return True


def _check_equal(old: Any, new: Any, path: str = "") -> None:
    if lines := differences(old, new, path):
        raise UserError("\n  ".join(lines))


def _merged_settings(old: PlainData, new: PlainData) -> PlainData:
    """Return the merged values of the settings that may differ between two studies."""
    for name in old["arms"].keys() & new["arms"].keys():
        _check_equal(old["arms"][name], new["arms"][name], f"arms.{name}")
    common = {
        "arms": old["arms"] | new["arms"],
        "budget": {key: _larger(old["budget"][key], new["budget"][key]) for key in old["budget"]},
        "task": old["task"],
        "search": old["search"],
        **{key: old[key] for key in ("executor", "quick", "question")},
    }
    search = new["search"]
    if old["search"] and search:
        search = search | {"seed": old["search"]["seed"]}
    _check_equal(old["search"], search, "search")
    if isinstance(old["seeds"], int) and isinstance(new["seeds"], int):
        common["seeds"] = max(old["seeds"], new["seeds"])
    return common


def _larger(one: Any, two: Any) -> Any:
    """Return the larger of two limits; None is unlimited."""
    return None if one is None or two is None else max(one, two)


def _merged_stages(old: dict[str, StudyStage], new: dict[str, StudyStage]) -> dict[str, StudyStage]:
    merged = old | new
    for name in old.keys() & new.keys():
        merged[name] = old[name].merged_with(new[name])
        may_differ = merged[name].model_dump(include={"seeds", "origins", "chosen"})
        before = old[name].model_copy(update=may_differ).model_dump(mode="json")
        _check_equal(before, merged[name].model_dump(mode="json"), f"stages.{name}")
    return merged


def _merged_sequential(old: RecordedStudy, new: RecordedStudy) -> dict[str, str]:
    """Return the decisions of the seed rule merged: the larger number of seeds of each arm."""
    decision = old.sequential or new.sequential
    if decision is None:
        return {}
    seeds = dict(decision.seeds)
    for arm, count in (new.sequential.seeds if new.sequential else {}).items():
        seeds[arm] = max(count, seeds.get(arm, 0))
    return {"sequential": decision.model_copy(update={"seeds": seeds}).model_dump_json()}
