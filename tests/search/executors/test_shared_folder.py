"""A ledger on a local disk, with checkpoints and weights in a shared folder."""

from pathlib import Path
from typing import Any

import pytest

from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.system.files import TrialWeights, weights_path
from partialnas.runs.trials.checkpoint import load_weights
from partialnas.search.executors.cluster_files import shared_folder
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network

BASE: dict[str, Any] = {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16}


def study(shared: Path | None, arms: tuple[str, ...] = ("one",)) -> Study:
    return Study.model_validate(
        {
            "study": "shared",
            "task": {"data": "digits"},
            "base": BASE,
            "arms": {name: {"mlp_ratio": number} for number, name in enumerate(arms, start=1)},
            "recipe": {"use": "short", "epochs": 1, "keep_weights": "all"},
            "objectives": {"val_nll": "min"},
            "measure": {"batch_size": 4, "max_seconds": 0.1},
            "executor": {"kind": "in-process", "shared": shared and str(shared)},
            "seeds": 1,
        }
    )


def test_weights_in_the_shared_folder_are_reachable_from_the_study_folder(tmp_path: Path) -> None:
    out, shared = tmp_path / "out", tmp_path / "mounted"
    for arms in (("one",), ("one", "two")):
        run_study(study(shared, arms), out)
    with Ledger.open(out) as ledger:
        keys = [row.key for row in ledger.trials() if row.state == "done"]
    assert len(keys) == 2
    (place,) = shared.iterdir()
    assert {path.stem for path in (place / "weights").iterdir()} == set(keys)
    assert not (place / "ledger.sqlite").exists()
    assert not (out / "ledger.sqlite").is_symlink()
    architecture = Plan.model_validate({**BASE, "mlp_ratio": 1}).architecture()
    trained = TrialWeights(weights_path(out, keys[0]), keys[0], None, "cpu")
    load_weights(trained, Network(architecture, 1, 10), load_splits(resolve_task("digits")))


def test_studies_of_the_same_name_have_separate_shared_folders(tmp_path: Path) -> None:
    places = []
    for parent in ("a", "b", "a"):
        (tmp_path / parent / "out").mkdir(parents=True, exist_ok=True)
        places.append(shared_folder(tmp_path / parent / "out", str(tmp_path / "mounted")))
    assert places[0] == places[2] != places[1]


def test_a_study_started_without_a_shared_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out" / "weights").mkdir(parents=True)
    with pytest.raises(UserError, match="was started without a shared folder"):
        shared_folder(tmp_path / "out", str(tmp_path / "mounted"))
    assert shared_folder(tmp_path / "out", None) == (tmp_path / "out").resolve()
