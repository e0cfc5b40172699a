"""The tables of the report, as sheets of texts."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from partialnas.analysis.audit.confirmation import confirmation_table
from partialnas.analysis.formats.text_table import MINUS, TextTable, table_from_rows
from partialnas.analysis.frames.seed_means import FAILED_STATES
from partialnas.analysis.pareto.table import format_pareto_table
from partialnas.analysis.ratios.summary import ratio_summary
from partialnas.analysis.report.points import OTHER
from partialnas.analysis.report.study_facts import StudyFacts, shorten
from partialnas.runs.config.design import Design, DesignArm
from partialnas.runs.ledger.usage import format_duration

if TYPE_CHECKING:
    from partialnas.analysis.report.audit_section import ProxyRanks

MOST_ROWS = 60
"""Rows of a table that may have very many; what is left out is counted below it."""

_MOST_NUMBERS = 5


def front_sheet(points: pd.DataFrame, ranks: "ProxyRanks | None" = None) -> TextTable:
    """Front, arms and baselines with their values: the figure as a table.

    Args:
        points: as `told_points` gives them.
        ranks: what an audit tells of ranks by short training; those that stay open are marked.
    """
    rows = points[points["kind"].ne(OTHER)]
    shown = rows.head(MOST_ROWS).assign(
        family="-"
    )  # `format_pareto_table` tells whatever has a family
    shown = shown.assign(name=shown["name"].mask(shown["name"].eq(shown["digest"]), shown["arm"]))
    shown.attrs = points.attrs
    told = format_pareto_table(shown).rename(columns={"": "Network or arm"})
    told.insert(1, "On the front", ["yes" if each else "" for each in shown["on_front"]])
    if ranks:
        told.insert(2, ranks.header, ranks.texts(shown["label"]))
    texts = {"Network or arm", "On the front", "Network", "Within limits"}
    heads = [str(column) for column in told]
    numbers = "".join("t" if head in texts else "n" for head in heads)
    notes = [_left_out(len(rows) - len(shown), "row"), ranks.note(shown["label"]) if ranks else ""]
    note = " ".join(filter(None, notes))
    cells = told.astype(str).to_numpy().tolist()
    return table_from_rows("Front, arms and baselines", heads, cells, numbers, note)


def networks_sheet(
    points: pd.DataFrame, networks: Mapping[str, Mapping[str, Any]]
) -> TextTable | None:
    """What the networks of front, arms and baselines are; None where that is not known."""
    shown = points[points["kind"].ne(OTHER)].head(MOST_ROWS)
    told = [networks[i] for i in shown["id"]]
    rows = [(str(each["label"]), str(each["network"])) for each in told if each["network"]]
    return (
        table_from_rows("Architectures", ["Network or arm", "Architecture"], rows) if rows else None
    )


def arms_sheet(design: Design) -> TextTable:
    """The arms of a design: levels, what they are compared with, how they were matched."""
    factors = [factor.name for factor in design.factors]
    heads = ["Arm", *factors, "Compared with", "Recipe", "Matched"]
    rows = [
        [
            arm.name,
            *(arm.levels.get(name, "") for name in factors),
            arm.against or "",
            json.dumps(arm.recipe)[1:-1].replace('"', ""),
            _matched(arm),
        ]
        for arm in design.arms[:MOST_ROWS]
    ]
    kept = [i for i, _ in enumerate(heads) if not i or any(row[i] for row in rows)]
    note = _left_out(len(design.arms) - len(rows), "arm")
    return table_from_rows(
        "Arms", [heads[i] for i in kept], [[r[i] for i in kept] for r in rows], note=note
    )


def _matched(arm: DesignArm) -> str:
    found = arm.matched
    if found is None:
        return ""
    if found.problem:
        return f"not matched: {found.problem}"
    error = f"{100 * found.error:+.1f} %".replace("-", MINUS)
    if not found.is_adjusted:
        return error
    before, after = ("-".join(map(str, width)) for width in found.width)
    return f"{error}, widths {before} → {after}"


def left_out_sheet(design: Design) -> TextTable | None:
    """Combinations that the design does not have, and why; None where it has all."""
    if not design.left_out:
        return None
    shown = design.left_out[:MOST_ROWS]
    rows = [
        (", ".join(starmap("{}={}".format, each.levels.items())), each.reason) for each in shown
    ]
    note = _left_out(len(design.left_out) - len(shown), "combination")
    return table_from_rows("Left out of the design", ["Combination", "Reason"], rows, note=note)


def axes_sheet(frozen: Mapping[str, Any]) -> TextTable | None:
    """The axes of a search's space; None where there is none."""
    axes = (frozen.get("space") or {}).get("axes") or {}
    if not axes:
        return None
    rows = [(str(name), shorten(_levels(values), 400)) for name, values in axes.items()]
    return table_from_rows("Axes of the space", ["Axis", "Levels"], rows)


def _levels(values: Any) -> str:
    if isinstance(values, dict) and "values" in values:
        rest = {key: value for key, value in values.items() if key != "values"}
        more = f" ({_words(rest)})" if rest else ""
        return _levels(values["values"]) + more
    listed = values if isinstance(values, list) else [values]
    return " | ".join(map(_words, listed))


def _words(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace('"', "").removeprefix("{").removesuffix("}")


def failures_sheet(frame: pd.DataFrame) -> TextTable | None:
    """What failed, by reason, the most frequent first; None where nothing did."""
    return _by_reason(frame[frame["state"].isin(FAILED_STATES)], "Failed trials by reason")


def early_sheet(frame: pd.DataFrame) -> TextTable | None:
    """What was stopped before its end, by reason; None where nothing was."""
    return _by_reason(frame[frame["state"].eq("early")], "Trials stopped early by reason")


def _by_reason(struck: pd.DataFrame, name: str) -> TextTable | None:
    if struck.empty:
        return None
    told = struck["reason"].fillna("no reason known")
    groups = [*struck.groupby([struck["state"], told], sort=False)]
    groups.sort(key=lambda pair: -len(pair[1]))
    rows = [
        (
            str(state),
            shorten(str(reason), 500),
            f"{len(trials):,}",
            format_duration(trials["seconds"].sum() / 3600),
            _few(trials["trial"].tolist()),
        )
        for (state, reason), trials in groups[:MOST_ROWS]
    ]
    heads = ["State", "Reason", "Trials", "Time", "Which"]
    note = _left_out(len(groups) - len(rows), "reason")
    return table_from_rows(name, heads, rows, "ttnnt", note)


def ratio_warning_rows(warned: pd.DataFrame) -> list[tuple[str, str]]:
    """Warnings of learned ratios, the most frequent first, each with the trials it is of."""
    if warned.empty:
        return []
    once = warned.drop_duplicates(["trial", "warning"])
    told = [(str(text), [*map(int, of)]) for text, of in once.groupby("warning")["trial"]]
    told.sort(key=lambda pair: -len(pair[1]))
    shown = told[:MOST_ROWS]
    rows = [(shorten(text, 500), f"{len(of):,} trials: {_few(of)}") for text, of in shown]
    if rest := _left_out(len(told) - len(shown), "warning"):
        rows.append((rest, ""))
    return rows


def _few(numbers: Sequence[int]) -> str:
    listed = ", ".join(f"#{number}" for number in numbers[:_MOST_NUMBERS])
    return listed + (", …" if len(numbers) > _MOST_NUMBERS else "")


def _left_out(number: int, noun: str) -> str:
    if number < 1:
        return ""
    return f"{number:,} more {noun}{'s' * (number != 1)} not shown; `partialnas export` has all."


def compute_sheet(facts: StudyFacts, frame: pd.DataFrame) -> TextTable:
    """Hours by what became of them."""
    counts = {**facts.states, "measuring": facts.timed_networks}
    total = sum(facts.usage.hours.values())
    rows = [
        (
            kind,
            f"{number:,}",
            format_duration(facts.usage.hours[kind]) if kind in facts.usage.hours else "",
            f"{100 * facts.usage.hours[kind] / total:.1f} %" if kind in facts.usage.hours else "",
        )
        for kind, number in counts.items()
        if number or kind in facts.usage.hours
    ]
    trials = f"{len(frame):,}"
    rows.append(("all", trials, format_duration(total), "100 %" if total else ""))
    heads = ["State", "Trials or networks", "Time", "Share"]
    return table_from_rows("Time by what became of it", heads, rows, "tnnn")


def environment_sheet(facts: StudyFacts) -> TextTable:
    """Machine and versions of the trials, a column for each environment that there was."""
    shown = facts.environments[:4]
    keys = [*dict.fromkeys(key for environment, _ in shown for key in environment)]
    rows = [(key, *(str(environment.get(key, "")) for environment, _ in shown)) for key in keys]
    heads = ["", *(f"{number:,} trials" if number else "driver" for _, number in shown)]
    note = _left_out(len(facts.environments) - len(shown), "environment")
    return table_from_rows("Machine and versions", heads, rows, note=note)


def stage_sheet(folder: Path, stage: str) -> TextTable:
    """What a stage of confirmation found.

    Raises:
        UserError: the stage has nothing to tell yet.
    """
    table = confirmation_table(folder, stage)
    quantity, told = table.attrs["quantity"], table.attrs["stage"]
    heads = [
        "Arm",
        "When chosen",
        "Confirmed",
        "Shift",
        "Test accuracy (%)",
        "Test NLL (nats)",
        "n",
    ]
    rows = [
        (
            str(row["arm"]),
            quantity.text(row["chosen"]),
            _spread(row["confirmed"], row["confirmed_sd"], quantity.spec),
            _signed(row["shift"]),
            _interval(row, "test_accuracy", ".2f"),
            _interval(row, "test_nll", ".4f"),
            f"{row['n']}" + (f" ({row['failed']} failed)" if row["failed"] else ""),
        )
        for row in table.to_dict("records")
    ]
    note = (
        f"{quantity.label}: mean of the trials that the choice was made from, then mean ± standard "
        f"deviation over fresh seeds ({told.chosen}). Test split: mean over fresh seeds and 95 % t "
        "interval; nothing was chosen by it."
    )
    return table_from_rows(f"Stage {told.name}", heads, rows, "tnnnnnn", note)


def ratios_sheet(
    frame: pd.DataFrame, table: pd.DataFrame, warned: pd.DataFrame
) -> TextTable | None:
    """What learning ratios came to, of each arm; None where none were learned."""
    if table.empty:
        return None
    heads = [
        *("Arm", "Seeds", "Beyond the budget (%)", "Worst seed (%)", "Gap of the forms"),
        *("Validation accuracy (%)", "Validation NLL (nats)", "Time", "Throughput"),
    ]
    summary = ratio_summary(frame, table, warned)
    rows = [
        (
            str(row["series"]),
            f"{row['seeds']}" + (f" ({row['failed']} failed)" if row["failed"] else ""),
            _signed(row["budget_error_median"], ".2f"),
            _signed(row["budget_error_worst"], ".2f"),
            _number(row["ratio_gap_worst"], ".1e"),
            _spread(row["val_accuracy"], row["val_accuracy_sd"], ".2f"),
            _spread(row["val_nll"], row["val_nll_sd"], ".4f"),
            _number(row["seconds_ratio"], ".2f"),
            _number(row["throughput_ratio"], ".2f"),
        )
        for row in summary.head(MOST_ROWS).to_dict("records")
    ]
    note = (
        "Beyond the budget: multiply–accumulates used over those allowed, less 1, median and worst "
        "seed. Gap: largest difference between the logits of the trained and of the frozen form, "
        "over the largest logit, worst seed. Time and throughput: over those of the static arms "
        "with the same seed, median."
    )
    return table_from_rows("What learning came to", heads, rows, "tnnnnnnnn", note)


def _number(value: float, spec: str) -> str:
    return "" if math.isnan(value) else format(value, spec)


def _signed(value: float, spec: str = ".3g") -> str:
    return _number(value, f"+{spec}").replace("-", MINUS)


def _spread(mean: float, sd: float, spec: str) -> str:
    if math.isnan(mean):
        return ""
    text = format(mean, spec or ".4g")
    return text if math.isnan(sd) else f"{text} ± {sd:{spec or '.2g'}}"


def _interval(row: Mapping[Any, Any], key: str, spec: str) -> str:
    mean, low, high = (row[name] for name in (key, f"{key}_low", f"{key}_high"))
    return _number(mean, spec) + ("" if math.isnan(low) else f" [{low:{spec}}, {high:{spec}}]")
