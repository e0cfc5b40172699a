"""What the report tells of one network: its blocks, ratios, learning curves and trials."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.pareto.front_probability import format_probability
from partialnas.runs.config.quantities import QUANTITIES, Quantity
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.frozen_model import final_subject
from partialnas.runs.records.record import RatioEpoch
from partialnas.runs.records.subject import Subject, TimmModel, parse_subject
from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.formulas import NetworkCost
from partialnas.space.cost.learned_blocks import blocks_with_sizes
from partialnas.space.cost.mac_budget import uniform_sizes
from partialnas.space.errors import MachineError, UserError

MOST_TRIALS = 12
"""Trials of one network that are listed."""

_MOST_CURVES = 5
_MOST_EPOCHS = 60
_LONGEST_REASON = 200
_FIGURES = 4  # significant digits of what is drawn
_COSTS = ("params", "macs", "throughput_img_s", "latency_ms", "val_accuracy", "val_nll")

_OF_TRIAL = ("arm", "digest", "trial", "key", "seed", "state", "reason")

Plain = dict[str, Any]
Row = Mapping[Hashable, Any]


class NetworkDetails:
    """Tells of networks, out of one ledger that is open.

    Args:
        ledger: of the study.
        frame: its trials, as `load` gives them.
    """

    def __init__(self, ledger: Ledger, frame: pd.DataFrame) -> None:
        self._ledger = ledger
        self._frame = frame
        self._subjects = {row.digest: row for row in reversed(ledger.proposals())}

    def describe(self, points: pd.DataFrame, x: Quantity, y: Quantity) -> dict[str, Plain]:
        """By id what is told of each point, as plain data that JSON takes.

        Args:
            points: as `told_points` gives them, all of one condition.
        """
        trials = _by_network(self._frame, points, y)
        return {
            row["id"]: self._one(row, trials[row["id"]], x, y) for row in points.to_dict("records")
        }

    @property
    def has_learned_ratios(self) -> bool:
        """Whether any network learns its ratios."""
        return any('"learned"' in row.subject_json for row in self._subjects.values())

    def _one(self, row: Row, trials: Sequence[Row], x: Quantity, y: Quantity) -> Plain:
        told = trials[:MOST_TRIALS]
        curved = [each for each in told if each["state"] == "done"][:_MOST_CURVES]
        histories = {each["seed"]: self._ledger.ratios(each["key"]) for each in curved}
        last = next((history[-1] for history in histories.values() if history), None)
        subject = self._subject(row["digest"], last)
        return {
            "label": row["label"],
            "kind": row["kind"],
            "name": "" if row["name"] in (row["label"], row["digest"]) else one_line(row["name"]),
            "values": [_value(row, q) for q in (y, x)],
            "facts": [*_facts(row, x, y)],
            "network": _network(subject),
            "blocks": _blocks(subject, self._task(str(row["condition"]))),
            "curves": self._curves(curved, y),
            "ratios": _ratios(histories),
            "trials": [_trial(each, y) for each in told],
            "more": max(0, len(trials) - len(told)),
        }

    def _subject(self, digest: str, last: RatioEpoch | None) -> Subject | None:
        found = self._subjects.get(digest)
        if found is None:
            return None
        try:
            return final_subject(parse_subject(found.subject), last)
        except UserError:  # a study with a trial function of its own may propose anything
            return None

    def _task(self, condition: str) -> Task | None:
        try:
            return self._ledger.study.tasks[condition]
        except (ValueError, KeyError, MachineError):
            return None

    def _curves(self, trials: Sequence[Row], y: Quantity) -> Plain:
        """The course of the quantity on the y axis, or of validation log-likelihood."""
        curves = {each["seed"]: self._ledger.curve(each["key"]) for each in trials}
        keys = [k for k in (y.key, "val_nll") if any(k in p for c in curves.values() for p in c)]
        if not keys:
            return {}
        label = y.label if keys[0] == y.key else QUANTITIES[keys[0]].label
        series = [
            {
                "seed": seed,
                "points": _thinned([(p["epoch"], p[keys[0]]) for p in c if keys[0] in p]),
            }
            for seed, c in curves.items()
        ]
        return {"label": label, "series": [each for each in series if len(each["points"]) > 1]}


def _by_network(frame: pd.DataFrame, points: pd.DataFrame, y: Quantity) -> dict[str, list[Row]]:
    """The trials of each point: those of its arm, or without one of its network."""
    of_condition = frame[frame["condition"].isin(points["condition"].unique())]
    arms = points.loc[points["arm"].ne(""), "arm"]
    alone = of_condition["arm"].eq("") & of_condition["digest"].isin(points["digest"])
    near = of_condition.loc[alone | of_condition["arm"].isin(arms)]
    columns = [*dict.fromkeys([*_OF_TRIAL, y.key])]
    trials: dict[tuple[str, str], list[Row]] = {}
    for row in near[columns].to_dict("records"):
        trials.setdefault((row["arm"], "" if row["arm"] else row["digest"]), []).append(row)
    rows = zip(points["id"], points["arm"], points["digest"], strict=True)
    return {i: trials[arm, "" if arm else digest] for i, arm, digest in rows}


def _value(row: Row, quantity: Quantity) -> list[str]:
    """The name of a quantity and its value with the spread or the interval."""
    value = float(row[quantity.key])
    text = quantity.text(value, noisy=bool(row["noisy"]))
    spread = row.get(f"{quantity.key}_sd", math.nan)
    low, high = row[f"{quantity.key}_low"], row[f"{quantity.key}_high"]
    if quantity.source == "trained" and math.isfinite(spread):
        text += f" ± {quantity.text(spread)}"
    elif quantity.source == "measured" and math.isfinite(low) and math.isfinite(high):
        text += f" [{quantity.text(low)}, {quantity.text(high)}]"
    return [quantity.label, text]


def _facts(row: Row, x: Quantity, y: Quantity) -> Iterator[list[str]]:
    """What else is known of a network, name and value."""
    for key in _COSTS:
        value = float(row[key]) if key in row and not pd.isna(row[key]) else math.nan
        if key not in (x.key, y.key) and not math.isnan(value):
            quantity = QUANTITIES[key]
            yield [quantity.label, quantity.text(value, noisy=bool(row["noisy"]))]
    if not math.isnan(chance := row.get("front_probability", math.nan)):
        yield ["Probability of being on the front", format_probability(chance)]
    failed = f" ({row['failed']} failed)" if row["failed"] else ""
    yield ["Seeds", f"{row['n']}{failed}"]
    if "feasible" in row:
        yield ["Within limits", "yes" if row["feasible"] else "no"]
    yield ["Digest", str(row["digest"])]


def _network(subject: Subject | None) -> str:
    """The network in one line."""
    if isinstance(subject, TimmModel):
        return f"timm model {subject.timm}"
    return subject.summary() if subject is not None else ""


def _blocks(subject: Subject | None, task: Task | None) -> list[Plain]:
    """The rows of a network from input to output; none where its inside is not known."""
    if not isinstance(subject, Architecture) or task is None:
        return []
    try:
        counted, sizes = compute_cost(subject, task.input_spec), uniform_sizes(subject, task.input_spec)
    except UserError:
        return []
    return _rows(counted, blocks_with_sizes(subject, sizes))


def _rows(counted: NetworkCost, stages: Sequence[Sequence[RealizedBlock]]) -> list[Plain]:
    built = {
        f"stage {stage}, block {index}": block
        for stage, blocks in enumerate(stages, start=1)
        for index, block in enumerate(blocks, start=1)
    }
    return [
        {
            "name": row.name,
            "map": f"{row.height}×{row.width}",
            "width": row.channels,
            "params": row.params,
            "macs": row.macs,
            **(_parts(built[row.name]) if row.name in built else {}),
        }
        for row in counted.rows
    ]


def _parts(block: RealizedBlock) -> Plain:
    learned = block.learning.parts if block.learning else ()
    parts = [
        [part.op, part.channels, index in learned]
        for index, part in enumerate(block.parts)
        if part.channels
    ]
    return {"parts": parts, "pat_sp": block.pat_sp}


def _ratios(histories: Mapping[int, Sequence[RatioEpoch]]) -> Plain:
    """Learned ratios over the epochs of the first trial that has any, and at the end of all."""
    known = {seed: history for seed, history in histories.items() if history}
    if not known:
        return {}
    seed, history = next(iter(known.items()))
    names = [*history[-1].ratios]
    return {
        "seed": seed,
        "series": [
            {"name": name, "points": _thinned([(e.epoch, e.ratios[name]) for e in history])}
            for name in names
        ],
        "ends": [
            [name, *(_short(each[-1].ratios.get(name)) for each in known.values())]
            for name in names
        ],
        "seeds": [*known],
    }


def _trial(row: Row, y: Quantity) -> list[str]:
    value = row[y.key]
    reason = row["reason"]
    told = one_line(reason)[:_LONGEST_REASON] if isinstance(reason, str) else ""
    text: str = told if pd.isna(value) else y.text(float(value))
    return [f"#{row['trial']}", str(row["seed"]), str(row["state"]), text]


def _thinned(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    """At most so many points of a course, evenly, its end among them."""
    step = max(1, math.ceil(len(points) / _MOST_EPOCHS))
    kept = [*reversed([*reversed(points)][::step])]
    return [[round(x), value] for x, y in kept if (value := _short(y)) is not None]


def _short(value: float | None) -> float | None:
    """A number with as many digits as a drawing needs."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_FIGURES}g}")
