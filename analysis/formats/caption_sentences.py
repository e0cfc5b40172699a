"""Sentences and words that several captions share."""

from collections.abc import Sequence

import pandas as pd

from partialnas.analysis.frames.seed_means import FAILED_STATES
from partialnas.runs.ledger.study_meta import DRY_RUN_NOTICE, is_dry_run

_SECONDS_PER_HOUR = 3600
_MAX_LISTED = 8


def compute_sentence(frame: pd.DataFrame) -> str:
    """Return the time that the trials took, failed ones included; for a dry run a notice."""
    if any(map(is_dry_run, frame["study"].unique())):
        return DRY_RUN_NOTICE
    failed = frame["state"].isin(FAILED_STATES)
    hours = frame["seconds"].sum() / _SECONDS_PER_HOUR
    lost = frame.loc[failed, "seconds"].sum() / _SECONDS_PER_HOUR
    devices = ", ".join(sorted(filter(None, frame["trained_on"].dropna().unique())))
    location = f" on {devices}" if devices else ""
    failures = f"; {failed.sum()} failed ({lost:.2g} h)" if failed.any() else "; none failed"
    trials = pluralize(len(frame), "trial")
    return f"Compute: {trials}, {hours:.2g} h of {kind_of_work(frame)}{location}{failures}."


def kind_of_work(frame: pd.DataFrame) -> str:
    """Return what trials spent their time on: training, or calls of a study's own function."""
    called = _functions(frame).ne("")
    return " and ".join(["training"] * (not called.all()) + ["function calls"] * bool(called.any()))


def evaluation_phrase(table: pd.DataFrame) -> str:
    """Return how the networks of a table were evaluated, as a participle.

    Such as `trained on digits for 2 epochs`, or, for a study with a function of its own,
    `evaluated by bench:accuracy with epochs = 2`.
    """
    functions = _functions(table)
    trained, called = table[functions.eq("")], table.assign(function=functions)[functions.ne("")]
    settings = trained[["data", "full_fidelity"]].drop_duplicates().itertuples(index=False)
    data = [f"{hide_path(str(data))} for {pluralize(n, 'epoch')}" for data, n in settings]
    calls = called[["function", "full_fidelity"]].drop_duplicates().itertuples(index=False)
    parts = [f"trained on {' and '.join(data)}"] if data else []
    parts += [f"evaluated by {function} with epochs = {epochs}" for function, epochs in calls]
    return " and ".join(parts)


def _functions(table: pd.DataFrame) -> "pd.Series[str]":
    """Return the function that evaluated each row, empty for rows that were trained."""
    if "function" not in table:
        return pd.Series("", index=table.index, dtype=object)
    return table["function"].fillna("")


def hide_path(data: str) -> str:
    """Return the name of a data set without its location: `folder:…/birds`."""
    kind, colon, path = data.partition(":")
    return f"{kind}:…/{path.rstrip('/').rpartition('/')[2]}" if colon else data


def pluralize(number: int, noun: str, plural: str = "") -> str:
    """Return a number with a noun, such as `1 trial` or `1,200 trials`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def count_seeds(seeds: int, **counts: int) -> str:
    """Return a number of seeds with remarks, such as `3` or `3 (1 failed, 2 warned)`."""
    remarks = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    return f"{seeds} ({remarks})" if remarks else f"{seeds}"


def enumerate_names(names: Sequence[str], max_names: int = _MAX_LISTED) -> str:
    """Return the distinct names as a list, with the number of those beyond `max_names`."""
    distinct = [*dict.fromkeys(names)]
    more = len(distinct) - max_names
    separator = "; " if any(", " in name for name in distinct) else ", "
    return separator.join(distinct[:max_names]) + (f" and {more} more" if more > 0 else "")
