"""Trials of a study by arm; trials that several arms share are repeated for each of them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import ProposalRow
from partialnas.runs.ledger.study_meta import condition_of, stage_of


class _ArmProposal(NamedTuple):
    """What one proposal of an arm requests.

    `recipe` holds the arm's own recipe settings as JSON; `seed` is None for all seeds.
    """

    arm: str
    digest: str
    condition: str
    recipe: str
    seed: int | None


def load_arm_trials(folder: str | Path, *, stage: str = "") -> Trials:
    """Return one row per arm and seed, with the columns of `load`.

    Two arms that train the same network with the same recipe are trained once: the rows of these
    trials are repeated for both. Arms keep the order of the study's proposals.

    Args:
        folder: folder of the study.
        stage: later stage whose trials are returned; empty for those of the study itself.

    Raises:
        UserError: the folder holds no ledger.
        MachineError: the ledger is damaged.
    """
    folder = Path(folder)
    trials = load_trials(folder, stage=stage)
    frame = trials.frame
    with Ledger.open(folder) as ledger:
        proposals = [
            _arm_proposal(row)
            for row in ledger.proposals()
            if row.arm is not None and stage_of(row) == stage
        ]
    matching = _matching_rows(frame, proposals)
    pairs = [*dict.fromkeys((p.arm, row) for p in proposals for row in matching(p))]
    rows = frame.iloc[[row for _, row in pairs]].assign(arm=[arm for arm, _ in pairs])
    order = {arm: index for index, arm in enumerate(dict.fromkeys(arm for arm, _ in pairs))}
    position = rows["arm"].map(order)
    rows = rows.assign(_at=position).sort_values(["_at", "condition", "seed"], kind="stable")
    return trials.with_frame(rows.drop(columns="_at").reset_index(drop=True))


def _arm_proposal(row: ProposalRow) -> _ArmProposal:
    recipe = json.dumps(row.proposal.get("recipe", {}), sort_keys=True)
    seed = row.proposal.get("seed")
    return _ArmProposal(str(row.arm), row.digest, condition_of(row), recipe, seed)


def _matching_rows(
    frame: pd.DataFrame, proposals: Sequence[_ArmProposal]
) -> Callable[[_ArmProposal], list[int]]:
    """Return the function that finds the positions of a proposal's trials in the frame."""
    recipes = {proposal.arm: proposal.recipe for proposal in proposals}
    rows: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    trials = zip(frame["digest"], frame["condition"], frame["arm"], frame["seed"], strict=True)
    for row, (digest, condition, arm, seed) in enumerate(trials):
        rows.setdefault((digest, condition, recipes.get(arm, "")), []).append((row, seed))

    def matching(proposal: _ArmProposal) -> list[int]:
        candidates = rows.get((proposal.digest, proposal.condition, proposal.recipe), [])
        return [row for row, seed in candidates if proposal.seed in (None, seed)]

    return matching
