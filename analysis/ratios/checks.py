"""Check that a study has learned ratios to show."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from partialnas.analysis.frames.seed_means import FAILED_STATES
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import parse_subject
from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError

_MAX_LISTED = 5


def require_ratios(
    folder: Path, frame: pd.DataFrame, table: pd.DataFrame, trial: int | None
) -> None:
    """Check that a study, or one of its trials, has learned ratios.

    Args:
        folder: folder of the study.
        frame: trials of the study, as returned by `with_series`.
        table: ratios of the trials, as returned by `load_ratios`.
        trial: number of the trial, or None for any.

    Raises:
        UserError: there are no learned ratios; the message names the reason and, if possible,
            trials with ratios.
    """
    with Ledger.open(folder) as ledger:
        if trial is not None:
            ledger.trial(trial)
        learning = {r.digest for r in ledger.proposals() if _learns(r.subject)}
    if not learning:
        raise UserError(
            f"{folder}: no network of this study learns its ratios (DPConv); set "
            "`ratio: {learned: {budget: 1/4}}` for an arm or for the base of a search"
        )
    available = sorted(table["trial"].unique().tolist())
    if trial in available or (trial is None and available):
        return
    learners = frame[frame["digest"].isin(learning)]
    if trial is not None:
        others = f"trials with ratios: {_numbers(available)}" if available else "no trial has any"
        raise UserError(f"{folder}:{trial}: {_reason(frame, learners, trial)}; {others}")
    raise UserError(f"{folder}: no trial has learned ratios yet; {_states(learners)}")


def _learns(subject: object) -> bool:
    architecture = parse_subject(subject)
    return isinstance(architecture, Architecture) and bool(architecture.boundaries)


def _reason(frame: pd.DataFrame, learners: pd.DataFrame, trial: int) -> str:
    """Return the reason why a trial has no ratios."""
    row = frame.set_index("trial").loc[trial]
    if trial not in learners["trial"].to_numpy():
        return f"{row['series']} has static ratios, so this trial learned none"
    if row["state"] in ("planned", "running"):
        return f"this trial is {row['state']}; its ratios are recorded when it ends"
    if row["state"] in FAILED_STATES:
        return f"this trial is {row['state']} and completed no epoch ({row['reason']})"
    return "this trial has none, because a study's own trial function records no ratios"


def _states(learners: pd.DataFrame) -> str:
    counts = learners["state"].value_counts()
    states = ", ".join(f"{n} {state}" for state, n in counts.items()) or "none planned yet"
    if learners["state"].isin(["planned", "running"]).any() or learners.empty:
        advice = "ratios are recorded when a trial ends; run the study again to continue it"
    elif learners["state"].isin(FAILED_STATES).any():
        advice = f"most often: {learners['reason'].dropna().mode().iloc[0]}"
    else:
        advice = "a study's own trial function records no ratios"
    return f"trials of networks that learn: {states} ({advice})"


def _numbers(trials: Iterable[int]) -> str:
    listed = [f"#{number}" for number in trials]
    more = ", ..." if len(listed) > _MAX_LISTED else ""
    return ", ".join(listed[:_MAX_LISTED]) + more
