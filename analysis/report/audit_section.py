"""The report's audit sections: unresolved ranks, and agreement of rankings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.audit.audit import (
    Audit,
    audit_from_trials,
    network_ranks,
    proxy_agreement,
    seed_noise,
)
from partialnas.analysis.audit.text import audit_caption, format_agreement, rank_note
from partialnas.analysis.formats.text_table import TextTable, one_line, table_from_rows
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.stats.rank_intervals import SeedNoise
from partialnas.runs.config.quantities import Quantity
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.space.errors import UserError

UNRESOLVED_MARK = "≈"
"""Mark of a rank that short training does not resolve."""

_MARK_NOTE = (
    f"{UNRESOLVED_MARK} marks a rank that short {{work}} does not resolve; the possible ranks are "
    "in parentheses. "
)


@dataclass(frozen=True, kw_only=True)
class ProxyRanks:
    """Ranks of a study's networks by short training, and the ranks that the noise leaves possible.

    Attributes:
        header: head of their column.
        table: rows of `network_ranks`, by network name.
        audit: the audit.
        between_seeds: standard deviation between seeds, which decides what is resolved.
    """

    header: str
    table: pd.DataFrame
    audit: Audit
    between_seeds: SeedNoise

    def texts(self, networks: Iterable[str]) -> list[str]:
        """Return the rank of each network, marked if unresolved, or empty if it has none."""
        rows = self.table.to_dict("index")
        return [_rank(rows[name]) if name in rows else "" for name in networks]

    def note(self, networks: Iterable[str]) -> str:
        """Return the explanation of these networks' ranks."""
        shown = self.table[self.table.index.isin([*networks])]
        note = rank_note(shown, self.between_seeds, self.audit.quantity, self.audit.work)
        mark = _MARK_NOTE.format(work=self.audit.work)
        return (mark if self.between_seeds.degrees else "") + note

    def count_unresolved(self, networks: Iterable[str]) -> int:
        """Return how many of these networks have an unresolved rank."""
        shown = self.table[self.table.index.isin([*networks])]
        return int(shown["rank_low"].ne(shown["rank_high"]).sum())


@dataclass(frozen=True, kw_only=True)
class AuditSection:
    """The latest audit of a study under one condition.

    Attributes:
        condition: the study's condition, or empty.
        heading: heading of the section.
        message: why there are no tables, or empty.
        sheets: agreement of each ranking with longer training, one table per quantity.
        caption: caption of the tables.
        ranks: ranks by short training.
    """

    condition: str
    heading: str
    message: str = ""
    sheets: list[TextTable] = field(default_factory=list)
    caption: str = ""
    ranks: ProxyRanks | None = None


def audit_stages(study: RecordedStudy) -> set[str]:
    """Return the stages of a study that belong to its audits."""
    longer = study.longer_audit_stages
    conditions = {stage.condition for stage in longer.values()}
    repeats = {way.stage for condition in conditions for way in study.fidelities(condition)}
    return {*longer} | repeats


def audit_sections(folder: Path, study: RecordedStudy, trials: Trials) -> list[AuditSection]:
    """Return the latest audit under each condition that has one.

    Args:
        folder: the study's folder.
        study: the recorded study.
        trials: trials of all stages.
    """
    latest = {stage.condition: name for name, stage in study.longer_audit_stages.items()}
    return [_section(folder, study, trials, *item) for item in latest.items()]


def _section(
    folder: Path, study: RecordedStudy, trials: Trials, condition: str, stage: str
) -> AuditSection:
    title = "Short evaluation" if study.frozen.get("trial") else "Short training"
    heading = one_line(f"{title} under {condition}" if condition else title)
    try:
        audit = audit_from_trials(folder, study, trials, stage)
    except UserError as error:  # the audit has too few finished trials yet
        message = str(error).removeprefix(f"{folder}: ").capitalize()
        return AuditSection(condition=condition, heading=heading, message=message)
    agreement = proxy_agreement(audit)
    ranks = network_ranks(audit, max_rank=len(audit.study.frame)).set_index("network")
    head = f"Rank by {audit.quantity.name}"
    return AuditSection(
        condition=condition,
        heading=heading,
        sheets=[_agreement(audit, agreement, target) for target in audit.quantities],
        caption=audit_caption(audit, agreement).text(),
        ranks=ProxyRanks(header=head, table=ranks, audit=audit, between_seeds=seed_noise(audit)),
    )


def _agreement(audit: Audit, agreement: pd.DataFrame, target: Quantity) -> TextTable:
    texts = format_agreement(audit, agreement, target)
    heads = ["Ranked by", *map(str, texts.columns[1:])]
    name = f"Agreement with {target.label} after {audit.longer_label}"
    return table_from_rows(name, heads, texts.to_numpy().tolist(), "t".ljust(len(heads), "n"))


def _rank(row: Mapping[Any, Any]) -> str:
    if row["rank_low"] is pd.NA or row["rank_low"] == row["rank_high"]:
        return f"{row['rank']}"
    return f"{UNRESOLVED_MARK}{row['rank']} ({row['rank_low']} to {row['rank_high']})"
