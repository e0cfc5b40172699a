"""Learned ratios of a study as tidy tables: over the epochs, and by image, class and kind."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from partialnas.analysis.frames.load import load
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.record import RatioEpoch
from partialnas.runs.records.subject import parse_subject
from partialnas.space.arch.architecture import Architecture, Boundary
from partialnas.space.arch.ratio import LearnedRatio

Trials = Iterable[int] | None

_WHO = ("trial", "digest", "name", "condition", "arm", "series", "seed", "counts")
_WHERE = ("boundary", "stage", "block", "part", "per", "grain", "static")
_WHAT = ("used_macs", "budget_macs", "multiplier", "gradient_norm", "ramp", "warnings")
COLUMNS = (*_WHO, *_WHERE, "epoch", "channels", "ratio", *_WHAT)
"""The columns of `load_ratios`."""

TABLE_COLUMNS = (*_WHO, *_WHERE, "epoch", "class", "kind", "channels", "ratio", *_WHAT)
"""The columns of `ratio_table`."""

SERIES_COLUMNS = ["series", "condition", "arm"]
"""The columns that say which series a trial is one seed of."""

_TEXTS = (
    *("digest", "name", "condition", "arm", "series", "boundary", "per", "kind"),
    *("warnings", "warning"),
)
_WHOLE = ("trial", "seed", "stage", "block", "part", "grain", "epoch", "class")


class _Recorded(NamedTuple):
    """The epochs of one trial, whose they are, and where its boundaries lie, by name."""

    facts: dict[str, Any]
    places: dict[str, dict[str, Any]]
    epochs: list[RatioEpoch]


def load_ratios(folder: Path | str, trials: Trials = None) -> pd.DataFrame:
    """One row per trial, epoch and boundary, for the trials that learned ratios.

    `series` is what the trial is one seed of (see `with_series`); `counts` whether it is done, at
    the study's full fidelity. `stage`, `block` and `part` count from 1; `per` is `layer` or
    `input`; `grain` the number of channels that a learned size is a multiple of; `static` the
    stated ratio that learning starts from; `ratio` is `channels` over the block's width.
    `used_macs`, `budget_macs`, `multiplier`, `gradient_norm`, `ramp` and `warnings` (sentences, one
    after the other) are the epoch's, the same for all its boundaries; see `RatioEpoch`.

    Args:
        folder: of the study.
        trials: numbers of those to load; all without.

    Raises:
        UserError: the folder holds no ledger, or the study has no such trial.
        MachineError: the ledger is damaged or cannot be read.
    """
    return _over_epochs(_recorded(Path(folder), trials))


def load_distribution(folder: Path | str, trials: Trials = None) -> pd.DataFrame:
    """How many channels images get, where every image has its own ratio.

    One row per trial, epoch, boundary and number of `channels`, with the `share` of the
    validation images that have so many. Arguments and errors as of `load_ratios`.
    """
    recorded = _recorded(Path(folder), trials)
    table = _by_image(recorded, "distribution", "channels", "share")
    return table.astype({"channels": "int64"})


def load_per_class(
    folder: Path | str, trials: Trials = None, *, last: bool = False
) -> pd.DataFrame:
    """The mean ratio of the validation images of each class, where every image has its own.

    One row per trial, epoch (with `last` of the last one alone), boundary and `class`, with the
    `ratio`. Other arguments and errors as of `load_ratios`.
    """
    recorded = _recorded(Path(folder), trials)
    return _by_image(recorded, "per_class", "class", "ratio", last=last)


def load_per_kind(folder: Path | str, trials: Trials = None) -> pd.DataFrame:
    """The mean ratio of clean, blurred, noisy and low-resolution validation images.

    One row per trial, boundary and `kind`, with the `ratio`, of the last epoch. Arguments and
    errors as of `load_ratios`.
    """
    recorded = _recorded(Path(folder), trials)
    return _by_image(recorded, "per_kind", "kind", "ratio", last=True)


def load_warnings(folder: Path | str, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per warning that a trial with learned ratios met, with its `epoch`, by trial.

    Args:
        folder: of the study.
        frame: its trials, as `with_series` gives them; loaded without.

    Raises:
        UserError: the folder holds no ledger.
        MachineError: the ledger is damaged or cannot be read.
    """
    columns = (*_WHO, "epoch", "warning")
    with Ledger.open(Path(folder)) as ledger:
        warned = ledger.warnings()
    if not warned:
        return _table([], columns)
    of = {row["key"]: _who(row) for row in _rows(Path(folder), frame)}
    rows = [of[w.key] | {"epoch": w.epoch, "warning": w.message} for w in warned]
    return _table(rows, columns).sort_values(["trial", "epoch"], ignore_index=True)


def ratio_table(folder: Path | str, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """All that a figure of learned ratios shows, and more: every trial, epoch, class and kind.

    The rows of `load_ratios`, then those by class and by kind of input. A row speaks of all
    validation images where it names no `class` and no `kind`; those that name one are of the last
    epoch, and tell the `ratio` alone.

    Args:
        folder: of the study.
        frame: its trials, as `with_series` gives them; loaded without.

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
    whole = pd.concat([_without_absent(table) for table in present], ignore_index=True)
    return whole.astype({"class": "Int64", "kind": "str", "warnings": "str"})


def _without_absent(table: pd.DataFrame) -> pd.DataFrame:
    """The table with all columns of a `ratio_table`; texts that it lacks are empty ones."""
    absent = {key: "" for key in ("kind", "warnings") if key not in table}
    return table.assign(**absent).reindex(columns=[*TABLE_COLUMNS])


def overall_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a `ratio_table` that speak of all validation images."""
    return table[table["class"].isna() & table["kind"].eq("")]


def final_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last epoch of the trials that count.

    Args:
        table: as `load_ratios` gives it.
    """
    last = table.groupby("trial")["epoch"].transform("max")
    return table[table["counts"] & table["epoch"].eq(last)]


def series_by_seed_count(final: pd.DataFrame) -> list[str]:
    """The names of the series, those with most seeds first, then in the order of their trials.

    Args:
        final: as `final_ratios` gives it.
    """
    seeds = final.groupby("series", sort=False)["trial"].nunique()
    return [str(name) for name in seeds.sort_values(ascending=False, kind="stable").index]


def freeze_epoch(history: pd.DataFrame) -> int | None:
    """The first epoch of those at the end in which no boundary is soft.

    None where the training ended before, and where none ever was.

    Args:
        history: of one trial, with `epoch` and `ramp`.
    """
    soft = history.loc[history["ramp"].gt(0), "epoch"]
    frozen = history.loc[history["epoch"].gt(soft.max()), "epoch"]
    return None if frozen.empty else int(frozen.min())


def with_series(frame: pd.DataFrame) -> pd.DataFrame:
    """The trials with `condition` and `series`: the same for the seeds of one arm in one condition.

    It is called by its arm, or without one by the number of its network's first trial, after its
    condition where the study has several.

    Args:
        frame: the trials of one study, as `load` gives them.
    """
    condition = frame["condition"] if "condition" in frame else pd.Series("", index=frame.index)
    first = frame.groupby([condition, frame["digest"]])["trial"].transform("min")
    series = frame["arm"].where(frame["arm"].ne(""), "#" + first.astype(str))
    if condition.nunique() > 1:
        series = (condition + ": ").where(condition.ne(""), "") + series
    return frame.assign(condition=condition, series=series)


def _over_epochs(recorded: Iterable[_Recorded]) -> pd.DataFrame:
    rows = [
        {**each.facts, **place, **_state(epoch), **_size(epoch, boundary)}
        for each in recorded
        for epoch in each.epochs
        for boundary, place in each.places.items()
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
        {**each.facts, **each.places[boundary], "epoch": epoch.epoch, key: k, value: v}
        for each in recorded
        for epoch in each.epochs[-1 if last else 0 :]
        for boundary, values in getattr(epoch, field).items()
        for k, v in values.items()
    ]
    return _table(rows, (*_WHO, *_WHERE, "epoch", key, value))


def _recorded(
    folder: Path, trials: Trials, frame: pd.DataFrame | None = None
) -> Iterator[_Recorded]:
    rows = {row["trial"]: row for row in _rows(folder, frame)}
    with Ledger.open(folder) as ledger:
        chosen = ledger.trials() if trials is None else [ledger.trial(n) for n in trials]
        subjects = {row.number: row.subject for row in ledger.proposals()}
        for trial in chosen:
            if epochs := ledger.ratios(trial.key):
                places = _places(subjects[trial.proposal])
                yield _Recorded(_who(rows[trial.number]), places, epochs)


def _rows(folder: Path, frame: pd.DataFrame | None) -> list[dict[Any, Any]]:
    """The study's table of trials, row by row."""
    return (with_series(load(folder)) if frame is None else frame).to_dict("records")


def _who(row: dict[Any, Any]) -> dict[str, Any]:
    counts = row["state"] == "done" and row["fidelity"] == row["full_fidelity"]
    return {key: row[key] for key in _WHO[:-1]} | {"counts": counts}


def _places(subject: Any) -> dict[str, dict[str, Any]]:
    """Where the boundaries of a network lie, from input to output; empty where it has none."""
    architecture = parse_subject(subject)
    if not isinstance(architecture, Architecture):
        return {}
    return {b.name: _place(architecture, b) for b in architecture.boundaries}


def _place(architecture: Architecture, boundary: Boundary) -> dict[str, Any]:
    stage, block, part = boundary
    ratio = architecture.stages[stage].blocks[block].parts[part].ratio
    assert isinstance(ratio, LearnedRatio)  # that is what makes it a boundary
    facts = (boundary.name, stage + 1, block + 1, part + 1, ratio.per, ratio.grain)
    return dict(zip(_WHERE, (*facts, float(ratio.start)), strict=True))


def _size(epoch: RatioEpoch, boundary: str) -> dict[str, float]:
    return {"channels": epoch.channels[boundary], "ratio": epoch.ratios[boundary]}


def _state(epoch: RatioEpoch) -> dict[str, Any]:
    state = {key: getattr(epoch, key) for key in ("epoch", *_WHAT)}
    return state | {"warnings": "; ".join(epoch.warnings)}


def _table(rows: list[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """The rows with the same types whatever there is: texts, whole numbers, or numbers."""
    table = pd.DataFrame(rows, columns=[*columns])
    kinds = dict.fromkeys(_WHOLE, "int64") | dict.fromkeys(_TEXTS, "str") | {"counts": "bool"}
    return table.astype({name: kinds.get(str(name), "float64") for name in table.columns})
