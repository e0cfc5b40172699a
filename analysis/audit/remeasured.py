"""What timing networks anew has shown: old and new speeds, ranks, and who leaves the front."""

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
from partialnas.runs.config.quantities import QUANTITIES
from partialnas.runs.records.measurement import Measurement, to_common_scale

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
    """Old and new speeds of networks, one row for each that has both or a new one, fastest first.

    Args:
        folder: of their study.
        networks: by digest the label of each and the keys of its trials.
        old: by digest the measurement that stood before.
        new: by digest the new one.
        condition: of the study that they were trained under.
        apply_measured_limits: whether the study's limits on measured quantities hold for the new figures: they
            are about the study's own protocol.

    Returns:
        `change` is new over old relative throughput, minus 1; `was_on_front` and `on_front` tell
        the front among these networks by the study's objectives, under old and new figures.
    """
    scaled_old, scaled_new = _scaled(old), _scaled(new)
    rows = [
        _row(networks[digest][0], digest, scaled_old.get(digest), one)
        for digest, one in scaled_new.items()
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS[:-2]])
    trials = _trials(folder, networks, condition, limits=apply_measured_limits)
    keys = {digest: networks[digest][1] for digest in scaled_new}
    known = [digest for digest in scaled_new if digest in scaled_old]
    raw = ({d: old[d] for d in known}, new)
    for column, scaled, timed in zip(
        ("was_on_front", "on_front"), (scaled_old, scaled_new), raw, strict=True
    ):
        standing = _front({d: scaled[d] for d in timed}, timed, keys, trials)
        table[column] = [digest in standing for digest in table["digest"]]
    table = table.sort_values("new_img_s", ascending=False, kind="stable").reset_index(drop=True)
    limited = [key for limits in trials.limits.values() for key in limits]
    decides = any(_measured(key) for key in (*trials.objectives, *limited))
    return Remeasurement(table, _tau(table), decides)


def _scaled(measurements: Mapping[str, Measurement]) -> dict[str, Measurement]:
    return dict(zip(measurements, to_common_scale([*measurements.values()]), strict=True))


def _row(label: str, digest: str, old: Measurement | None, new: Measurement) -> dict[str, Any]:
    row: dict[str, Any] = {"label": label, "digest": digest, "marks": new.marks_text}
    for name, one in (("old", old), ("new", new)):
        row |= {
            f"{name}_img_s": one.throughput_img_s if one else math.nan,
            f"{name}_relative": (one and one.relative_throughput) or math.nan,
            f"{name}_low": (one and one.relative_low) or math.nan,
            f"{name}_high": (one and one.relative_high) or math.nan,
        }
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
    keys = {key for _, own in networks.values() for key in own}
    trials = trials.where(
        trials.frame["key"].isin(keys) & trials.frame["condition"].eq(condition)
    )
    if limits:
        return trials
    unmeasured = {
        name: {key: limit for key, limit in stated.items() if not _measured(key)}
        for name, stated in trials.limits.items()
    }
    return replace(trials, limits=unmeasured)


def _front(
    scaled: Mapping[str, Measurement],
    timed: Mapping[str, Measurement],
    keys: Mapping[str, tuple[str, ...]],
    study: Trials,
) -> set[str]:
    """Return digests of the networks on the front if these speeds replace those of the trials."""
    by_key = {key: digest for digest in scaled for key in keys[digest]}
    trials = study.frame[study.frame["key"].isin(by_key)].copy()
    if trials.empty:
        return set()
    for name in MEASURED_COLUMNS:
        source, field = (timed, "throughput_img_s") if "raw" in name else (scaled, name)
        figures = [getattr(source[by_key[key]], field) for key in trials["key"]]
        trials[name] = pd.Series(figures, index=trials.index, dtype=study.frame[name].dtype)
    rows = front(study.with_frame(trials), study.objectives)
    chosen = rows[rows["on_front"]]
    named = trials["digest"].isin(chosen["digest"]) & trials["arm"].eq("")
    arms = trials["arm"].ne("") & trials["arm"].isin(chosen["arm"])
    return {by_key[key] for key in trials.loc[named | arms, "key"]}


def _measured(key: str) -> bool:
    return key in QUANTITIES and QUANTITIES[key].source == "measured"


def _tau(table: pd.DataFrame) -> float:
    """Kendall's tau-b between old and new throughput; NaN for fewer than two networks."""
    both = table[["old_img_s", "new_img_s"]].dropna()
    if len(both) < 2:
        return math.nan
    from scipy.stats import kendalltau

    return float(kendalltau(both["old_img_s"], both["new_img_s"]).statistic)
