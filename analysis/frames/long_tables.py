"""Learning curves, timings and failures of studies as long tables."""

from collections.abc import Iterator
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.folders import Paths, study_folders
from partialnas.analysis.frames.load import load_trials
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import FAILED_STATES
from partialnas.runs.records.measurement import Measurement

LEADING_COLUMNS = ("study", "folder", "trial", "digest", "name", "condition", "arm")
"""First columns of every long table: the study, the trial and its network."""

_TRIAL_FACTS = (*LEADING_COLUMNS, "seed", "state")

CURVE_COLUMNS = (
    *(*_TRIAL_FACTS, "epoch"),
    *("lr", "train_nll", "val_nll", "val_accuracy", "seconds"),
)
"""Columns of `load_curves`; a user function's own metrics come after them."""

_TIMED = tuple(
    name for name in Measurement.model_fields if name not in ("digest", "name", "environment")
)
MEASUREMENT_COLUMNS = (*LEADING_COLUMNS, *_TIMED, "processor")
"""Columns of `load_measurements`."""

FAILURE_COLUMNS = (
    *(*LEADING_COLUMNS, "seed", "kind", "state", "reason", "failure", "attempts", "retried"),
    *("seconds", "device", "finished"),
)
"""Columns of `load_failures`."""

_DTYPES = {
    **dict.fromkeys(("trial", "seed", "epoch", "failure", "attempts"), "Int64"),
    **dict.fromkeys(("threads", "batch_size", "resolution", "in_chans", "rounds"), "Int64"),
    **dict.fromkeys(("peak_memory_bytes",), "Int64"),
    **dict.fromkeys(("noisy", "retried"), "bool"),
    "tainted": "boolean",  # missing if other processes are unknown
    **dict.fromkeys(("lr", "train_nll", "val_nll", "val_accuracy", "seconds"), "float64"),
    **dict.fromkeys(("throughput_img_s", "latency_ms", "relative_throughput"), "float64"),
    **dict.fromkeys(("relative_low", "relative_high", "reference_throughput_img_s"), "float64"),
    **dict.fromkeys(("wall_cpu_gap", "load", "sm_clock_mhz", "power_w"), "float64"),
}
"""Types of columns; the others are texts."""


def load_curves(paths: Paths, *, stage: str | None = "") -> pd.DataFrame:
    """Return the learning curves of one or several studies, one row per trial and epoch.

    Args:
        paths: folders of the studies.
        stage: later stage whose trials are returned; empty for those of the studies themselves,
            None for all.

    Returns:
        `CURVE_COLUMNS` (learning rate, negative log-likelihoods in nats, accuracy in percent,
        seconds of the epoch), followed by the metrics that a user function reported. Missing values
        are NaN. A trial that is still running has no rows yet.

    Raises:
        UserError: no folder given, or one holds no ledger.
        MachineError: a ledger is damaged or cannot be read.
    """
    trials = load_trials(paths, stage=stage).frame
    tables = []
    for folder in study_folders(paths):
        of_study = trials[trials["folder"].eq(str(folder))]
        with Ledger.open(folder) as ledger:
            rows = ledger.curves()
        places = {key: place for place, key in enumerate(of_study["key"])}
        points = [(places[key], point) for key, point in rows if key in places]
        points.sort(key=itemgetter(0))  # rows are in the order of keys, then of epochs
        facts = of_study[[*_TRIAL_FACTS]].iloc[[place for place, _ in points]]
        curves = pd.DataFrame([point for _, point in points]).rename(columns=_metric_name)
        tables.append(pd.concat([facts.reset_index(drop=True), curves], axis=1))
    table = pd.concat(tables, ignore_index=True)
    metrics = [name for name in table.columns if name not in CURVE_COLUMNS]
    return _table(table.reindex(columns=[*CURVE_COLUMNS, *metrics]), *metrics)


def load_measurements(paths: Paths) -> pd.DataFrame:
    """Return every timing of one or several studies, one row each, in the order of timing.

    Timings of all settings and machines are included, also those that `load` does not choose. A
    timing belongs to a network: `trial` and `arm` are those of its first trial, missing for a
    network that was only timed, such as the reference.

    Args:
        paths: folders of the studies.

    Returns:
        `MEASUREMENT_COLUMNS`: the fields of `Measurement`, with `processor` from its environment.

    Raises:
        UserError: no folder given, or one holds no ledger.
        MachineError: a ledger is damaged or cannot be read.
    """
    trials = load_trials(paths, stage=None).frame
    parts = []
    for folder in study_folders(paths):
        with Ledger.open(folder) as ledger:
            table, frozen = ledger.measurement_table(), ledger.frozen_digests()
            study = ledger.study.name or folder.name
        of_study = trials[trials["folder"].eq(str(folder))]
        # a network with learned ratios is timed as the static network that they froze to
        digests = [
            frozen.get(key, digest)
            for key, digest in zip(of_study["key"], of_study["digest"], strict=True)
        ]
        timed = of_study.assign(digest=digests)
        first = timed.drop_duplicates("digest").set_index("digest")[["trial", "condition", "arm"]]
        names = ("digest", "name", *_TIMED, "processor")
        rows = pd.DataFrame({name: table.column(name) for name in names})
        rows = rows.join(first, on="digest").assign(study=study, folder=str(folder))
        parts.append(rows.fillna({"condition": "", "arm": ""}))
    return _table(pd.concat(parts, ignore_index=True)[[*MEASUREMENT_COLUMNS]])


def load_failures(paths: Paths, *, stage: str | None = None) -> pd.DataFrame:
    """Return the failures of one or several studies, one row each.

    A trial that failed and was run again has a row for each failure. `kind` is `training` or
    `timing`; `failure` counts the failures of a trial from 1; `attempts` is how often the trial was
    started in all, deaths of workers included; `retried` is whether it was run again after this
    failure. Timings that failed have no seed and no attempts.

    Args:
        paths: folders of the studies.
        stage: later stage whose trials are returned; empty for those of the studies themselves,
            None for all. Failed timings are always included.

    Returns:
        `FAILURE_COLUMNS`; `seconds` is the duration of the attempt, `finished` the time of its end
        (ISO 8601 in UTC).

    Raises:
        UserError: no folder given, or one holds no ledger.
        MachineError: a ledger is damaged or cannot be read.
    """
    trials = load_trials(paths, stage=stage).frame
    rows = chain.from_iterable(_failures(folder, trials) for folder in study_folders(paths))
    return _table(pd.DataFrame([*rows], columns=[*FAILURE_COLUMNS]))


def _failures(folder: Path, trials: pd.DataFrame) -> Iterator[dict[str, Any]]:
    of_study = trials[trials["folder"].eq(str(folder))]
    failed = of_study[of_study["failures"].gt(0) | of_study["state"].isin(FAILED_STATES)]
    columns = [*LEADING_COLUMNS, "seed", "attempts", "key"]
    records = failed[columns].to_dict("records")
    facts = [{str(name): value for name, value in record.items()} for record in records]
    names = ("state", "reason", "seconds", "device", "finished")
    with Ledger.open(folder) as ledger:
        study = ledger.study
        for fact in facts:
            row = ledger.trial(fact["trial"])
            failures = [*study.failures.get(fact.pop("key"), ())]
            last = [row.failure()] if row.state in FAILED_STATES else []
            for number, failure in enumerate([*failures, *last], start=1):
                again = {"failure": number, "retried": number <= len(failures)}
                yield fact | again | {name: failure[name] for name in names} | {"kind": "training"}
    by_digest = of_study.drop_duplicates("digest").set_index("digest")
    for timing in study.failed_timings:
        has_trial = timing.digest in by_digest.index
        first = by_digest.loc[timing.digest].to_dict() if has_trial else dict[str, Any]()
        yield {
            "study": study.name or folder.name, "folder": str(folder), "kind": "timing",
            "trial": first.get("trial"), "digest": timing.digest, "name": timing.name,
            "condition": first.get("condition", ""), "arm": first.get("arm", ""),
            "state": "failed", "reason": timing.reason, "retried": timing.retried,
            "device": timing.setup.device, "finished": timing.ended,
        }  # fmt: skip


def _metric_name(name: str) -> str:
    """Return the column of a reported metric."""
    return f"metric_{name}" if name in _TRIAL_FACTS else name


def _table(table: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Return a table whose column types do not depend on the values; metrics are numbers."""
    kinds = {name: _DTYPES.get(name, "str") for name in table.columns}
    return table.astype(kinds | dict.fromkeys(metrics, "float64"))
