"""The trials of each arm of a study, those that arms share under every one of them."""

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from partialnas.analysis.load import load
from partialnas.runs.conditions import condition_of, stage_of
from partialnas.runs.ledger import Ledger
from partialnas.runs.ledger_rows import ProposalRow


class _Asked(NamedTuple):
    """What one proposal of an arm asked for.

    `recipe` are its settings in the study's place, as text; `seed` is None for all seeds.
    """

    arm: str
    digest: str
    condition: str
    recipe: str
    seed: int | None


def by_arm(folder: str | Path, *, stage: str = "") -> pd.DataFrame:
    """One row per arm and seed, with the columns of `load`.

    Two arms that train the same network alike are trained once: their trials stand here under both.
    Arms keep the order in which the study asked for them.

    Args:
        folder: the study's.
        stage: the later stage whose trials are wanted; without one those of the study itself.

    Raises:
        UserError: no ledger here.
        MachineError: it is damaged.
    """
    folder = Path(folder)
    frame = load(folder, stage=stage)
    with Ledger.open(folder) as ledger:
        asked = [
            _asked(row)
            for row in ledger.proposals()
            if row.arm is not None and stage_of(row) == stage
        ]
    trained = frame["arm"].map({each.arm: each.recipe for each in asked})
    parts = [frame[_answers(frame, trained, each)].assign(arm=each.arm) for each in asked]
    rows = pd.concat(parts) if parts else frame.iloc[:0]
    order = {each.arm: index for index, each in reversed([*enumerate(asked)])}
    rows = rows.drop_duplicates(["arm", "condition", "seed"])
    position = rows["arm"].map(order)
    rows = rows.assign(_at=position).sort_values(["_at", "condition", "seed"], kind="stable")
    rows = rows.drop(columns="_at").reset_index(drop=True)
    rows.attrs = frame.attrs
    return rows


def _asked(row: ProposalRow) -> _Asked:
    recipe = json.dumps(row.proposal.get("recipe", {}), sort_keys=True)
    return _Asked(str(row.arm), row.digest, condition_of(row), recipe, row.proposal.get("seed"))


def _answers(frame: pd.DataFrame, trained: "pd.Series[str]", asked: _Asked) -> "pd.Series[bool]":
    """Which trials answer a proposal."""
    answers = frame["digest"].eq(asked.digest) & frame["condition"].eq(asked.condition)
    answers &= trained.eq(asked.recipe)
    return answers if asked.seed is None else answers & frame["seed"].eq(asked.seed)
