"""Tables of Pareto figures: architectures with fronts, error bars and names."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.formats.caption_sentences import count_seeds
from partialnas.analysis.frames.arrays import Floats, Objectives
from partialnas.analysis.frames.columns import find_quantity, network_names
from partialnas.analysis.frames.feasibility import limits_of, measured_interval
from partialnas.analysis.frames.folders import Paths
from partialnas.analysis.frames.load import as_trials
from partialnas.analysis.frames.seed_means import require_trials
from partialnas.analysis.frames.timings import eager_rows
from partialnas.analysis.frames.trials import Limits, Trials
from partialnas.analysis.pareto.front import competing_points, front
from partialnas.analysis.pareto.front_probability import format_probability, front_probability
from partialnas.analysis.plotting.limit_lines import excluded_mask, near_bounds
from partialnas.analysis.stats.dominance import finite_mask, non_dominated
from partialnas.runs.config.quantities import QUANTITIES, Quantity
from partialnas.space.errors import UserError

_SIZE = re.compile(r"[-_ ](t\d*|x*s|m|x*l|b\d+|\d+)$", re.IGNORECASE)
_IDENTITY = (
    *("label", "name", "arm", "condition", "family", "member"),
    *("study", "folder", "digest", "trial"),
)
_READABLE_COLUMNS = (
    *("val_accuracy", "val_nll", "params", "macs"),
    *("throughput_img_s", "relative_throughput"),
)
_MAX_SIZE_LENGTH = 4

NOISE_NOTE = "~: noisy timing; the machine was not quiet, or the interval stayed wide."
"""Explanation of the mark in tables."""

EAGER_NOTE = "§: run eagerly, where others run as CUDA graphs."
"""Explanation of the mark in tables."""


@dataclass(frozen=True)
class ParetoTable:
    """Architectures of a Pareto figure, and the quantities on its axes.

    Attributes:
        rows: one row per architecture with both quantities, see `pareto_table`.
        x: quantity on the horizontal axis.
        y: quantity on the vertical axis.
        deciding: objectives of each study, by folder: they decide who is on its front.
        quantities: quantities on the axes, then the other objectives.
        undrawn: members of a front that lack one of the quantities on the axes.
        limits: limits of each study, by folder.
    """

    rows: pd.DataFrame
    x: Quantity
    y: Quantity
    deciding: Mapping[str, Objectives]
    quantities: Sequence[Quantity]
    undrawn: pd.DataFrame
    limits: Limits = field(default_factory=dict)

    @property
    def axes(self) -> Objectives:
        """Both quantities on the axes and their directions."""
        return {self.x.key: self.x.better, self.y.key: self.y.better}

    @property
    def all_rows(self) -> pd.DataFrame:
        """Rows for printed tables: those of the figure, with members of fronts that it lacks."""
        if self.undrawn.empty:
            return self.rows
        rows = pd.concat([self.rows, self.undrawn], ignore_index=True)
        return rows.sort_values("on_front", ascending=False, kind="stable", ignore_index=True)

    @property
    def objectives(self) -> Objectives:
        """Objectives of all studies and their directions, those on the axes first."""
        pairs = {key: better for of in self.deciding.values() for key, better in of.items()}
        return {q.key: pairs[q.key] for q in self.quantities if q.key in pairs}

    @property
    def limited(self) -> list[Quantity]:
        """Quantities that a study limits."""
        keys = dict.fromkeys(key for stated in self.limits.values() for key in stated)
        return [find_quantity(f"{key}:min", self.rows) for key in keys if key in self.rows]

    def bounds(self, quantity: Quantity) -> list[float]:
        """Return the bounds of limits on a quantity that a figure shows (see `near_bounds`)."""
        return near_bounds(self.limits, quantity.key, self.rows[quantity.key].to_numpy(float))

    @property
    def excluded(self) -> pd.DataFrame:
        """Rows of networks that do not compete for the front (see `excluded_mask`)."""
        return self.rows[excluded_mask(self.rows)]

    def text(self, row: Mapping[Any, Any], quantity: Quantity) -> str:
        """Return a value of a row as text, which is on the same side of a limit as the value."""
        value = math.nan if pd.isna(row[quantity.key]) else float(row[quantity.key])
        limit = limits_of(self.limits, str(row["folder"])).get(quantity.key)
        marks = {"noisy": bool(row["noisy"]), "eager": bool(row["eager"])}
        return quantity.text(value, **marks, limit=limit)

    @property
    def is_projection(self) -> bool:
        """Whether the axes are not the objectives of every study."""
        return any(dict(of) != self.axes for of in self.deciding.values())


def pareto_table(
    trials: Trials | pd.DataFrame | Paths, x: str | None = None, y: str | None = None
) -> pd.DataFrame:
    """Return the table of a Pareto figure: one row per architecture, each study's front first.

    `on_front` is decided by the objectives of each study, whatever the axes are (see `front`);
    trials of folders without a ledger are judged by the two quantities on the axes. A baseline (a
    named arm of a search) is compared with the front and never part of it; nor is a network that
    violates a limit of its study (columns `feasible` and `within_limits`, see
    `add_feasible_column`). If the axes are not the objectives of every
    study, the table is a projection: `on_projected_front` states which networks of a study no other
    one dominates in the two quantities on the axes. `_low` and `_high` are the ends of the error
    bars: one standard deviation over seeds for a trained quantity, the 95 % interval for a measured
    one. `eager` states which networks ran eagerly where others ran as CUDA graphs (see
    `eager_rows`). `front_probability` is the probability of being on the front (see
    `front_probability`).

    Args:
        trials: trials of one or several studies, as `load` or `load_trials` returns them, or the
            folders of the studies.
        x: quantity on the horizontal axis, as `KEY` or `KEY:min` / `KEY:max`; the default is
            `Trials.default_axes`.
        y: quantity on the vertical axis.

    Raises:
        UserError: nothing to draw, an unknown quantity, or several conditions of one study.
    """
    return make_pareto_table(as_trials(trials), x, y).rows


def make_pareto_table(trials: Trials, x: str | None = None, y: str | None = None) -> ParetoTable:
    """Return the table of `pareto_table` with the quantities on its axes."""
    frame = trials.frame
    require_one_condition(frame, ", which cannot share a front")
    across, up = _quantities(trials, x, y)
    axes = {across.key: across.better, up.key: up.better}
    deciding = {
        folder: trials.objectives_of(folder) or axes
        for folder in map(str, frame["folder"].unique())
    }
    rows = front(replace(trials, study_objectives=deciding)).drop(columns="rank")
    drawn = finite_mask(rows[[*axes]].to_numpy(float))
    if not drawn.any():
        raise UserError(empty_figure_message(frame, f"both {across.key} and {up.key}"))
    rows = _with_names(rows[drawn | rows["on_front"]])
    rows["eager"] = eager_rows(rows)
    quantities = [across, up, *_other_objectives(rows, deciding, axes)]
    for quantity in quantities:
        rows[[f"{quantity.key}_low", f"{quantity.key}_high"]] = _bounds(rows, quantity)
    rows["front_probability"] = _probabilities(frame, rows, deciding)
    drawn = drawn[rows.index]
    table = ParetoTable(
        rows, across, up, deciding, quantities, undrawn=rows[~drawn], limits=trials.limits
    )
    rows = rows[drawn]
    if table.is_projection:
        rows = rows.assign(on_projected_front=_projected_fronts(rows, axes))
    studies = pd.factorize(rows["folder"])[0]
    order = np.lexsort((rows[across.key].to_numpy(float), studies, ~rows["on_front"]))
    rows = rows.iloc[order][_columns(rows, quantities)].reset_index(drop=True)
    return replace(table, rows=rows)


def format_pareto_table(table: ParetoTable) -> pd.DataFrame:
    """Return the fronts and baselines of a Pareto table as text."""
    rows = table.rows
    shown = rows[rows["on_front"] | rows["family"].ne("")]
    texts = {"": shown["label"].tolist()}
    if shown["name"].ne(shown["arm"]).any():
        texts["Network"] = shown["name"].tolist()
    for quantity in table_quantities(table, _READABLE_COLUMNS):
        if quantity.key in shown and shown[quantity.key].notna().any():
            texts[quantity.label] = _texts(table, shown, quantity)
    if shown["front_probability"].notna().any():
        texts["P(front)"] = [*map(format_probability, shown["front_probability"])]
    if "feasible" in shown:
        texts["Within limits"] = shown["within_limits"].tolist()
    seeds = [
        count_seeds(n, failed=failed) for n, failed in zip(shown["n"], shown["failed"], strict=True)
    ]
    return pd.DataFrame(texts | {"Seeds": seeds})


def table_quantities(table: ParetoTable, others: Sequence[str]) -> list[Quantity]:
    """Return the columns of a printed table: axes, objectives, limited and other quantities."""
    columns: dict[str, Quantity] = {}
    for quantity in (*table.quantities, *table.limited, *map(QUANTITIES.__getitem__, others)):
        columns.setdefault(quantity.key, quantity)
    return [*columns.values()]


def require_one_condition(frame: pd.DataFrame, reason: str = "") -> None:
    """Raise an error if a study has trials under several conditions, with the reason if given."""
    for folder, trials in frame.groupby("folder", sort=False):
        if trials["condition"].nunique() > 1:
            names = ", ".join(trials["condition"].unique())
            raise UserError(
                f"{folder} was run under several conditions{reason}: choose one of {names} as "
                "the condition"
            )


def _texts(table: ParetoTable, shown: pd.DataFrame, quantity: Quantity) -> list[str]:
    columns = shown[[quantity.key, "noisy", "eager", "folder"]]
    values = [table.text(row, quantity) for row in columns.to_dict("records")]
    if f"{quantity.key}_sd" not in shown:
        return values
    spreads = map(quantity.text, shown[f"{quantity.key}_sd"].to_numpy(float))
    return [f"{v} ± {sd}" if sd else v for v, sd in zip(values, spreads, strict=True)]


def _quantities(trials: Trials, x: str | None, y: str | None) -> tuple[Quantity, Quantity]:
    require_trials(trials.frame)
    default_x, default_y = trials.default_axes()
    across, up = trials.quantity(x or default_x), trials.quantity(y or default_y)
    if across.key == up.key:
        raise UserError(f"{up.key} is on both axes; choose another quantity for one of them")
    return across, up


def empty_figure_message(frame: pd.DataFrame, keys: str) -> str:
    """Return why there is nothing to draw: no architecture has these quantities."""
    states = ", ".join(f"{n} {state}" for state, n in frame["state"].value_counts().items())
    reasons = frame["reason"].dropna().mode()
    often = f" (most often: {reasons.iloc[0]})" if len(reasons) else ""
    return f"nothing to draw: no architecture has {keys} at full fidelity; trials: {states}{often}"


def _with_names(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the label of each row, and family and member of baselines."""
    arms = rows["arm"].tolist()
    stems = {arm: _SIZE.sub("", arm) for arm in dict.fromkeys(arms)}
    family = rows["arm"].map(stems).where(rows["baseline"], "")
    alone = ~family.duplicated(keep=False) | family.eq("")
    member = [
        "" if single else arm[len(stem) + 1 :].upper()
        for arm, stem, single in zip(arms, family.tolist(), alone.tolist(), strict=True)
    ]
    family = family.mask(alone & rows["baseline"], rows["arm"])
    if "family" in rows:  # reference families
        given = rows["family"].notna()
        family = family.mask(given, rows["family"])
        names = zip(rows["arm"], family, given, member, strict=True)
        member = [_member_name(a, f) if is_given else m for a, f, is_given, m in names]
    label = network_names(rows)
    return rows.assign(label=label, family=family, member=member)


def _member_name(name: str, family: str) -> str:
    """Return the name of a member within its family: `T0` for fasternet_t0."""
    rest = name[len(family) :].lstrip("_-")
    return rest.upper() if len(rest) <= _MAX_SIZE_LENGTH else rest


def _other_objectives(
    rows: pd.DataFrame, deciding: Mapping[str, Objectives], axes: Objectives
) -> list[Quantity]:
    """Return the objectives of all studies that are not on the axes."""
    directions = {key: better for of in deciding.values() for key, better in of.items()}
    others = ((key, better) for key, better in directions.items() if key not in axes)
    return [find_quantity(f"{key}:{better}", rows) for key, better in others]


def _probabilities(
    frame: pd.DataFrame, rows: pd.DataFrame, deciding: Mapping[str, Objectives]
) -> "pd.Series[float]":
    parts = [
        front_probability(frame, study, deciding[str(folder)])
        for folder, study in rows.groupby("folder", sort=False)
    ]
    return pd.concat(parts)


def _projected_fronts(rows: pd.DataFrame, axes: Objectives) -> "pd.Series[bool]":
    """Return which networks no other one of their study dominates in two quantities alone."""
    on_front = pd.Series(data=False, index=rows.index)
    for _, study in rows[~rows["baseline"]].groupby("folder", sort=False):
        on_front[study.index] = non_dominated(competing_points(study, axes), axes)
    return on_front


def _bounds(rows: pd.DataFrame, quantity: Quantity) -> Floats:
    """Return the ends of error bars as two columns; NaN if the spread is unknown."""
    if quantity.source == "trained":
        value = rows[quantity.key].to_numpy(float)
        spread = rows[f"{quantity.key}_sd"].to_numpy(float)
        return np.column_stack([value - spread, value + spread])
    return measured_interval(rows, quantity)


def plot_columns(table: ParetoTable) -> list[str]:
    """Return the columns that a figure shows."""
    bars = [f"{q.key}{end}" for q in (table.x, table.y) for end in ("", "_low", "_high")]
    projected = ["on_projected_front"] if table.is_projection else []
    limited = [column for column in ("feasible",) if column in table.rows]
    return ["label", "on_front", *projected, "front_probability", *bars, "noisy", *limited]


def _columns(rows: pd.DataFrame, quantities: Sequence[Quantity]) -> list[str]:
    """Return the table's columns: names, these quantities with error bars, everything else."""
    bars = [f"{q.key}{end}" for q in quantities for end in ("", "_low", "_high")]
    projected = [column for column in ("on_projected_front",) if column in rows]
    first = [*_IDENTITY, "on_front", *projected, "front_probability", *bars]
    return [*first, *(column for column in rows.columns if column not in first)]
