"""Remeasurements: old and new speeds of networks, and their effect on the front."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.timings import MEASURED_COLUMNS
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import front
from partialnas.runs.config.quantities import is_measured
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.measurement import (
    Measurement,
    ReferenceScale,
    reference_conditions,
    rescale,
)

COLUMNS = (
    *("label", "digest", "old_img_s", "new_img_s", "old_relative", "old_low", "old_high"),
    *("new_relative", "new_low", "new_high", "change", "marks", "was_on_front", "on_front"),
)


class Remeasurement(NamedTuple):
    """Old and new speeds of networks.

    Attributes:
        table: one row per network, see `remeasurement_table`.
        tau: Kendall's tau-b between old and new throughput; NaN for fewer than two networks.
        decides: whether an objective or a limit of the study is measured.
    """

    table: pd.DataFrame
    tau: float
    decides: bool


def remeasurement_table(
    folder: str | Path,
    networks: Mapping[str, tuple[str, tuple[str, ...]]],
    old: Mapping[str, Measurement],
    new: Mapping[str, Measurement],
    *,
    condition: str = "",
    apply_measured_limits: bool = True,
) -> Remeasurement:
    """Return old and new speeds, one row per network with a new measurement, the fastest first.

    Args:
        folder: folder of the study.
        networks: label and trial keys of each network, by digest.
        old: previous measurements by digest.
        new: new measurements by digest.
        condition: condition that the networks were trained under.
        apply_measured_limits: whether the study's limits on measured quantities apply to the new
            measurements; they refer to the study's own protocol.

    Returns:
        In the table, `change` is the ratio of new to old relative throughput minus 1, and
        `was_on_front` and `on_front` state the front among these networks in the study's
        objectives, with old and new measurements. Speeds are on the scale of the whole ledger, as
        in all tables and as the limits apply to them.
    """
    scale = _ledger_scale(folder)
    scaled_old, scaled_new = _scaled(old, scale), _scaled(new, scale)
    rows = [
        _row(networks[digest][0], digest, scaled_old.get(digest), measurement)
        for digest, measurement in scaled_new.items()
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS[:-2]])
    trials = _trials(folder, networks, condition, limits=apply_measured_limits)
    keys = {digest: networks[digest][1] for digest in scaled_new}
    both = {digest: old[digest] for digest in scaled_new if digest in scaled_old}
    fronts = (("was_on_front", scaled_old, both), ("on_front", scaled_new, new))
    for column, scaled, timed in fronts:
        members = _front({digest: scaled[digest] for digest in timed}, timed, keys, trials)
        table[column] = [digest in members for digest in table["digest"]]
    table = table.sort_values("new_img_s", ascending=False, kind="stable").reset_index(drop=True)
    limited = [key for limits in trials.limits.values() for key in limits]
    decides = any(is_measured(key) for key in (*trials.objectives, *limited))
    tau = table["old_img_s"].corr(table["new_img_s"], method="kendall", min_periods=2)
    return Remeasurement(table, float(tau), decides)


def _ledger_scale(folder: str | Path) -> ReferenceScale:
    with Ledger.open(Path(folder)) as ledger:
        measurements = ledger.measurements()
    scale = ReferenceScale()
    for m in measurements:
        scale.add(reference_conditions(m), m.reference_throughput_img_s)
    return scale


def _scaled(
    measurements: Mapping[str, Measurement], scale: ReferenceScale
) -> dict[str, Measurement]:
    medians = {d: scale.timings(reference_conditions(m)).median for d, m in measurements.items()}
    return {
        digest: m if (median := medians[digest]) is None else rescale(m, median)
        for digest, m in measurements.items()
    }


def _row(label: str, digest: str, old: Measurement | None, new: Measurement) -> dict[str, Any]:
    row: dict[str, Any] = {"label": label, "digest": digest, "marks": new.marks_text}
    for name, measurement in (("old", old), ("new", new)):
        speed = measurement.throughput_img_s if measurement else math.nan
        row[f"{name}_img_s"] = speed
        fields = {"relative": "relative_throughput", "low": "relative_low", "high": "relative_high"}
        for key, field in fields.items():
            row[f"{name}_{key}"] = getattr(measurement, field, None) or math.nan
    return row | {"change": row["new_relative"] / row["old_relative"] - 1}


def _trials(
    folder: str | Path,
    networks: Mapping[str, tuple[str, tuple[str, ...]]],
    condition: str,
    *,
    limits: bool,
) -> Trials:
    """Return the trials of these networks."""
    trials = load_trials(folder)
    keys = {key for _, keys_of in networks.values() for key in keys_of}
    trials = trials.where(trials.frame["key"].isin(keys) & trials.frame["condition"].eq(condition))
    if limits:
        return trials
    unmeasured = {
        name: {key: limit for key, limit in stated.items() if not is_measured(key)}
        for name, stated in trials.limits.items()
    }
    return replace(trials, limits=unmeasured)


def _front(
    scaled: Mapping[str, Measurement],
    timed: Mapping[str, Measurement],
    keys: Mapping[str, tuple[str, ...]],
    study: Trials,
) -> set[str]:
    """Return the digests of the networks on the front, with these speeds for the trials."""
    by_key = {key: digest for digest in scaled for key in keys[digest]}
    trials = study.frame[study.frame["key"].isin(by_key)].copy()
    if trials.empty:
        return set()
    for name in MEASURED_COLUMNS:
        source, field = (timed, "throughput_img_s") if "raw" in name else (scaled, name)
        values = [getattr(source[by_key[key]], field) for key in trials["key"]]
        trials[name] = pd.Series(values, index=trials.index, dtype=study.frame[name].dtype)
    rows = front(study.with_frame(trials))
    members = rows[rows["on_front"]]
    searched = trials["arm"].eq("") & trials["digest"].isin(members["digest"])
    arms = trials["arm"].ne("") & trials["arm"].isin(members["arm"])
    return {by_key[key] for key in trials.loc[searched | arms, "key"]}
