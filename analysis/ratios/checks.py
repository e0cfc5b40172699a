"""What a study must have before its learned ratios can be looked at."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from partialnas.analysis.frames.seed_means import FAILED_STATES
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import parse_subject
from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError

_MOST_NAMED = 5


def require_ratios(
    folder: Path, frame: pd.DataFrame, table: pd.DataFrame, trial: int | None
) -> None:
    """Refuses a study, or a trial of it, that has no learned ratios; tells what has some.

    Args:
        folder: of the study.
        frame: its trials, as `load` gives them.
        table: their ratios, as `load_ratios` gives them.
        trial: number of the one that is asked for; any without.

    Raises:
        UserError: always, for such a study.
    """
    with Ledger.open(folder) as ledger:
        if trial is not None:
            ledger.trial(trial)
        learning = {r.digest for r in ledger.proposals() if _learns(r.subject)}
    if not learning:
        raise UserError(
            f"{folder}: no network of this study learns its ratios (DPConv); give an arm, or the "
            "base of a search, `ratio: {learned: {budget: 1/4}}`"
        )
    known = sorted(table["trial"].unique().tolist())
    if trial in known or (trial is None and known):
        return
    learners = frame[frame["digest"].isin(learning)]
    if trial is not None:
        other = f"trials with ratios: {_numbers(known)}" if known else "no trial has ratios yet"
        raise UserError(f"{folder}:{trial}: {_why(frame, learners, trial)}; {other}")
    raise UserError(f"{folder}: no trial has learned ratios to show; {_states(learners)}")


def _learns(subject: object) -> bool:
    architecture = parse_subject(subject)
    return isinstance(architecture, Architecture) and bool(architecture.boundaries)


def _why(frame: pd.DataFrame, learners: pd.DataFrame, trial: int) -> str:
    """Why one trial has no ratios."""
    row = frame.set_index("trial").loc[trial]
    if trial not in learners["trial"].to_numpy():
        return f"{row['series']} has static ratios, so that this trial learned none"
    if row["state"] in ("planned", "running"):
        return f"this trial is {row['state']}; its ratios are known when it ends"
    if row["state"] in FAILED_STATES:
        return f"this trial is {row['state']} before its first epoch ended ({row['reason']})"
    return "this trial recorded none, as one of a study's own trial function does"


def _states(learners: pd.DataFrame) -> str:
    counts = learners["state"].value_counts()
    told = ", ".join(f"{n} {state}" for state, n in counts.items()) or "none planned yet"
    if learners["state"].isin(["planned", "running"]).any() or learners.empty:
        advice = "they are known when the first of these trials ends; run the study again to go on"
    elif learners["state"].isin(FAILED_STATES).any():
        advice = f"most often: {learners['reason'].dropna().mode().iloc[0]}"
    else:
        advice = "a study's own trial function records none"
    return f"trials that learn: {told} ({advice})"


def _numbers(trials: Iterable[int]) -> str:
    listed = [f"#{number}" for number in trials]
    more = ", ..." if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more
