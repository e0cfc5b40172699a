"""The tables of the report."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from partialnas.analysis.audit.confirmation import confirmation_table
from partialnas.analysis.formats.caption_sentences import count_seeds, pluralize
from partialnas.analysis.formats.text_table import (
    MINUS,
    TextTable,
    format_mean,
    format_number,
    table_from_rows,
)
from partialnas.analysis.frames.seed_means import FAILED_STATES
from partialnas.analysis.pareto.table import ParetoTable, format_pareto_table
from partialnas.analysis.ratios.summary import ratio_summary
from partialnas.analysis.report.points import OTHER
from partialnas.analysis.report.study_facts import StudyFacts, format_date, shorten
from partialnas.runs.config.design import Design, DesignArm
from partialnas.runs.config.quantities import format_value
from partialnas.runs.ledger.rows import RESULT_STATES
from partialnas.runs.ledger.usage import format_duration

if TYPE_CHECKING:
    from partialnas.analysis.report.audit_section import ProxyRanks

_MAX_ROWS = 60
"""Largest number of rows; a note below the table counts the others."""

_MAX_TRIALS = 5


def front_sheet(points: ParetoTable, ranks: "ProxyRanks | None" = None) -> TextTable:
    """Return the front, arms and baselines with their values: the figure as a table.

    Args:
        points: the Pareto table with the rows of `detailed_points`.
        ranks: ranks by short training from an audit.
    """
    rows = points.all_rows
    rows = rows[rows["kind"].ne(OTHER)]
    shown = rows.head(_MAX_ROWS).assign(family="-")  # so that `format_pareto_table` keeps all rows
    shown = shown.assign(name=shown["name"].mask(shown["name"].eq(shown["digest"]), shown["arm"]))
    texts = format_pareto_table(replace(points, rows=shown)).rename(columns={"": "Network or arm"})
    texts.insert(1, "On the front", ["yes" if member else "" for member in shown["on_front"]])
    if ranks:
        texts.insert(2, ranks.header, ranks.texts(shown["label"]))
    text_heads = {"Network or arm", "On the front", "Network", "Within limits"}
    heads = [str(column) for column in texts]
    kinds = "".join("t" if head in text_heads else "n" for head in heads)
    rank_note = ranks.note(shown["label"]) if ranks else ""
    note = " ".join(filter(None, [_omission_note(len(rows) - len(shown), "row"), rank_note]))
    cells = texts.astype(str).to_numpy().tolist()
    return table_from_rows("Front, arms and baselines", heads, cells, kinds, note)


def networks_sheet(
    points: pd.DataFrame, networks: Mapping[str, Mapping[str, Any]]
) -> TextTable | None:
    """Return the architectures of front, arms and baselines, or None if unknown."""
    shown = points[points["kind"].ne(OTHER)].head(_MAX_ROWS)
    details = [networks[point] for point in shown["id"]]
    rows = [(str(of["label"]), str(of["network"])) for of in details if of["network"]]
    heads = ["Network or arm", "Architecture"]
    return table_from_rows("Architectures", heads, rows) if rows else None


def arms_sheet(design: Design) -> TextTable:
    """Return the arms of a design: levels, baseline, and how their cost was matched."""
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
        for arm in design.arms[:_MAX_ROWS]
    ]
    columns = [*zip(heads, *rows, strict=True)]
    used = [column for column in columns if column is columns[0] or any(column[1:])]
    note = _omission_note(len(design.arms) - len(rows), "arm")
    heads, *rows = map(list, zip(*used, strict=True))
    return table_from_rows("Arms", heads, rows, note=note)


def _matched(arm: DesignArm) -> str:
    match = arm.matched
    if match is None:
        return ""
    if match.problem:
        return f"not matched: {match.problem}"
    error = f"{100 * match.error:+.1f} %".replace("-", MINUS)
    if not match.is_adjusted:
        return error
    before, after = ("-".join(map(str, width)) for width in match.width)
    return f"{error}, widths {before} → {after}"


def left_out_sheet(design: Design) -> TextTable | None:
    """Return the combinations that the design leaves out and why, or None if there are none."""
    if not design.left_out:
        return None
    shown = design.left_out[:_MAX_ROWS]
    levels = (", ".join(starmap("{}={}".format, excluded.levels.items())) for excluded in shown)
    rows = zip(levels, (excluded.reason for excluded in shown), strict=True)
    note = _omission_note(len(design.left_out) - len(shown), "combination")
    return table_from_rows("Left out of the design", ["Combination", "Reason"], rows, note=note)


def axes_sheet(frozen: Mapping[str, Any]) -> TextTable | None:
    """Return the axes of a search's space, or None if there is no space."""
    axes = (frozen.get("space") or {}).get("axes") or {}
    if not axes:
        return None
    rows = [(str(name), shorten(_levels(values), 400)) for name, values in axes.items()]
    return table_from_rows("Axes of the space", ["Axis", "Levels"], rows)


def _levels(values: Any) -> str:
    if isinstance(values, dict) and "values" in values:
        rest = {key: value for key, value in values.items() if key != "values"}
        more = f" ({_plain_text(rest)})" if rest else ""
        return _levels(values["values"]) + more
    listed = values if isinstance(values, list) else [values]
    return " | ".join(map(_plain_text, listed))


def _plain_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace('"', "").removeprefix("{").removesuffix("}")


def failures_sheet(frame: pd.DataFrame) -> TextTable | None:
    """Return the failures by reason, the most frequent first, or None if there are none."""
    return _count_by_reason(frame[frame["state"].isin(FAILED_STATES)], "Failed trials by reason")


def retried_sheet(frame: pd.DataFrame) -> TextTable | None:
    """Return the trials that were run again after failures, or None if there are none."""
    trials = frame[frame["failures"].gt(0)]
    if trials.empty:
        return None
    groups = [*trials.groupby(["last_failure", "state"], sort=False)]
    groups.sort(key=lambda pair: -len(pair[1]))
    rows = [
        (
            shorten(str(reason), 500),
            f"{group['failures'].sum():,}",
            str(state),
            f"{len(group):,}",
            _first_trials(group["trial"].tolist()),
        )
        for (reason, state), group in groups[:_MAX_ROWS]
    ]
    heads = ["Last failure", "Failures", "State now", "Trials", "Trial numbers"]
    note = _omission_note(len(groups) - len(rows), "reason")
    return table_from_rows("Trials run again after failures", heads, rows, "tntnt", note)


def sources_sheet(facts: StudyFacts, frame: pd.DataFrame) -> TextTable | None:
    """Return the sources of the study's function with their trials, or None without a function."""
    if not facts.calls_function:
        return None
    counts = frame.loc[frame["state"].isin(RESULT_STATES), "function_source"].value_counts()
    sources = facts.recorded.trial_sources
    recorded = {str(source["digest"]): str(source["when"]) for source in sources}
    rows = [
        (digest, format_date(recorded.get(digest, "")), f"{counts.get(digest, 0):,}")
        for digest in dict.fromkeys([*recorded, *map(str, counts.index)])
        if digest
    ]
    if "" in counts:
        rows.insert(0, ("not recorded", "", f"{counts['']:,}"))
    heads = ["Source", "Recorded", "Results"]
    return table_from_rows(f"Source of {facts.recorded.frozen['trial']}", heads, rows, "ttn")


def early_sheet(frame: pd.DataFrame) -> TextTable | None:
    """Return the trials stopped early by reason, or None if there are none."""
    return _count_by_reason(frame[frame["state"].eq("early")], "Trials stopped early by reason")


def _count_by_reason(trials: pd.DataFrame, name: str) -> TextTable | None:
    if trials.empty:
        return None
    reasons = trials["reason"].fillna("unknown reason")
    groups = [*trials.groupby([trials["state"], reasons], sort=False)]
    groups.sort(key=lambda pair: -len(pair[1]))
    rows = [
        (
            str(state),
            shorten(str(reason), 500),
            f"{len(group):,}",
            format_duration(group["seconds"].sum() / 3600),
            _first_trials(group["trial"].tolist()),
        )
        for (state, reason), group in groups[:_MAX_ROWS]
    ]
    heads = ["State", "Reason", "Trials", "Time", "Trial numbers"]
    note = _omission_note(len(groups) - len(rows), "reason")
    return table_from_rows(name, heads, rows, "ttnnt", note)


def ratio_warning_rows(warnings: pd.DataFrame) -> list[tuple[str, str]]:
    """Return warnings of learned ratios with their trials, the most frequent first."""
    if warnings.empty:
        return []
    once = warnings.drop_duplicates(["trial", "warning"])
    groups = [(str(text), [*map(int, of)]) for text, of in once.groupby("warning")["trial"]]
    groups.sort(key=lambda pair: -len(pair[1]))
    shown = groups[:_MAX_ROWS]
    rows = [(shorten(text, 500), f"{len(of):,} trials: {_first_trials(of)}") for text, of in shown]
    if rest := _omission_note(len(groups) - len(shown), "warning"):
        rows.append((rest, ""))
    return rows


def _first_trials(numbers: Sequence[int]) -> str:
    listed = ", ".join(f"#{number}" for number in numbers[:_MAX_TRIALS])
    return listed + (", …" if len(numbers) > _MAX_TRIALS else "")


def _omission_note(number: int, noun: str) -> str:
    if number < 1:
        return ""
    items = pluralize(number, f"more {noun}")
    return f"{items} not shown; `partialnas export` writes all of them."


def compute_sheet(facts: StudyFacts, frame: pd.DataFrame) -> TextTable:
    """Return the compute used, by the state of trials."""
    counts = {kind: facts.states.get(kind, 0) for kind in (*facts.states, *facts.usage.hours)}
    counts["measuring"] = facts.timed_networks
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
    return table_from_rows("Compute by state", heads, rows, "tnnn")


def environment_sheet(facts: StudyFacts) -> TextTable:
    """Return machines and versions of the trials, one column per environment."""
    shown = facts.environments[:4]
    keys = [*dict.fromkeys(key for environment, _ in shown for key in environment)]
    rows = [(key, *(str(environment.get(key, "")) for environment, _ in shown)) for key in keys]
    heads = ["", *(f"{number:,} trials" if number else "driver" for _, number in shown)]
    note = _omission_note(len(facts.environments) - len(shown), "environment")
    return table_from_rows("Machine and versions", heads, rows, note=note)


def stage_sheet(folder: Path, stage: str) -> TextTable:
    """Return the results of a confirmation.

    Raises:
        UserError: the stage has no results yet.
    """
    confirmation = confirmation_table(folder, stage)
    quantity, recorded = confirmation.quantity, confirmation.stage
    objectives = confirmation.objective_columns()
    tests = ("Test accuracy (%)", "Test NLL (nats)")
    heads = ["Arm", "At selection", "Confirmed", "Shift", *objectives, *tests, "n"]
    rows = [
        (
            str(row["arm"]),
            quantity.text(row["chosen"]),
            _spread(row["confirmed"], row["confirmed_sd"], quantity.spec),
            _signed(row["shift"]),
            *(texts[place] for texts in objectives.values()),
            format_mean(row, "test_accuracy", ".2f"),
            format_mean(row, "test_nll", ".4f"),
            count_seeds(row["n"], failed=row["failed"]),
        )
        for place, row in enumerate(confirmation.table.to_dict("records"))
    ]
    course = " Other objectives: at selection → mean over fresh seeds." if objectives else ""
    note = (
        f"{quantity.label}: mean over the trials of the selection ({recorded.chosen}), then mean ± "
        f"standard deviation over fresh seeds.{course} Test split, which no selection used: mean "
        "over fresh seeds and 95 % t interval."
    )
    return table_from_rows(f"Stage {recorded.name}", heads, rows, "t".ljust(len(heads), "n"), note)


def ratios_sheet(
    frame: pd.DataFrame, table: pd.DataFrame, warnings: pd.DataFrame
) -> TextTable | None:
    """Return the results of learned ratios by arm, or None if no ratios were learned."""
    if table.empty:
        return None
    heads = [
        *("Arm", "Seeds", "Budget error (%)", "Worst seed (%)", "Logit gap"),
        *("Validation accuracy (%)", "Validation NLL (nats)", "Time", "Throughput"),
    ]
    summary = ratio_summary(frame, table, warnings)
    rows = [
        (
            str(row["series"]),
            count_seeds(row["seeds"], failed=row["failed"]),
            _signed(row["budget_error_median"], ".2f"),
            _signed(row["budget_error_worst"], ".2f"),
            format_number(row["ratio_gap_worst"], ".1e"),
            _spread(row["val_accuracy"], row["val_accuracy_sd"], ".2f"),
            _spread(row["val_nll"], row["val_nll_sd"], ".4f"),
            format_number(row["seconds_ratio"], ".2f"),
            format_number(row["throughput_ratio"], ".2f"),
        )
        for row in summary.head(_MAX_ROWS).to_dict("records")
    ]
    note = (
        "Budget error: multiply–accumulates used relative to the budget, median and worst seed. "
        "Logit gap: largest difference between the logits of the trained and the frozen form, "
        "relative to the largest logit, worst seed. Time and throughput: relative to the static "
        "arms with the same seed, median."
    )
    return table_from_rows("Results of learned ratios", heads, rows, "tnnnnnnnn", note)


def _signed(value: float, spec: str = ".3g") -> str:
    return format_number(value, f"+{spec}").replace("-", MINUS)


def _spread(mean: float, sd: float, spec: str) -> str:
    if math.isnan(mean):
        return ""
    text = format_value(mean, spec or ".4g")
    return text if math.isnan(sd) else f"{text} ± {format_value(sd, spec or '.2g')}"
