"""Sentences that several captions share."""

import pandas as pd

from partialnas.analysis.frames.seed_means import FAILED_STATES
from partialnas.runs.ledger.study_meta import DRY_RUN_NOTICE, is_dry_run

_SECONDS_PER_HOUR = 3600


def compute_sentence(frame: pd.DataFrame) -> str:
    """How much training the trials took, failed ones included; of a rehearsal a notice."""
    if any(map(is_dry_run, frame["study"].unique())):
        return DRY_RUN_NOTICE
    failed = frame["state"].isin(FAILED_STATES)
    hours = frame["seconds"].sum() / _SECONDS_PER_HOUR
    lost = frame.loc[failed, "seconds"].sum() / _SECONDS_PER_HOUR
    devices = ", ".join(sorted(filter(None, frame["trained_on"].dropna().unique())))
    place = f" on {devices}" if devices else ""
    part = f", of which {failed.sum()} failed ({lost:.2g} h)" if failed.any() else "; none failed"
    return f"Compute: {pluralize(len(frame), 'trial')}, {hours:.2g} h of training{place}{part}."


def training_description(table: pd.DataFrame) -> str:
    """On what, and for how long, the networks of a table were trained."""
    settings = table[["data", "full_fidelity"]].drop_duplicates().to_dict("records")
    return " and ".join(
        f"{hide_path(str(s['data']))} for {pluralize(s['full_fidelity'], 'epoch')}"
        for s in settings
    )


def hide_path(data: str) -> str:
    """A data set without where it lies: `folder:/home/me/birds` as `folder:…/birds`."""
    kind, colon, path = data.partition(":")
    return f"{kind}:…/{path.rstrip('/').rpartition('/')[2]}" if colon else data


def pluralize(number: int, noun: str) -> str:
    """A number of things, as `1 trial` or `1,200 trials`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
