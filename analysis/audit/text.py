"""An audit in words: its tables as a reader wants them, and the caption of its figure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.audit.audit import Audit
from partialnas.analysis.formats.caption_sentences import compute_sentence, pluralize
from partialnas.analysis.formats.text_table import MINUS
from partialnas.analysis.stats.rank_correlation import NUM_RESAMPLES
from partialnas.analysis.stats.rank_intervals import SeedNoise
from partialnas.runs.config.quantities import Quantity, format_significant

Row = Mapping[Any, Any]


def format_agreement(audit: Audit, table: pd.DataFrame, target: Quantity) -> pd.DataFrame:
    """How well each ranking agrees with the target's after longer training, as texts."""
    rows = table[table["target"].eq(target.key)].to_dict("records")
    top = max(row["top_n"] for row in rows)
    texts = {
        f"{target.label} after {audit.longer_label}, ranked by": [ranked_by(audit, row) for row in rows],
        "Networks": [f"{row['n']}" for row in rows],
        "τ [95 %]": [_interval(row, "tau") for row in rows],
        f"τ in the best third (n = {top})": [_interval(row, "top") for row in rows],
        "τ of single trainings": [_number(row.get("single")) for row in rows],
        "Regret": [_regret(row.get("regret"), target) for row in rows],
        "τ over MACs alone": [_interval(row, "over_macs") for row in rows],
    }
    return pd.DataFrame(texts)


def ranked_by(audit: Audit, row: Row) -> str:
    """What a row of `agreement` ranks by, in words."""
    if row["kind"] == "proxy":
        return f"{row['by']} after {row['ranked_by']}"
    if row["kind"] == "seeds":
        ceiling = "" if row["ranked_by"] == audit.longer_label else " (ceiling)"
        return f"two seeds of {row['ranked_by']}{ceiling}"
    return str(row["ranked_by"])


def format_ranks(table: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    """The ranks of a study's front and best networks, and which they could have, as texts."""
    return pd.DataFrame(
        {
            "": table["network"],
            "Front": ["yes" if each else "" for each in table["on_front"]],
            quantity.label: [quantity.text(value) for value in table["value"]],
            "Seeds": table["n"].astype(str),
            "Rank": table["rank"].astype(str),
            "Could be": [_range(row) for row in table.to_dict("records")],
        }
    )


def _range(row: Row) -> str:
    if row["rank_low"] is pd.NA:
        return "not known"
    return f"{row['rank_low']} to {row['rank_high']} of {row['of']}"


def rank_note(table: pd.DataFrame, between_seeds: SeedNoise, quantity: Quantity) -> str:
    """How to read ranks, in sentences."""
    if not between_seeds.degrees:
        return (
            "No network has two seeds of the study's training: its noise, and so which ranks can "
            "be told apart, is not known."
        )
    open_ = table["rank_low"].ne(table["rank_high"])
    first = table[table["rank_low"].le(1)]
    return (
        f"Ranks by short training: {int(open_.sum())} of these {len(table)} are not resolved, "
        f"{len(first)} of them could be the best. Could be: 95 % confidence set of each rank, from "
        f"a standard deviation between seeds of {format_significant(between_seeds.deviation, 3)} in "
        f"{quantity.key} ({pluralize(between_seeds.degrees, 'degree')} of freedom, what seeds have in "
        "common taken out), pooled over networks; Dunnett's critical value for the comparisons of "
        "one network with all others."
    )


def audit_caption(audit: Audit, table: pd.DataFrame) -> str:
    """The caption of an audit's figure: everything that a paper's checklist asks of it."""
    target = audit.quantity
    rows = table[table["target"].eq(target.key)].to_dict("records")
    longer = audit.trainings[audit.trainings["longer"]]
    failed = longer["state"].isin(("failed", "timeout"))
    study = audit.study.frame["study"].iloc[0]
    seeds = len(audit.stage.seeds)
    sentences = [
        f"{target.label} of networks of {study} by short training, against {audit.longer_label} "
        f"({audit.stage.chosen}).",
        *(_sentence(audit, row, target) for row in rows if _drawn(row, target)),
        _beside(audit, rows),
        f"Intervals: 95 % percentile bootstrap over networks ({NUM_RESAMPLES:,} draws). The best third is "
        "that of the longer training, the same networks for every ranking.",
        f"Points: means over seeds ({seeds} of the longer training, by short training those that "
        "the study had, of networks that it did not train so those of the audit); bars: one "
        "standard deviation (n − 1) over all seeds.",
        "Regret is to the best mean of the sample, which is partly luck.",
        f"{int(failed.sum())} longer trainings failed." if failed.any() else "",
        compute_sentence(audit.trainings[audit.trainings["fresh"]]),
    ]
    return " ".join(filter(None, sentences))


def _drawn(row: Row, target: Quantity) -> bool:
    return bool(row["kind"] == "proxy" and row["by"] == target.key)


def _sentence(audit: Audit, row: Row, target: Quantity) -> str:
    top = f", within the best third {_interval(row, 'top')}" if row["top_n"] else ""
    return (
        f"After {row['ranked_by']}: Kendall's τ-b {_interval(row, 'tau')} "
        f"({pluralize(row['n'], 'network')}){top}; the network chosen so lacks "
        f"{_regret(row['regret'], target)} to the best after {audit.longer_label}."
    )


def _beside(audit: Audit, rows: list[dict[Any, Any]]) -> str:
    told = [
        f"{_rivals(audit, row)} {_interval(row, 'tau') or 'not known'}"
        for row in rows
        if row["kind"] in ("seeds", "cost")
    ]
    return f"Beside it, τ between {'; '.join(told)}."


def _rivals(audit: Audit, row: Row) -> str:
    """What is compared in a row that is no short training."""
    rival = "" if row["kind"] == "seeds" else f" and {audit.longer_label}"
    return ranked_by(audit, row) + rival


def _interval(row: Row, key: str) -> str:
    """`0.62 [0.41, 0.79]`; nothing where it is not known."""
    middle, low, high = (_number(row.get(name)) for name in (key, f"{key}_low", f"{key}_high"))
    return f"{middle} [{low}, {high}]" if middle and low else middle


def _number(value: float | None) -> str:
    if value is None or np.isnan(value):
        return ""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", MINUS)


def _regret(value: float | None, target: Quantity) -> str:
    if value is None or np.isnan(value):
        return ""
    unit = {"%": " points", "": ""}.get(target.unit, f" {target.unit}")
    return f"{format_significant(value, 3)}{unit}" if value else "nothing"
