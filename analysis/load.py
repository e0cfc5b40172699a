"""Ledgers in, one tidy table of trials out."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis import measured
from partialnas.analysis.quantities import QUANTITIES
from partialnas.runs.ledger import Ledger
from partialnas.runs.ledger_rows import TrialRow
from partialnas.space.errors import UserError

_METRICS = ("val_accuracy", "val_nll", "test_accuracy", "test_nll", "train_nll")
_COST = ("params", "macs", "macs_core", "activations")
_TRIAL = ("name", "arm", "baseline", "digest", "key", "seed", "fidelity", "full_fidelity")
COLUMNS = (
    *("study", "folder", "trial", *_TRIAL, "state", "reason", *_METRICS, *_COST),
    *(*measured.COLUMNS, "data", "trained_on", "seconds"),
)
"""The columns that every table of trials has; a user's own metrics come after them."""

_TAKEN = frozenset(COLUMNS) - frozenset(_METRICS)
_WHOLE = (*_COST, "threads", "batch_size", "resolution", "peak_memory_bytes")


def load(paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """The trials of one or several studies as a tidy table: one row a trial, failed ones included.

    Costs are those of the network (see `quantities` for units), measured columns are those of its
    measurement by the study's protocol (see `measured`). `baseline` marks the named arms beside a
    search; `full_fidelity` is the number of epochs that the study trains. `attrs["objectives"]`
    tells the directions that the first study states.

    Args:
        paths: the studies' folders.

    Raises:
        UserError: no folder given, or one holds no ledger.
        MachineError: a ledger is damaged or cannot be read.
    """
    folders = [paths] if isinstance(paths, str | Path) else list(paths)
    if not folders:
        raise UserError("no study named: give at least one folder that `partialnas run` wrote")
    studies = [_study(folder) for folder in dict.fromkeys(map(Path, folders))]
    frame = pd.concat([trials for trials, _ in studies], ignore_index=True)
    own = [key for key in frame.columns if key not in COLUMNS]
    frame = _typed(frame[[*COLUMNS, *own]])
    frame.attrs = {"objectives": studies[0][1].get("objectives", {})}
    return frame


def _study(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The trials of one ledger, and the study's frozen settings."""
    with Ledger.open(folder) as ledger:
        meta = ledger.meta
        study: dict[str, Any] = json.loads(meta.get("frozen", "{}"))
        rows, arms = ledger.trials(), _arms(ledger, study)
        measurements = ledger.measurements()
    trials = _trials(rows)
    trials["arm"] = [arms.get(digest, "") for digest in trials["digest"]]
    task, recipe = study.get("task", {}), study.get("recipe", {})
    facts = {
        "study": meta.get("study", folder.name),
        "folder": str(folder),
        "baseline": trials["arm"].ne("") & (study.get("search") is not None),
        "full_fidelity": recipe.get("epochs", trials["fidelity"].max()),
        "data": task.get("data"),
    }
    trials = trials.drop(columns="proposal").assign(**facts)
    speeds = measured.measured(measurements, study.get("measure", {}))
    trials = _without_device(trials.join(speeds, on="digest"))
    trials["resolution"] = trials["resolution"].fillna(task.get("resolution") or pd.NA)
    return trials, study


def _without_device(trials: pd.DataFrame) -> pd.DataFrame:
    """Speeds that a user's own trial function told stand where nothing was measured."""
    told = {f"metric_{key}": key for key in measured.FIGURES if f"metric_{key}" in trials}
    for metric, key in told.items():
        trials[key] = trials[key].astype("float64").fillna(trials[metric])
    return trials.drop(columns=[*told])


def _arms(ledger: Ledger, study: dict[str, Any]) -> dict[str, str]:
    """The first arm of each network, by digest; not read where the study names none."""
    if study.get("search") is not None and not study.get("arms"):
        return {}
    return {row.digest: row.arm for row in reversed(ledger.proposals()) if row.arm}


def _trials(rows: list[TrialRow]) -> pd.DataFrame:
    """The ledger's rows with metrics and costs as columns."""
    table = pd.DataFrame(rows, columns=[*TrialRow._fields])
    metrics = pd.DataFrame(list(table["metrics"]), index=table.index)
    metrics = metrics.rename(columns=lambda key: f"metric_{key}" if key in _TAKEN else key)
    costs = pd.DataFrame(list(table["cost"]), index=table.index, columns=[*_COST])
    facts = table[["proposal", "name", "digest", "key", "seed", "fidelity", "state", "reason"]]
    more = {"trial": table["number"], "trained_on": table["device"], "seconds": table["seconds"]}
    metrics = metrics.reindex(columns=list(dict.fromkeys([*_METRICS, *metrics.columns])))
    return pd.concat([facts.assign(**more), metrics, costs], axis=1)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The same types whatever is missing: whole numbers stay whole, missing numbers are empty."""
    whole = dict.fromkeys(_WHOLE, "Int64")
    given = dict.fromkeys(("trial", "seed", "fidelity", "full_fidelity"), "int64")
    real = [key for key in frame.columns if key in QUANTITIES and key not in whole]
    kinds = whole | given | dict.fromkeys([*real, "relative_low", "relative_high"], "float64")
    typed = frame.astype(kinds)
    typed["noisy"] = frame["noisy"].eq(True)
    return typed
