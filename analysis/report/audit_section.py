"""What the report tells of a study's audits: ranks that stay open, and agreement of rankings."""

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
from partialnas.analysis.stats.rank_intervals import SeedNoise
from partialnas.analysis.frames.trials import Trials
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.space.errors import UserError

UNRESOLVED_MARK = "≈"
"""Stands before a rank that short training does not tell from others."""

_MARKED = (
    f"{UNRESOLVED_MARK} before a rank: short training does not resolve it; in brackets the ranks that the "
    "network could have. "
)


@dataclass(frozen=True, kw_only=True)
class ProxyRanks:
    """The ranks of a study's networks by short training, and which they could have.

    Attributes:
        header: of a column of them.
        table: of all networks, as `analysis.audit.ranks` gives it, by what they are called.
        audit: that they are of.
        between_seeds: the deviation that decides which ranks can be told apart.
    """

    header: str
    table: pd.DataFrame
    audit: Audit
    between_seeds: SeedNoise

    def texts(self, networks: Iterable[str]) -> list[str]:
        """The rank of each network, marked where it stays open; nothing where it has none."""
        rows = self.table.to_dict("index")
        return [_rank(rows[name]) if name in rows else "" for name in networks]

    def note(self, networks: Iterable[str]) -> str:
        """How to read the ranks of these networks."""
        shown = self.table[self.table.index.isin([*networks])]
        told = rank_note(shown, self.between_seeds, self.audit.quantity)
        return (_MARKED if self.between_seeds.degrees else "") + told

    def count_unresolved(self, networks: Iterable[str]) -> int:
        """How many of these networks could have another rank."""
        shown = self.table[self.table.index.isin([*networks])]
        return int(shown["rank_low"].ne(shown["rank_high"]).sum())


@dataclass(frozen=True, kw_only=True)
class AuditSection:
    """The latest audit of a study under one condition.

    Attributes:
        condition: of the study; empty where it has none.
        heading: of its part.
        message: why there is nothing to show; empty where there is.
        sheets: how well rankings agree with longer training, one for each quantity.
        caption: what a checklist asks of them.
        ranks: that short training gives, those that stay open marked.
    """

    condition: str
    heading: str
    message: str = ""
    sheets: list[TextTable] = field(default_factory=list)
    caption: str = ""
    ranks: ProxyRanks | None = None


def audit_stages(study: RecordedStudy) -> set[str]:
    """The stages of a study that belong to its audits."""
    longer = study.longer_audit_stages
    conditions = {stage.condition for stage in longer.values()}
    repeats = {way.stage for each in conditions for way in study.fidelities(each)}
    return {*longer} | repeats


def audit_sections(
    folder: Path, study: RecordedStudy, trials: Trials
) -> list[AuditSection]:
    """The latest audit under each condition that has one.

    Args:
        folder: of the study.
        study: as its ledger records it.
        trials: its trials of all stages.
    """
    latest = {stage.condition: name for name, stage in study.longer_audit_stages.items()}
    return [_view(folder, study, trials, *each) for each in latest.items()]


def _view(
    folder: Path, study: RecordedStudy, trials: Trials, condition: str, stage: str
) -> AuditSection:
    heading = one_line(f"Short training under {condition}" if condition else "Short training")
    try:
        audit = audit_from_trials(folder, study, trials, stage)
    except UserError as error:  # an audit that has only begun is no mistake of the reader's
        message = str(error).removeprefix(f"{folder}: ").capitalize()
        return AuditSection(condition=condition, heading=heading, message=message)
    agreed = proxy_agreement(audit)
    table = network_ranks(audit, max_rank=len(audit.study.frame)).set_index("network")
    head = f"Rank by {audit.quantity.name}"
    return AuditSection(
        condition=condition,
        heading=heading,
        sheets=[_agreement(audit, agreed, target.key) for target in audit.quantities],
        caption=audit_caption(audit, agreed),
        ranks=ProxyRanks(header=head, table=table, audit=audit, between_seeds=seed_noise(audit)),
    )


def _agreement(audit: Audit, agreed: pd.DataFrame, key: str) -> TextTable:
    target = next(each for each in audit.quantities if each.key == key)
    texts = format_agreement(audit, agreed, target)
    heads = ["Ranked by", *map(str, texts.columns[1:])]
    name = f"Agreement with {target.label} after {audit.longer_label}"
    return table_from_rows(name, heads, texts.to_numpy().tolist(), "t".ljust(len(heads), "n"))


def _rank(row: Mapping[Any, Any]) -> str:
    if row["rank_low"] is pd.NA or row["rank_low"] == row["rank_high"]:
        return f"{row['rank']}"
    return f"{UNRESOLVED_MARK}{row['rank']} ({row['rank_low']} to {row['rank_high']})"
