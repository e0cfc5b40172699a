"""Tidy tables of learned ratios: over epochs, and by image, class and kind of input."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from partialnas.analysis.frames.folders import Paths, study_folder, study_folders
from partialnas.analysis.frames.load import load_trials
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.record import RatioEpoch
from partialnas.runs.records.subject import parse_subject
from partialnas.space.arch.architecture import Architecture, Boundary
from partialnas.space.arch.ratio import LearnedRatio

TrialNumbers = Iterable[int] | None

_STUDY = ("study", "folder")
_TRIAL = ("trial", "digest", "name", "condition", "arm", "series", "seed", "counts")
_BOUNDARY = ("boundary", "stage", "block", "part", "per", "grain", "static")
_STATE = ("used_macs", "budget_macs", "multiplier", "gradient_norm", "ramp", "warnings")
COLUMNS = (*_STUDY, *_TRIAL, *_BOUNDARY, "epoch", "channels", "ratio", *_STATE)
"""Columns of `load_ratios`."""

TABLE_COLUMNS = (*_TRIAL, *_BOUNDARY, "epoch", "class", "kind", "channels", "ratio", *_STATE)
"""Columns of `ratio_table`."""

SERIES_COLUMNS = ["series", "condition", "arm"]
"""Columns that identify the series of a trial."""

_TEXTS = (
    *("study", "folder", "digest", "name", "condition", "arm", "series", "boundary", "per", "kind"),
    *("warnings", "warning"),
)
_INTEGERS = ("trial", "seed", "stage", "block", "part", "grain", "epoch", "class")


class _Recorded(NamedTuple):
    """The epochs of one trial, with the facts of the trial and of its boundaries by name."""

    facts: dict[str, Any]
    boundaries: dict[str, dict[str, Any]]
    epochs: list[RatioEpoch]


def load_ratios(paths: Paths, trials: TrialNumbers = None) -> pd.DataFrame:
    """Return one row per trial, epoch and boundary, for the trials that learned ratios.

    The first columns are those of the other long tables (see `load_curves`).

    `series` identifies the trials that differ only in the seed (see `with_series`). `counts` is
    whether a trial is done at the study's full fidelity. `stage`, `block` and `part` count from 1.
    `per` is `layer` or `input`. `grain` is the number of channels that a learned size is a multiple
    of. `static` is the ratio that learning starts from. `ratio` is `channels` divided by the width
    of the block. `used_macs`, `budget_macs`, `multiplier`, `gradient_norm`, `ramp` and `warnings`
    (joined sentences) belong to the epoch and are the same for all boundaries; see `RatioEpoch`.

    Args:
        paths: folders of the studies.
        trials: numbers of the trials of each study to load; by default all.

    Raises:
        UserError: no folder given, one holds no ledger, or a study has no such trial.
        MachineError: a ledger is damaged or cannot be read.
    """
    tables = [_over_epochs(_recorded(folder, trials)) for folder in study_folders(paths)]
    return pd.concat(tables, ignore_index=True)


def load_distribution(folder: Path | str, trials: TrialNumbers = None) -> pd.DataFrame:
    """Return the distribution of channels over images, if every image has its own ratio.

    The table has one row per trial, epoch, boundary and number of `channels`, with the `share` of
    the validation images. For arguments and errors see `load_ratios`.
    """
    recorded = _recorded(study_folder(folder), trials)
    table = _by_image(recorded, "distribution", "channels", "share")
    return table.astype({"channels": "int64"})


def load_per_class(
    folder: Path | str, trials: TrialNumbers = None, *, last: bool = False
) -> pd.DataFrame:
    """Return the mean ratio of the validation images by class, if every image has its own ratio.

    The table has one row per trial, epoch (with `last` only the last one), boundary and `class`,
    with the `ratio`. For other arguments and errors see `load_ratios`.
    """
    recorded = _recorded(study_folder(folder), trials)
    return _by_image(recorded, "per_class", "class", "ratio", last=last)


def load_per_kind(folder: Path | str, trials: TrialNumbers = None) -> pd.DataFrame:
    """Return the mean ratio of clean, blurred, noisy and low-resolution validation images.

    The table has one row per trial, boundary and `kind`, with the `ratio` in the last epoch. For
    arguments and errors see `load_ratios`.
    """
    recorded = _recorded(study_folder(folder), trials)
    return _by_image(recorded, "per_kind", "kind", "ratio", last=True)


def load_warnings(folder: Path | str, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row per warning of a trial with learned ratios, with its `epoch`.

    Args:
        folder: folder of the study.
        frame: trials of the study, as returned by `with_series`; by default loaded.

    Raises:
        UserError: the folder holds no ledger.
        MachineError: the ledger is damaged or cannot be read.
    """
    columns = (*_TRIAL, "epoch", "warning")
    with Ledger.open(Path(folder)) as ledger:
        warned = ledger.warnings()
    if not warned:
        return _table([], columns)
    facts = {row["key"]: _trial_facts(row) for row in _rows(Path(folder), frame)}
    rows = [
        facts[w.key] | {"epoch": w.epoch, "warning": w.message} for w in warned if w.key in facts
    ]
    return _table(rows, columns).sort_values(["trial", "epoch"], ignore_index=True)


def ratio_table(folder: Path | str, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the learned ratios of every trial, epoch, class and kind of input.

    The table has the rows of `load_ratios`, followed by those by class and by kind. A row without
    `class` and `kind` covers all validation images. Other rows belong to the last epoch and have
    only the `ratio`.

    Args:
        folder: folder of the study.
        frame: trials of the study, as returned by `with_series`; by default loaded.

    Raises:
        UserError: the folder holds no ledger.
        MachineError: the ledger is damaged or cannot be read.
    """
    recorded = list(_recorded(Path(folder), None, frame))
    tables = [
        _over_epochs(recorded),
        _by_image(recorded, "per_class", "class", "ratio", last=True),
        _by_image(recorded, "per_kind", "kind", "ratio", last=True),
    ]
    present = [table for table in tables if not table.empty] or tables[:1]
    combined = pd.concat([_with_all_columns(table) for table in present], ignore_index=True)
    return combined.astype({"class": "Int64", "kind": "str", "warnings": "str"})


def _with_all_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with all columns of `ratio_table`; missing texts become empty."""
    absent = {key: "" for key in ("kind", "warnings") if key not in table}
    return table.assign(**absent).reindex(columns=[*TABLE_COLUMNS])


def overall_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a `ratio_table` that cover all validation images."""
    return table[table["class"].isna() & table["kind"].eq("")]


def final_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the last epoch of the trials that count.

    Args:
        table: ratios, as returned by `load_ratios`.
    """
    last = table.groupby("trial")["epoch"].transform("max")
    return table[table["counts"] & table["epoch"].eq(last)]


def series_by_seed_count(final: pd.DataFrame) -> list[str]:
    """Return the names of the series by descending number of seeds, then in order of trials.

    Args:
        final: ratios, as returned by `final_ratios`.
    """
    seeds = final.groupby("series", sort=False)["trial"].nunique()
    return [str(name) for name in seeds.sort_values(ascending=False, kind="stable").index]


def freeze_epoch(history: pd.DataFrame) -> int | None:
    """Return the first epoch after the last one with a soft boundary, or None without any.

    Args:
        history: ratios of one trial, with `epoch` and `ramp`.
    """
    soft = history.loc[history["ramp"].gt(0), "epoch"]
    frozen = history.loc[history["epoch"].gt(soft.max()), "epoch"]
    return None if frozen.empty else int(frozen.min())


def with_series(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with `condition` and `series`.

    A series is the trials of one arm, or of one searched network, under one condition. Its name is
    the arm or the number of the network's first trial, preceded by the condition if there are
    several.

    Args:
        frame: trials of one study, as returned by `load`.
    """
    condition = frame["condition"] if "condition" in frame else pd.Series("", index=frame.index)
    first = frame.groupby([condition, frame["digest"]])["trial"].transform("min")
    series = frame["arm"].where(frame["arm"].ne(""), "#" + first.astype(str))
    if condition.nunique() > 1:
        series = (condition + ": ").where(condition.ne(""), "") + series
    return frame.assign(condition=condition, series=series)


def _over_epochs(recorded: Iterable[_Recorded]) -> pd.DataFrame:
    rows = [
        {**trial.facts, **boundary, **_state(epoch), **_size(epoch, name)}
        for trial in recorded
        for epoch in trial.epochs
        for name, boundary in trial.boundaries.items()
    ]
    return _table(rows, COLUMNS)


def _by_image(
    recorded: Iterable[_Recorded],
    field: Literal["distribution", "per_class", "per_kind"],
    key: str,
    value: str,
    *,
    last: bool = False,
) -> pd.DataFrame:
    rows = [
        {**trial.facts, **trial.boundaries[boundary], "epoch": epoch.epoch, key: k, value: v}
        for trial in recorded
        for epoch in trial.epochs[-1 if last else 0 :]
        for boundary, values in getattr(epoch, field).items()
        for k, v in values.items()
    ]
    return _table(rows, (*_STUDY, *_TRIAL, *_BOUNDARY, "epoch", key, value))


def _recorded(
    folder: Path, trials: TrialNumbers, frame: pd.DataFrame | None = None
) -> Iterator[_Recorded]:
    rows = {row["trial"]: row for row in _rows(folder, frame)}
    with Ledger.open(folder) as ledger:
        selected = ledger.trials() if trials is None else [ledger.trial(n) for n in trials]
        selected = [trial for trial in selected if trial.number in rows]  # others: later stages
        subjects = {row.number: row.subject for row in ledger.proposals()}
        for trial in selected:
            if epochs := ledger.ratios(trial.key):
                boundaries = _boundaries(subjects[trial.proposal])
                yield _Recorded(_trial_facts(rows[trial.number]), boundaries, epochs)


def _rows(folder: Path, frame: pd.DataFrame | None) -> list[dict[Any, Any]]:
    """Return the trials of the study as dictionaries."""
    return (with_series(load_trials(folder).frame) if frame is None else frame).to_dict("records")


def _trial_facts(row: dict[Any, Any]) -> dict[str, Any]:
    counts = row["state"] == "done" and row["fidelity"] == row["full_fidelity"]
    return {key: row[key] for key in (*_STUDY, *_TRIAL[:-1])} | {"counts": counts}


def _boundaries(subject: Any) -> dict[str, dict[str, Any]]:
    """Return the facts of the boundaries of a network by name, from input to output."""
    architecture = parse_subject(subject)
    if not isinstance(architecture, Architecture):
        return {}
    return {b.name: _boundary_facts(architecture, b) for b in architecture.boundaries}


def _boundary_facts(architecture: Architecture, boundary: Boundary) -> dict[str, Any]:
    stage, block, part = boundary
    ratio = architecture.stages[stage].blocks[block].parts[part].ratio
    assert isinstance(ratio, LearnedRatio)  # by the definition of a boundary
    facts = (boundary.name, stage + 1, block + 1, part + 1, ratio.per, ratio.grain)
    return dict(zip(_BOUNDARY, (*facts, float(ratio.start)), strict=True))


def _size(epoch: RatioEpoch, boundary: str) -> dict[str, float]:
    return {"channels": epoch.channels[boundary], "ratio": epoch.ratios[boundary]}


def _state(epoch: RatioEpoch) -> dict[str, Any]:
    state = {key: getattr(epoch, key) for key in ("epoch", *_STATE)}
    return state | {"warnings": "; ".join(epoch.warnings)}


def _table(rows: list[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """Return a table of the rows whose column types do not depend on the data."""
    table = pd.DataFrame(rows, columns=[*columns])
    kinds = dict.fromkeys(_INTEGERS, "int64") | dict.fromkeys(_TEXTS, "str") | {"counts": "bool"}
    return table.astype({name: kinds.get(str(name), "float64") for name in table.columns})
