"""Ledgers of studies whose images an earlier version of the reader read differently."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from partialnas.analysis import load
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.session.run_study import rehearse_study
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError


def paint(folder: Path, mode: str) -> None:
    for number in range(20):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new(mode, (8, 8), number).save(folder / "ab"[number % 2] / f"{number:02}.png")


def study(data: Path) -> Study:
    plain: dict[str, Any] = {
        "study": "images",
        "task": {"data": f"folder:{data}"},
        "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
        "arms": {"a": {}},
        "executor": {"kind": "in-process"},
    }
    return Study.model_validate(plain)


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_a_ledger_of_the_first_reader_continues_if_the_images_are_read_alike(
    mode: str, tmp_path: Path
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    paint(data, mode)
    rehearse_study(study(data), out)
    with Ledger.open(out, write=True) as ledger:
        task = json.loads(ledger.meta["task"])
        old = task | {"content": task["content"].removeprefix("v2-")}
        ledger.update_meta({"task": json.dumps(old)})
    assert len(load(out)) == 1
    if mode == "L":
        rehearse_study(study(data), out)
        assert resolve_task(f"folder:{data}").content == old["content"]
        return
    with pytest.raises(UserError, match=r"16-bit images are scaled instead of clipped"):
        rehearse_study(study(data), out)
    assert len(load(out)) == 1  # still readable
