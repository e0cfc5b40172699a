"""Printed tables and captions of audits."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.audit.audit import Audit
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import compute_sentence, pluralize
from partialnas.analysis.formats.text_table import MINUS, format_interval
from partialnas.analysis.frames.seed_means import FAILED_STATES
from partialnas.analysis.stats.rank_correlation import NUM_RESAMPLES
from partialnas.analysis.stats.rank_intervals import SeedNoise
from partialnas.runs.config.quantities import (
    QUANTITIES,
    Quantity,
    format_significant,
    name_in_sentence,
)
from partialnas.space.validation import join_words

Row = Mapping[Any, Any]


def format_agreement(audit: Audit, table: pd.DataFrame, target: Quantity) -> pd.DataFrame:
    """Return the agreement of each ranking with the target after longer training, as texts."""
    rows = table[table["target"].eq(target.key)].to_dict("records")
    top = max(row["top_n"] for row in rows)
    texts = {
        f"{target.label} after {audit.longer_label}, ranked by": [
            ranked_by(audit, row) for row in rows
        ],
        "Networks": [f"{row['n']}" for row in rows],
        "τ [95 %]": [_interval(row, "tau") for row in rows],
        f"τ in the best third (n = {top})": [_interval(row, "top") for row in rows],
        "τ of single runs": [_number(row.get("single")) for row in rows],
        "Regret": [_regret(row.get("regret"), target) for row in rows],
        "Gain in τ over MACs alone": [_interval(row, "over_macs") for row in rows],
    }
    return pd.DataFrame(texts)


def ranked_by(audit: Audit, row: Row) -> str:
    """Return the ranking of a row of `proxy_agreement` in words."""
    if row["kind"] == "proxy":
        return f"{row['by']} after {row['ranked_by']}"
    if row["kind"] == "seeds":
        ceiling = "" if row["ranked_by"] == audit.longer_label else " (ceiling)"
        return f"two seeds of {row['ranked_by']}{ceiling}"
    return str(row["ranked_by"])


def format_ranks(table: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    """Return the ranks of the front and the best networks, and their possible ranks, as texts."""
    return pd.DataFrame(
        {
            "": table["network"],
            "Front": ["yes" if on_front else "" for on_front in table["on_front"]],
            quantity.label: [quantity.text(value) for value in table["value"]],
            "Seeds": table["n"].astype(str),
            "Rank": table["rank"].astype(str),
            "Possible ranks": [_range(row) for row in table.to_dict("records")],
        }
    )


def _range(row: Row) -> str:
    if row["rank_low"] is pd.NA:
        return "unknown"
    return f"{row['rank_low']} to {row['rank_high']} of {row['of']}"


def rank_note(
    table: pd.DataFrame, between_seeds: SeedNoise, quantity: Quantity, work: str = "training"
) -> str:
    """Return a note on how to read the ranks; `work` is what trials do (see `Audit.work`)."""
    if not between_seeds.degrees:
        return (
            f"No network has two seeds of the study's {work}, so the noise between seeds is "
            "unknown, and it is unknown which ranks are resolved."
        )
    unresolved = table["rank_low"].ne(table["rank_high"])
    best = table[table["rank_low"].le(1)]
    deviation = format_significant(between_seeds.deviation, 3)
    name = name_in_sentence(quantity.key)
    return (
        f"Ranks by short {work}: {int(unresolved.sum())} of these {len(table)} are not resolved; "
        f"{pluralize(len(best), 'network')} could be the best. Possible ranks: 95 % confidence "
        f"set, from a standard deviation between seeds of {deviation} in {name}, pooled "
        "over networks without the variation that seeds share "
        f"({pluralize(between_seeds.degrees, 'degree')} of freedom), and Dunnett's critical value "
        "for the comparisons of one network with all others."
    )


def audit_caption(audit: Audit, table: pd.DataFrame) -> Caption:
    """Return the caption of an audit's figure, with the facts that paper checklists ask for."""
    target = audit.quantity
    rows = table[table["target"].eq(target.key)].to_dict("records")
    longer = audit.trials[audit.trials["longer"]]
    failed = int(longer["state"].isin(FAILED_STATES).sum())
    study = audit.study.frame["study"].iloc[0]
    seeds = len(audit.stage.seeds)
    shown = [row for row in rows if row["kind"] == "proxy" and row["by"] == target.key]
    verb = "train" if audit.work == "training" else "evaluate"
    names = join_words([*(f"after {row['ranked_by']}" for row in shown)]) if shown else ""
    brief = [
        f"{target.label} of networks of {study} after short {audit.work}, against "
        f"{audit.longer_label} ({_with_names(audit.stage.chosen)}).",
        f"Rings: the network selected {names}." if names else "",
        *(_proxy_sentence(audit, row, target) for row in shown),
        "Bars: one standard deviation (n − 1) over seeds." if _has_bars(audit) else "",
    ]
    details = [
        _comparison_sentence(audit, rows),
        f"Intervals: 95 % percentile bootstrap over networks ({NUM_RESAMPLES:,} resamples). The "
        f"best third is that of the longer {audit.work}, the same for every ranking.",
        f"Points: means over seeds ({seeds} for the longer {audit.work}; for short {audit.work} "
        f"those of the study, or of the audit for networks that the study did not {verb}).",
        "Regret is relative to the best mean of the sample, which is partly due to chance.",
        f"{pluralize(failed, 'trial')} of longer {audit.work} failed." if failed else "",
        compute_sentence(audit.trials[audit.trials["fresh"]]),
    ]
    return Caption(brief, details)


def _with_names(text: str) -> str:
    """Return a recorded text with the names of quantities in the place of their keys."""
    keys = "|".join(re.escape(key) for key in QUANTITIES)
    return re.sub(rf"\b({keys})\b", lambda match: name_in_sentence(match[1]), text)


def _has_bars(audit: Audit) -> bool:
    """Return whether any network has several seeds at one fidelity."""
    seeds = audit.trials.groupby(["digest", "longer"])["seed"].nunique()
    return bool(len(audit.stage.seeds) > 1 or seeds.gt(1).any())


def _proxy_sentence(audit: Audit, row: Row, target: Quantity) -> str:
    top = f", within the best third {_interval(row, 'top')}" if row["top_n"] else ""
    return (
        f"After {row['ranked_by']}: Kendall's τ-b {_interval(row, 'tau')} "
        f"({pluralize(row['n'], 'network')}){top}; regret of the network selected this way "
        f"{_regret(row['regret'], target)} after {audit.longer_label}."
    )


def _comparison_sentence(audit: Audit, rows: list[dict[Any, Any]]) -> str:
    """Return the agreement of seeds and of costs, to compare short training with."""
    texts = []
    for row in rows:
        if row["kind"] in ("seeds", "cost"):
            target = f" and {audit.longer_label}" if row["kind"] == "cost" else ""
            tau = _interval(row, "tau") or "unknown"
            texts.append(f"{ranked_by(audit, row)}{target} {tau}")
    return f"For comparison, τ between {'; '.join(texts)}."


def _interval(row: Row, key: str) -> str:
    """Return tau with its interval, such as `0.62 [0.41, 0.79]`, or "" if unavailable."""
    return format_interval(*(_number(row.get(name)) for name in (key, f"{key}_low", f"{key}_high")))


def _number(value: float | None) -> str:
    if value is None or np.isnan(value):
        return ""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", MINUS)


def _regret(value: float | None, target: Quantity) -> str:
    if value is None or np.isnan(value):
        return ""
    unit = {"%": " points", "": ""}.get(target.unit, f" {target.unit}")
    return f"{format_significant(value, 3)}{unit}" if value else "none"
