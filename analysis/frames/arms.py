"""The trials of each arm of a study, those that arms share under every one of them."""

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import ProposalRow
from partialnas.runs.ledger.study_meta import condition_of, stage_of


class _Asked(NamedTuple):
    """What one proposal of an arm asked for.

    `recipe` are its settings in the study's place, as text; `seed` is None for all seeds.
    """

    arm: str
    digest: str
    condition: str
    recipe: str
    seed: int | None


def load_arm_trials(folder: str | Path, *, stage: str = "") -> Trials:
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
    trials = load_trials(folder, stage=stage)
    frame = trials.frame
    with Ledger.open(folder) as ledger:
        asked = [
            _asked(row)
            for row in ledger.proposals()
            if row.arm is not None and stage_of(row) == stage
        ]
    answers = _Answers(frame, {each.arm: each.recipe for each in asked})
    taken = {
        (each.arm, row): each.arm for each in asked for row in answers.to(each)
    }  # by arm and row, each once
    rows = frame.iloc[[row for _, row in taken]].assign(arm=[*taken.values()])
    order = {arm: index for index, arm in enumerate(dict.fromkeys(taken.values()))}
    position = rows["arm"].map(order)
    rows = rows.assign(_at=position).sort_values(["_at", "condition", "seed"], kind="stable")
    return trials.with_frame(rows.drop(columns="_at").reset_index(drop=True))


def _asked(row: ProposalRow) -> _Asked:
    recipe = json.dumps(row.proposal.get("recipe", {}), sort_keys=True)
    return _Asked(str(row.arm), row.digest, condition_of(row), recipe, row.proposal.get("seed"))


class _Answers:
    """Which rows of a table of trials answer the proposals of arms."""

    def __init__(self, frame: pd.DataFrame, recipes: dict[str, str]) -> None:
        self._rows: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        known = zip(frame["digest"], frame["condition"], frame["arm"], frame["seed"], strict=True)
        for row, (digest, condition, arm, seed) in enumerate(known):
            trained = (digest, condition, recipes.get(arm, ""))
            self._rows.setdefault(trained, []).append((row, seed))

    def to(self, asked: _Asked) -> list[int]:
        """Positions of the rows that answer a proposal."""
        rows = self._rows.get((asked.digest, asked.condition, asked.recipe), [])
        return [row for row, seed in rows if asked.seed in (None, seed)]
