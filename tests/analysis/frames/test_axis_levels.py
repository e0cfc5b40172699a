"""Levels that were chosen for each architecture."""

from pathlib import Path

import pandas as pd

from partialnas.analysis.frames.axis_levels import load_axis_levels, sort_levels
from partialnas.runs.ledger.ledger import Ledger


def test_a_promoted_network_keeps_the_levels_of_its_first_proposal(tmp_path: Path) -> None:
    points = {"a" * 16: {"width": 8, "parts": 1}, "b" * 16: {"width": 16, "parts": 3}}
    with Ledger.create(tmp_path / "s", {"study": "s"}) as ledger:
        for fidelity, notes in ((1, {d: {"params": p} for d, p in points.items()}),
                                (4, {d: {"rung": 2} for d in points})):  # fmt: skip
            for digest, note in notes.items():
                number = ledger.add_proposal(None, digest, {}, note)
                keys = {0: f"{digest}{fidelity}"}
                ledger.plan(number, digest=digest, name="", fidelity=fidelity, keys=keys)
    folder = str(tmp_path / "s")
    rows = pd.DataFrame({"folder": folder, "trial": [3, 4], "arm": ""})
    levels = load_axis_levels([tmp_path / "s"], rows)
    assert levels.to_dict("records") == [
        {"width": "8", "parts": "1"}, {"width": "16", "parts": "3"},
    ]  # fmt: skip


def test_levels_are_sorted_by_size() -> None:
    levels = pd.Series(["1/2", "16", "1/8", "–", "none", "channel", "8"])
    assert sort_levels(levels) == ["1/8", "1/2", "8", "16", "channel", "none", "–"]
