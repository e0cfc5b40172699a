"""The report's details of a network: its blocks, ratios, learning curves and trials."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from partialnas.analysis.formats.caption_sentences import count_seeds
from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.pareto.front_probability import format_probability
from partialnas.analysis.pareto.table import ParetoTable, table_quantities
from partialnas.runs.config.quantities import QUANTITIES, Quantity
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.frozen_model import final_subject
from partialnas.runs.records.record import RatioEpoch
from partialnas.runs.records.subject import Subject, TimmModel, parse_subject
from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.cost.cost import compute_cost, realized_blocks
from partialnas.space.errors import MachineError, UserError

_MAX_TRIALS = 12
_MAX_CURVES = 5
_MAX_EPOCHS = 60
_MAX_REASON_LENGTH = 200
_DIGITS = 4  # significant digits of plotted values
_COSTS = ("params", "macs", "throughput_img_s", "latency_ms", "val_accuracy", "val_nll")

_TRIAL_COLUMNS = ("arm", "digest", "trial", "key", "seed", "state", "reason")

Plain = dict[str, Any]
Row = Mapping[Hashable, Any]


class NetworkDetails:
    """Details of networks, from an open ledger.

    Args:
        ledger: the study's ledger.
        frame: the study's trials.
    """

    def __init__(self, ledger: Ledger, frame: pd.DataFrame) -> None:
        self._ledger = ledger
        self._frame = frame
        self._subjects = {row.digest: row for row in reversed(ledger.proposals())}

    def describe(self, table: ParetoTable) -> dict[str, Plain]:
        """Return the details of each point by its id, as plain JSON data.

        Args:
            table: Pareto table with the rows of `detailed_points`, all under one condition.
        """
        trials, rows = _by_network(self._frame, table.rows, table.y), table.rows.to_dict("records")
        return {row["id"]: self._details(row, trials[row["id"]], table) for row in rows}

    @property
    def has_learned_ratios(self) -> bool:
        """Whether any network has learned ratios."""
        return any('"learned"' in row.subject_json for row in self._subjects.values())

    def _details(self, row: Row, trials: Sequence[Row], table: ParetoTable) -> Plain:
        x, y, *objectives = table.quantities
        listed = trials[:_MAX_TRIALS]
        done = [trial for trial in listed if trial["state"] == "done"][:_MAX_CURVES]
        histories = {trial["seed"]: self._ledger.ratios(trial["key"]) for trial in done}
        last = next((history[-1] for history in histories.values() if history), None)
        subject = self._subject(row["digest"], last)
        return {
            "label": row["label"],
            "kind": row["kind"],
            "name": "" if row["name"] in (row["label"], row["digest"]) else one_line(row["name"]),
            "values": [_value(table, row, q) for q in (y, x, *objectives)],
            "facts": [*_facts(table, row)],
            "network": _network(subject),
            "blocks": _blocks(subject, self._task(str(row["condition"]))),
            "curves": self._curves(done, y),
            "ratios": _ratios(histories),
            "trials": [_trial(trial, y) for trial in listed],
            "more": len(trials) - len(listed),
        }

    def _subject(self, digest: str, last: RatioEpoch | None) -> Subject | None:
        proposal = self._subjects.get(digest)
        if proposal is None:
            return None
        try:
            return final_subject(parse_subject(proposal.subject), last)
        except UserError:  # a study with its own trial function may propose anything
            return None

    def _task(self, condition: str) -> Task | None:
        try:
            return self._ledger.study.tasks[condition]
        except (ValueError, KeyError, MachineError):
            return None

    def _curves(self, trials: Sequence[Row], y: Quantity) -> Plain:
        """Return the learning curves of the quantity on the y axis, or of the validation NLL."""
        curves = {trial["seed"]: self._ledger.curve(trial["key"]) for trial in trials}
        keys = [k for k in (y.key, "val_nll") if any(k in p for c in curves.values() for p in c)]
        if not keys:
            return {}
        label = y.label if keys[0] == y.key else QUANTITIES[keys[0]].label
        series = [
            {"seed": seed, "points": _thin([(p["epoch"], p[keys[0]]) for p in c if keys[0] in p])}
            for seed, c in curves.items()
        ]
        return {"label": label, "series": [line for line in series if len(line["points"]) > 1]}


def _by_network(frame: pd.DataFrame, points: pd.DataFrame, y: Quantity) -> dict[str, list[Row]]:
    """Return the trials of each point: those of its arm, or of its network if it has no arm."""
    of_condition = frame[frame["condition"].isin(points["condition"].unique())]
    arms = points.loc[points["arm"].ne(""), "arm"]
    armless = of_condition["arm"].eq("") & of_condition["digest"].isin(points["digest"])
    selected = of_condition.loc[armless | of_condition["arm"].isin(arms)]
    columns = [*dict.fromkeys([*_TRIAL_COLUMNS, y.key])]
    trials: dict[tuple[str, str], list[Row]] = {}
    for row in selected[columns].to_dict("records"):
        trials.setdefault((row["arm"], "" if row["arm"] else row["digest"]), []).append(row)
    rows = zip(points["id"], points["arm"], points["digest"], strict=True)
    return {i: trials[arm, "" if arm else digest] for i, arm, digest in rows}


def _value(table: ParetoTable, row: Row, quantity: Quantity) -> list[str]:
    """Return the label of a quantity, and its value with deviation or interval."""
    text = table.text(row, quantity)
    sd = row.get(f"{quantity.key}_sd", math.nan)
    low, high = row[f"{quantity.key}_low"], row[f"{quantity.key}_high"]
    if quantity.source == "trained" and math.isfinite(sd):
        text += f" ± {quantity.text(sd)}"
    elif quantity.source == "measured" and math.isfinite(low) and math.isfinite(high):
        text += f" [{quantity.text(low)}, {quantity.text(high)}]"
    return [quantity.label, text]


def _facts(table: ParetoTable, row: Row) -> Iterator[list[str]]:
    """Yield further facts of a network than the table's quantities, each a label and a value."""
    for quantity in table_quantities(table, _COSTS)[len(table.quantities) :]:
        if quantity.key in row and (text := table.text(row, quantity)):
            yield [quantity.label, text]
    if not math.isnan(probability := row.get("front_probability", math.nan)):
        yield ["Probability of being on the front", format_probability(probability)]
    yield ["Seeds", count_seeds(row["n"], failed=row["failed"])]
    if "feasible" in row:
        yield ["Within limits", str(row["within_limits"])]
    yield ["Digest", str(row["digest"])]


def _network(subject: Subject | None) -> str:
    """Return the network in one line."""
    if isinstance(subject, TimmModel):
        return f"timm model {subject.timm}"
    return subject.summary() if subject is not None else ""


def _blocks(subject: Subject | None, task: Task | None) -> list[Plain]:
    """Return the layers of a network from input to output; empty if they are unknown."""
    if not isinstance(subject, Architecture) or task is None:
        return []
    try:
        total = compute_cost(subject, task.input_spec)
        realized = realized_blocks(subject, task.input_spec)
    except UserError:
        return []
    return [
        {
            "name": row.name,
            "map": f"{row.height}×{row.width}",
            "width": row.channels,
            "params": row.params,
            "macs": row.macs,
            **(_parts(realized[row.name]) if row.name in realized else {}),
        }
        for row in total.rows
    ]


def _parts(block: RealizedBlock) -> Plain:
    learned = block.learning.parts if block.learning else ()
    parts = [[p.op, p.channels, i in learned] for i, p in enumerate(block.parts) if p.channels]
    return {"parts": parts, "pat_sp": block.pat_sp}


def _ratios(histories: Mapping[int, Sequence[RatioEpoch]]) -> Plain:
    """Return the ratios of the first trial over its epochs, and the final ratios of every trial."""
    learned = {seed: history for seed, history in histories.items() if history}
    if not learned:
        return {}
    seed, history = next(iter(learned.items()))
    names = [*history[-1].ratios]
    return {
        "seed": seed,
        "series": [
            {"name": name, "points": _thin([(e.epoch, e.ratios[name]) for e in history])}
            for name in names
        ],
        "ends": [
            [name, *(_round(epochs[-1].ratios.get(name)) for epochs in learned.values())]
            for name in names
        ],
        "seeds": [*learned],
    }


def _trial(row: Row, y: Quantity) -> list[str]:
    value = row[y.key]
    reason = row["reason"]
    message = one_line(reason)[:_MAX_REASON_LENGTH] if isinstance(reason, str) else ""
    text: str = message if pd.isna(value) else y.text(float(value))
    return [f"#{row['trial']}", str(row["seed"]), str(row["state"]), text]


def _thin(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Return evenly spaced points of a curve, including its last one."""
    step = max(1, math.ceil(len(points) / _MAX_EPOCHS))
    kept = [*reversed([*reversed(points)][::step])]
    return [[round(x), value] for x, y in kept if (value := _round(y)) is not None]


def _round(value: float | None) -> float | None:
    """Return a finite value with the digits that a plot needs, or None."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")
