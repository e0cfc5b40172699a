"""What timing networks anew has shown: old and new speeds, ranks, and who leaves the front."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.load import load
from partialnas.analysis.frames.timings import MEASURED_COLUMNS
from partialnas.analysis.pareto.front import front
from partialnas.runs.config.quantities import QUANTITIES
from partialnas.runs.records.measurement import Measurement, to_common_scale

COLUMNS = (
    *("label", "digest", "old_img_s", "new_img_s", "old_relative", "old_low", "old_high"),
    *("new_relative", "new_low", "new_high", "change", "marks", "was_on_front", "on_front"),
)


def remeasurement_table(
    folder: str | Path,
    networks: Mapping[str, tuple[str, tuple[str, ...]]],
    old: Mapping[str, Measurement],
    new: Mapping[str, Measurement],
    *,
    condition: str = "",
    apply_measured_limits: bool = True,
) -> pd.DataFrame:
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
        `attrs["tau"]` is Kendall's tau-b between old and new throughput (NaN for fewer than two
        networks), `attrs["decides"]` whether an objective of the study is measured at all.
    """
    scaled_old, scaled_new = _scaled(old), _scaled(new)
    rows = [
        _row(networks[digest][0], digest, scaled_old.get(digest), one)
        for digest, one in scaled_new.items()
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS[:-2]])
    frame = _frame(folder, networks, condition, limits=apply_measured_limits)
    keys = {digest: networks[digest][1] for digest in scaled_new}
    known = [digest for digest in scaled_new if digest in scaled_old]
    raw = ({d: old[d] for d in known}, new)
    for column, scaled, timed in zip(
        ("was_on_front", "on_front"), (scaled_old, scaled_new), raw, strict=True
    ):
        standing = _front({d: scaled[d] for d in timed}, timed, keys, frame)
        table[column] = [digest in standing for digest in table["digest"]]
    table = table.sort_values("new_img_s", ascending=False, kind="stable").reset_index(drop=True)
    objectives = frame.attrs["objectives"]
    table.attrs = {
        "tau": _tau(table),
        "decides": any(_measured(key) for key in (*objectives, *_limited(frame))),
    }
    return table


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


def _frame(
    folder: str | Path,
    networks: Mapping[str, tuple[str, tuple[str, ...]]],
    condition: str,
    *,
    limits: bool,
) -> pd.DataFrame:
    """The trials of these networks."""
    frame = load(folder)
    attrs = dict(frame.attrs)
    keys = {key for _, own in networks.values() for key in own}
    frame = frame[frame["key"].isin(keys) & frame["condition"].eq(condition)]
    if not limits:
        attrs["limits"] = {
            name: {key: limit for key, limit in own.items() if not _measured(key)}
            for name, own in attrs["limits"].items()
        }
    frame.attrs = attrs
    return frame


def _front(
    scaled: Mapping[str, Measurement],
    timed: Mapping[str, Measurement],
    keys: Mapping[str, tuple[str, ...]],
    frame: pd.DataFrame,
) -> set[str]:
    """Digests of the networks on the front, with these speeds in the place of those in `frame`."""
    by_key = {key: digest for digest in scaled for key in keys[digest]}
    trials = frame[frame["key"].isin(by_key)].copy()
    if trials.empty:
        return set()
    for name in MEASURED_COLUMNS:
        source, field = (timed, "throughput_img_s") if "raw" in name else (scaled, name)
        figures = [getattr(source[by_key[key]], field) for key in trials["key"]]
        trials[name] = pd.Series(figures, index=trials.index, dtype=frame[name].dtype)
    trials.attrs = frame.attrs
    rows = front(trials, frame.attrs["objectives"])
    chosen = rows[rows["on_front"]]
    named = trials["digest"].isin(chosen["digest"]) & trials["arm"].eq("")
    arms = trials["arm"].ne("") & trials["arm"].isin(chosen["arm"])
    return {by_key[key] for key in trials.loc[named | arms, "key"]}


def _limited(frame: pd.DataFrame) -> list[str]:
    return [key for own in frame.attrs["limits"].values() for key in own]


def _measured(key: str) -> bool:
    return key in QUANTITIES and QUANTITIES[key].source == "measured"


def _tau(table: pd.DataFrame) -> float:
    """Kendall's tau-b between old and new throughput; NaN for fewer than two networks."""
    both = table[["old_img_s", "new_img_s"]].dropna()
    if len(both) < 2:
        return math.nan
    from scipy.stats import kendalltau

    return float(kendalltau(both["old_img_s"], both["new_img_s"]).statistic)
