"""What was chosen for each architecture: its level on every axis of the space or of a design."""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import ProposalRow
from partialnas.space.errors import UserError

ABSENT = "–"
"""The level of an axis that an architecture has no use for."""


def load_axis_levels(folders: Sequence[Path], rows: pd.DataFrame) -> pd.DataFrame:
    """The levels of architectures, a column per axis that varies among them.

    Of a search they are what its source noted with a proposal, of an ablation the levels of the
    arm. Rows of which neither is known, as baselines beside a search, are left out.

    Args:
        folders: of the studies.
        rows: one per architecture, with `folder` and `trial`; the index is kept.

    Raises:
        UserError: no axes are known, or none varies.
    """
    parts = []
    for folder in dict.fromkeys(folders):
        own = rows[rows["folder"].eq(str(folder))]
        parts.append(_of_study(folder, own))
    found = pd.concat(parts)
    found = found.loc[:, found.nunique() > 1]
    if found.empty or not len(found.columns):
        raise UserError(
            "no axis varies: these architectures were proposed without choices (named arms alone), "
            "or all have the same"
        )
    return found.fillna(ABSENT)


def _of_study(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    with Ledger.open(folder) as ledger:
        design = ledger.study.design
        proposal = {trial.number: trial.proposal for trial in ledger.trials()}
        wanted = {proposal[number] for number in rows["trial"]}
        noted = _points(ledger.proposals(), wanted)
    levels = {arm.name: dict(arm.levels) for arm in design.arms} if design else {}
    told = {
        index: levels.get(arm) or noted.get(proposal[number], {})
        for index, number, arm in zip(rows.index, rows["trial"], rows["arm"], strict=True)
    }
    known = {index: point for index, point in told.items() if point}
    return pd.DataFrame.from_dict(known, orient="index").map(_text)


def _points(proposals: Sequence[ProposalRow], wanted: set[int]) -> dict[int, dict[str, Any]]:
    """The points of proposals by number; of a promotion to a rung that of the same network."""
    own = {row.number: row for row in proposals if row.number in wanted}
    points = {number: _noted(row) for number, row in own.items()}
    digests = {own[number].digest for number, point in points.items() if not point}
    first: dict[str, dict[str, Any]] = {}
    for row in proposals:
        if row.digest in digests and row.digest not in first and (point := _noted(row)):
            first[row.digest] = point
    return {number: point or first.get(own[number].digest, {}) for number, point in points.items()}


def _noted(row: ProposalRow) -> dict[str, Any]:
    """The point that a source noted with a proposal."""
    note = json.loads(row.proposal_json)
    for key in ("params", "point"):
        if isinstance(note.get(key), dict):
            return dict(note[key])
    return {}


def _text(level: Any) -> Any:
    if isinstance(level, bool):
        return "on" if level else "off"
    return level if pd.isna(level) else str(level)


def sort_levels(levels: "pd.Series[str]") -> list[str]:
    """The levels of an axis: numbers by size, others by the alphabet, the absent one last."""
    return sorted(levels.unique(), key=_rank)


def _rank(level: str) -> tuple[int, float, str]:
    if level == ABSENT:
        return 2, 0.0, ""
    try:
        return 0, float(Fraction(level)), level
    except (ValueError, ZeroDivisionError):
        return 1, 0.0, level


def encode_levels(chosen: pd.DataFrame) -> pd.DataFrame:
    """The levels as whole numbers from 0, in their order."""
    coded: pd.DataFrame = chosen.apply(
        lambda axis: axis.map({v: i for i, v in enumerate(sort_levels(axis))})
    )
    return coded
