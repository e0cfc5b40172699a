"""Levels that were chosen for each architecture, on the axes of a space or of a design."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.settings import axis_points
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import UserError

ABSENT = "–"
"""Level of an axis that does not apply to an architecture."""


def load_axis_levels(folders: Sequence[Path], rows: pd.DataFrame) -> pd.DataFrame:
    """Return the levels of architectures, one column per axis that varies among them.

    In a search they are the point that the sampler proposed, in an ablation the levels of the arm.
    Rows without either, such as baselines of a search, are left out.

    Args:
        folders: folders of the studies.
        rows: one row per architecture, with `folder`, `trial` and `arm`; the index is kept.

    Raises:
        UserError: no axes are recorded, or none varies.
    """
    levels = pd.concat(
        [
            _study_levels(folder, rows[rows["folder"].eq(str(folder))])
            for folder in dict.fromkeys(folders)
        ]
    )
    levels = levels.loc[:, levels.nunique() > 1]
    if levels.empty or not len(levels.columns):
        raise UserError(
            "no axis varies: these architectures are named arms without levels, or all have the "
            "same levels"
        )
    return levels.fillna(ABSENT)


def _study_levels(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    with Ledger.open(folder) as ledger:
        points = dict(zip(rows.index, axis_points(ledger, rows), strict=True))
    recorded = {index: point for index, point in points.items() if point}
    return pd.DataFrame.from_dict(recorded, orient="index").map(_text)


def _text(level: Any) -> Any:
    if isinstance(level, bool):
        return "on" if level else "off"
    return level if pd.isna(level) else str(level)


def sort_levels(levels: "pd.Series[str]") -> list[str]:
    """Return the levels of an axis: numbers by size, then words by alphabet, then `ABSENT`."""
    return sorted(levels.unique(), key=_rank)


def is_ordered(levels: "pd.Series[str]") -> bool:
    """Return whether an axis has at least two levels that are numbers, apart from `ABSENT`."""
    ranks = {level: _rank(level)[0] for level in levels.unique() if level != ABSENT}
    return len(ranks) > 1 and not any(ranks.values())


def _rank(level: str) -> tuple[int, float, str]:
    if level == ABSENT:
        return 2, 0.0, ""
    try:
        return 0, float(Fraction(level)), level
    except (ValueError, ZeroDivisionError):
        return 1, 0.0, level


def encode_levels(chosen: pd.DataFrame) -> pd.DataFrame:
    """Return the levels as integers from 0, in the order of `sort_levels`."""
    codes: pd.DataFrame = chosen.apply(
        lambda axis: axis.map({v: i for i, v in enumerate(sort_levels(axis))})
    )
    return codes
