"""Joins what one study has done in several places: refuses different studies, adds up the rest."""

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
from partialnas.search.study.amendments import amendment_meta, differences, find_amendments
from partialnas.search.study.study import Study, immutable_settings
from partialnas.search.study.study_file import to_yaml
from partialnas.space.errors import UserError

_JOINED = ("frozen", "study_digest", "stages", "sequential", "growth", "design")
_FREE = ("environment", "task", "required_partialnas")


def merge_studies(folders: Sequence[Path], out: Path) -> LedgerMerge:
    """Joins the ledgers in `folders` into one in `out`, with their weights; what was joined.

    Raises:
        UserError: fewer than two folders, one of them twice, different studies, or a ledger in
            `out` already.
        MachineError: a ledger is damaged, or the disk is full or cannot be written.
    """
    _check_folders(folders)
    join = LedgerMerge()
    metas: dict[Path, dict[str, str]] = {}
    for folder in folders:
        with Ledger.open(folder) as ledger:
            metas[folder] = ledger.meta
        join.add(folder)
    meta = _joined_meta(metas)
    write_merged(join, meta, out)
    write_file(out / "study.yaml", to_yaml(Study.model_validate(RecordedStudy(meta).frozen)))
    return join


def _check_folders(folders: Sequence[Path]) -> None:
    if len(folders) < 2:
        raise UserError("merge: expected at least two folders that `run` has written")
    places = [folder.resolve() for folder in folders]
    for folder in folders:
        if places.count(folder.resolve()) > 1:
            raise UserError(f"merge: {folder} is named twice")


def _joined_meta(metas: Mapping[Path, dict[str, str]]) -> dict[str, str]:
    """What the joined ledger knows of its study."""
    first, *others = metas
    meta = dict(metas[first])
    for folder in others:
        meta = _with(meta, metas[folder], first, folder)
    recorded = RecordedStudy(meta)
    study = Study.model_validate(recorded.frozen)
    line = f"the trials of {', '.join(folder.name for folder in metas)} joined"
    return {**meta, "study_digest": study.digest, **amendment_meta(recorded, [line])}


def _with(meta: dict[str, str], other: dict[str, str], first: Path, folder: Path) -> dict[str, str]:
    """The facts of one ledger with those of another of the same study."""
    apart = {*_JOINED, *_FREE}
    one, two = ({k: v for k, v in m.items() if k not in apart} for m in (meta, other))
    lines = differences(one, two)
    old, new = RecordedStudy(meta), RecordedStudy(other)
    lines += differences(old.task_identities(), new.task_identities(), "task")
    try:
        frozen, grown = _joined_study(old.frozen, new.frozen)
        stages = _joined_stages(old.stages, new.stages)
    except UserError as error:
        lines.append(str(error))
    if lines:
        raise UserError(
            f"{first} and {folder} hold different studies, which are not joined:\n  "
            + "\n  ".join(lines)
        )
    joined = {**meta, "frozen": json.dumps(frozen, sort_keys=True)}
    if grown and "design" in other:
        joined["design"] = other["design"]
    if stages:
        joined |= stages_meta(stages)
    if notes := [*old.amendments, *new.amendments]:
        joined["growth"] = json.dumps(sorted(notes, key=lambda note: str(note["when"])))
    return joined | _joined_rule(old, new)


def _joined_study(old: PlainData, new: PlainData) -> tuple[PlainData, bool]:
    """Two frozen studies in one, and whether the second is the first with a larger design.

    They may differ by what a study may grow by, and by the seed that their samplers began with.

    Raises:
        UserError: they differ otherwise.
    """
    common = _common(old, new)
    one, two = old | common, new | common
    _refuse(differences(immutable_settings(one), immutable_settings(two)))
    if _grows(one, two):
        return two, one != two
    if not _grows(two, one):
        before, after = ({k: s[k] for k in ("ablation", "seeds")} for s in (one, two))
        _refuse(differences(before, after))
    return one, False


def _grows(old: PlainData, new: PlainData) -> bool:
    try:
        find_amendments(old, new)
    except UserError:
        return False
    return True


def _refuse(lines: Sequence[str]) -> None:
    if lines:
        raise UserError("\n  ".join(lines))


def _common(old: PlainData, new: PlainData) -> PlainData:
    """What two studies have together of everything that may differ between them."""
    for name in old["arms"].keys() & new["arms"].keys():
        _refuse(differences(old["arms"][name], new["arms"][name], f"arms.{name}"))
    common = {
        "arms": old["arms"] | new["arms"],
        "budget": {key: _most(old["budget"][key], new["budget"][key]) for key in old["budget"]},
        "task": old["task"],
        "search": old["search"],
        **{key: old[key] for key in ("executor", "quick", "question")},
    }
    if old["search"] and new["search"]:
        seed = {"seed": old["search"]["seed"]}
        _refuse(differences(old["search"], new["search"] | seed, "search"))
    else:
        _refuse(differences(old["search"], new["search"], "search"))
    if isinstance(old["seeds"], int) and isinstance(new["seeds"], int):
        common["seeds"] = max(old["seeds"], new["seeds"])
    return common


def _most(one: Any, two: Any) -> Any:
    """The larger of two budgets; what is not stated has no end."""
    return None if one is None or two is None else max(one, two)


def _joined_stages(old: dict[str, StudyStage], new: dict[str, StudyStage]) -> dict[str, StudyStage]:
    joined = old | new
    for name in old.keys() & new.keys():
        joined[name] = old[name].merged_with(new[name])
        may_grow = joined[name].model_dump(include={"seeds", "origins", "chosen"})
        before = old[name].model_copy(update=may_grow).model_dump(mode="json")
        _refuse(differences(before, joined[name].model_dump(mode="json"), f"stages.{name}"))
    return joined


def _joined_rule(old: RecordedStudy, new: RecordedStudy) -> dict[str, str]:
    """What the seed rule has decided: of each arm the most seeds."""
    one, two = old.sequential, new.sequential
    known = one or two
    if known is None:
        return {}
    seeds = dict(known.seeds)
    for arm, count in (two.seeds if two else {}).items():
        seeds[arm] = max(count, seeds.get(arm, 0))
    return {"sequential": known.model_copy(update={"seeds": seeds}).model_dump_json()}
