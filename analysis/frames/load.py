"""Trials of studies as one tidy frame, read from their ledgers."""

from collections import Counter
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from partialnas.analysis.frames.folders import Paths, study_folders
from partialnas.analysis.frames.settings import (
    RECIPE_COLUMNS,
    TASK_COLUMNS,
    load_settings,
    setting_columns,
)
from partialnas.analysis.frames.timings import MEASURED_COLUMNS, TIMING_COLUMNS, timing_table
from partialnas.analysis.frames.trials import TIMING_COLUMN, Trials
from partialnas.runs.config.quantities import LARGEST_METRIC, QUANTITIES
from partialnas.runs.ledger.column_store import columns_of_kind
from partialnas.runs.ledger.file import LEDGER_FILE
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import condition_of, stage_of
from partialnas.runs.records.measurement import Columns, MeasurementTable
from partialnas.runs.records.record import SOURCE_KEY
from partialnas.runs.system.allocator import gc_paused
from partialnas.space.errors import UserError

METRICS = ("val_accuracy", "val_nll", "test_accuracy", "test_nll", "train_nll")
"""Columns of the metrics of training."""
_COST = ("params", "macs", "macs_core", "activations")
_TRIAL = (
    *("name", "arm", "condition", "stage", "baseline", "digest", "key"),
    *("seed", "fidelity", "full_fidelity"),
)
TRIAL_COLUMNS = (
    *("study", "folder", "trial", *_TRIAL, "state", "reason", "warnings", *METRICS, *_COST),
    *(*TIMING_COLUMNS, "data", "trained_on", "seconds"),
    *("attempts", "failures", "last_failure", "function", "function_source"),
)
"""Columns of every frame of trials; a user's own metrics come after them.

A metric with the name of a column of trials or of tables becomes `metric_NAME`.
"""

_TABLE_COLUMNS = (
    *("n", "failed", "feasible", "on_front", "on_projected_front", "front_probability", "rank"),
    *("label", "family", "member", "source", "kind", "series", "id", "px", "py", "excluded"),
    *("off_line", "undrawn", "network", "way", "longer", "fresh", "counts", "measured", "best"),
    "eager",
)
"""Columns that tables add to those of trials."""

_RESERVED_NAMES = frozenset((*TRIAL_COLUMNS, *_TABLE_COLUMNS)) - frozenset(METRICS)
_STATISTICS = ("_sd", "_low", "_high")
"""Ends of the names of columns that tables add to a quantity."""

_FACTS = ("name", "digest", "key", "seed", "fidelity", "state", "reason", "attempts")
_LEDGER_COLUMNS = ("number", "proposal", *_FACTS, "metrics", "cost", "seconds", "device")
_WHOLE_COLUMNS = (
    *("trial", "seed", "fidelity", "full_fidelity", "warnings", "attempts", "failures"),
)
_UNUSED = ("name", "rounds", "wall_cpu_gap", "load", "taken", "seconds")
"""Fields of measurements that no column needs; leaving them out saves a fifth of the reading."""

_INTEGER_COLUMNS = (*_COST, "threads", "batch_size", "resolution", "peak_memory_bytes")


def load(paths: Paths, *, stage: str | None = "", timing: str | None = None) -> pd.DataFrame:
    """Return the trials of one or several studies as a tidy frame, one row per trial.

    Failed trials are included. Costs are those of the network (see `QUANTITIES` for units);
    measured columns hold the measurement of the network under the study's protocol, for learned
    ratios that of the static network that they froze to. `tainted` is False also where the system
    does not tell whether other processes used the device. `baseline` marks the named arms of a
    search; `condition` is the study's condition that a trial ran under, or empty; `full_fidelity`
    is the number of epochs of a full training; `warnings` counts the failure signs of learned
    ratios (see `partialnas status`). `attempts` counts how often a trial was started, `failures`
    how often it failed before it was run again; `last_failure` is the last of these reasons.
    `function` is the user function that replaced training, or empty, and `function_source` the
    digest of its source, or empty if the ledger does not record it.

    After these columns and the user's own metrics come the settings of each trial: `params_AXIS`
    for the axes of a space and the factors of a design, `task_*` and `recipe_*` (see
    `load_settings`; a function gets only `recipe_epochs` and `recipe_threads`); a metric of such a
    name keeps it, and the setting is left out.

    The frame is plain data. Functions that need objectives, limits or the reference point of the
    studies read them from the ledgers that the column `folder` names; `load_trials` returns the
    trials with these settings.

    Args:
        paths: folders of the studies.
        stage: later stage (`partialnas confirm`) whose trials are returned; empty for those of
            the studies themselves, None for all.
        timing: settings that replace those of the study's measuring protocol, such as
            `batch_size=1,device=H100` (see `TimingSetup`). The column `timing_setup` then
            repeats them.

    Raises:
        UserError: no folder given, one holds no ledger, or `timing` is invalid.
        MachineError: a ledger is damaged or cannot be read.
    """
    frame = load_trials(paths, stage=stage, timing=timing).frame
    timed = frame if timing is None else frame.assign(**{TIMING_COLUMN: timing})
    return pd.concat([timed, _settings(study_folders(paths), frame)], axis=1)


def load_trials(paths: Paths, *, stage: str | None = "", timing: str | None = None) -> Trials:
    """Return the trials of `load` with the settings of their studies.

    Raises:
        UserError: no folder given, one holds no ledger, or `timing` is invalid.
        MachineError: a ledger is damaged or cannot be read.
    """
    folders = study_folders(paths)
    with gc_paused():
        studies = [_study(folder, timing) for folder in folders]
    frame = pd.concat(studies, ignore_index=True)
    if stage is not None:
        frame = frame[frame["stage"].eq(stage)].reset_index(drop=True)
    metrics = [key for key in frame.columns if key not in TRIAL_COLUMNS]
    frame = cast_columns(frame[[*TRIAL_COLUMNS, *metrics]])
    return Trials.of_studies(frame, folders, timing)


def as_trials(trials: Trials | pd.DataFrame | Paths) -> Trials:
    """Return trials with the settings of their studies; folders are loaded.

    The settings of a plain frame are read from the ledgers of the folders that its column `folder`
    names, so that they survive whatever the user did to the frame: filtering, grouping,
    concatenation. Columns of settings (`params_*`, `task_*`, `recipe_*`) are left out: they are no
    quantities. Nothing is known of a folder that holds no ledger: its trials have no limits,
    and files made from them carry no stamp.

    Raises:
        UserError: the trials were loaded with different settings of `timing`, or a folder holds no
            ledger.
        MachineError: a ledger is damaged or cannot be read.
    """
    if isinstance(trials, Trials):
        return trials
    if not isinstance(trials, pd.DataFrame):
        return load_trials(trials)
    frame, timing = trials, None
    if TIMING_COLUMN in frame:
        setups = [*frame[TIMING_COLUMN].unique()]
        if len(setups) > 1:
            raise UserError(
                "these trials were loaded with different timing settings "
                f"({', '.join(map(str, setups))}); load all of them with the same `timing`"
            )
        frame, timing = frame.drop(columns=TIMING_COLUMN), next(iter(setups), None)
    named = [Path(name) for name in frame["folder"].unique() if name] if "folder" in frame else []
    folders = [folder for folder in named if (folder / LEDGER_FILE).is_file()]
    loaded = Trials.of_studies(frame, folders, timing)
    settings = setting_columns(frame, loaded.axes)
    return loaded.with_frame(frame.drop(columns=settings)) if settings else loaded


def _settings(folders: Sequence[Path], frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of settings of all trials, without those whose name a metric has."""
    with gc_paused():
        single = len(folders) == 1
        rows = [frame if single else frame[frame["folder"].eq(str(f))] for f in folders]
        parts = [*map(load_settings, folders, rows)]
    settings = pd.concat(parts)
    last = [*TASK_COLUMNS, *RECIPE_COLUMNS]
    params = [key for key in settings.columns if key not in last]
    recorded = [key for key in last if key in settings]
    free = [key for key in (*params, *recorded) if key not in frame]
    return settings[free]


def empty_trials() -> pd.DataFrame:
    """Return a frame without trials, for figures of reference families alone."""
    return cast_columns(pd.DataFrame({key: pd.Series(dtype=object) for key in TRIAL_COLUMNS}))


def _study(folder: Path, timing: str | None) -> pd.DataFrame:
    """Return the trials of one ledger."""
    with Ledger.open(folder) as ledger:
        study = ledger.study
        function = str(study.frozen.get("trial") or "")
        names = (*_LEDGER_COLUMNS, *(["environment"] if function else []))
        columns, arms = ledger.trial_columns(*names), _arms(ledger)
        measurements, frozen = ledger.measurement_table(without=_UNUSED), ledger.frozen_digests()
        warnings = Counter(warning.key for warning in ledger.warnings())
    trials = _trials(columns)
    keys = columns["key"]
    trials["warnings"] = [*map(warnings.get, keys, repeat(0))] if warnings else 0
    failures = [study.failures.get(key, ()) for key in keys] if study.failures else []
    trials["failures"] = [*map(len, failures)] if failures else 0
    reasons = [past[-1]["reason"] if past else "" for past in failures]
    trials["last_failure"] = reasons or ""
    trials["function"] = function
    sources = [facts.get(SOURCE_KEY, "") for facts in columns.get("environment", ())]
    trials["function_source"] = sources or ""
    purposes: Any = [_NO_PURPOSE]
    if arms.by_proposal:
        purposes = [*map(arms.purpose, columns["proposal"], columns["digest"])]
    for name, of_name in zip(_Purpose._fields, zip(*purposes, strict=True), strict=True):
        values = of_name if arms.by_proposal else of_name * len(trials)
        trials[name] = pd.Series(values, index=trials.index, dtype=object)
    measured = [*map(frozen.get, keys, columns["digest"])] if frozen else trials["digest"]
    trials["measured"] = measured
    trials = trials.assign(
        study=study.name or folder.name,
        folder=str(folder),
        baseline=trials["arm"].ne("") & study.is_search,
    )
    parts = []
    groups: Any = trials.groupby(["condition", "stage"], sort=False)
    if not arms.by_proposal and len(trials):  # all have the same; grouping takes time
        groups = [(("", ""), trials)]
    for (condition, stage), part in groups:
        settings = study.settings(str(condition))
        if stage in study.stages:
            settings["recipe"] = study.stages[str(stage)].recipe
        parts.append(_under(part, measurements, settings, timing))
    table = pd.concat(parts or [_under(trials, MeasurementTable.from_records([]), {})]).sort_index()
    for arm in study.design.arms if study.design else ():
        if "epochs" in arm.recipe:
            table.loc[table["arm"].eq(arm.name), "full_fidelity"] = arm.recipe["epochs"]
    return table


def _under(
    trials: pd.DataFrame,
    measurements: MeasurementTable,
    settings: dict[str, Any],
    timing: str | None = None,
) -> pd.DataFrame:
    """Return the trials of one condition with its settings and with measurements."""
    task, recipe = settings.get("task", {}), settings.get("recipe", {})
    epochs = recipe.get("epochs", trials["fidelity"].max())
    protocol, resolution = settings.get("measure", {}), task.get("resolution")
    speeds = timing_table(measurements, protocol, resolution, timing)
    trials = trials.assign(full_fidelity=epochs, data=task.get("data"))
    joined = _fill_speeds(trials.join(speeds, on="measured"))
    joined["resolution"] = joined["resolution"].fillna(resolution or pd.NA)
    return joined.drop(columns="measured")


def _fill_speeds(trials: pd.DataFrame) -> pd.DataFrame:
    """Fill missing measurements with the speeds that a user's trial function returned."""
    metrics = {f"metric_{key}": key for key in MEASURED_COLUMNS if f"metric_{key}" in trials}
    for metric, key in metrics.items():
        trials[key] = trials[key].astype("float64").fillna(trials[metric])
    return trials.drop(columns=[*metrics])


class _Purpose(NamedTuple):
    """Arm, condition and stage that a trial was run for; each empty for none."""

    arm: str
    condition: str
    stage: str


_NO_PURPOSE = _Purpose("", "", "")


class _Arms(NamedTuple):
    """Purposes by the number of a proposal, and the first arm of each network by its digest."""

    by_proposal: dict[int, _Purpose]
    by_digest: dict[str, _Purpose]

    def purpose(self, proposal: int, digest: str) -> _Purpose:
        """Return what a trial was run for."""
        return self.by_proposal.get(proposal) or self.by_digest.get(digest, _NO_PURPOSE)


def _arms(ledger: Ledger) -> _Arms:
    """Return the arms of a study; a search without arms and stages has none."""
    study = ledger.study
    if study.is_search and not study.frozen.get("arms") and not study.stages:
        return _Arms({}, {})
    rows = [row for row in ledger.proposals() if row.arm]
    purposes = {r.number: _Purpose(str(r.arm), condition_of(r), stage_of(r)) for r in rows}
    unstaged = [row for row in reversed(rows) if not purposes[row.number].stage]
    return _Arms(purposes, {row.digest: _Purpose(str(row.arm), "", "") for row in unstaged})


def _trials(columns: Columns) -> pd.DataFrame:
    """Return the ledger's columns, with metrics and costs as columns of their own."""
    facts = {key: columns[key] for key in _FACTS}
    more = {"trial": columns["number"], "trained_on": columns["device"]}
    table = pd.DataFrame(facts | more | {"seconds": columns["seconds"]})
    metrics = pd.DataFrame(columns_of_kind(columns, "metrics"), index=table.index, dtype=float)
    metrics = metrics.where(metrics.abs().le(LARGEST_METRIC))
    columns_of_tables = {f"{key}{end}" for key in (*metrics, *METRICS) for end in _STATISTICS}
    reserved = _RESERVED_NAMES | columns_of_tables
    metrics = metrics.rename(columns=lambda key: f"metric_{key}" if key in reserved else key)
    metrics = metrics.reindex(columns=list(dict.fromkeys([*METRICS, *metrics.columns])))
    cost = pd.DataFrame(columns_of_kind(columns, "cost"), index=table.index, columns=[*_COST])
    return pd.concat([table, metrics, cost], axis=1)


def cast_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the column types of `load`, whatever values are missing."""
    whole = dict.fromkeys(_INTEGER_COLUMNS, "Int64")
    integer = dict.fromkeys(_WHOLE_COLUMNS, "int64")
    real = [key for key in frame.columns if key in QUANTITIES and key not in whole]
    kinds = whole | integer | dict.fromkeys([*real, "relative_low", "relative_high"], "float64")
    typed = frame.astype(kinds)
    for mark in ("noisy", "tainted"):
        typed[mark] = frame[mark].eq(True)
    return typed
