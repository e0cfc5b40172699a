"""Audits of simulated studies: what is trained, once, and by which recipe."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from partialnas.analysis import load
from partialnas.analysis.audit.audit import load_audit
from partialnas.analysis.audit.sample import choose_sample
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import parse_subject
from partialnas.search.followup.audit import LongerTraining, audit
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError

HERE = Path(__file__).parents[1]

STUDY: dict[str, Any] = {
    "study": "audited",
    "task": {"data": "digits"},
    "recipe": {"epochs": 4},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [*range(4, 40, 2)], "pat_sp": [False, True]}},
    "search": {"sampler": "random"},
    "trial": "simulated:noisy",
    "objectives": {"val_nll": "min"},
    "budget": {"trials": 12},
    "executor": {"kind": "in-process"},
}


def searched(folder: Path, **changes: Any) -> Path:
    study = Study.model_validate({**STUDY, **changes})
    run_study(study, folder, base_dir=HERE, console=Console(file=StringIO()))
    return folder


def audited(folder: Path, size: int = 6, condition: str = "", **longer: Any) -> str:
    sample = choose_sample(folder, size, condition=condition)
    with Ledger.open(folder) as ledger:
        known = {row.digest: parse_subject(row.subject) for row in ledger.proposals()}
    chosen = {name: known[digest] for name, digest in sample.digests.items()}
    console = Console(file=StringIO())
    return audit(
        folder, chosen, longer=LongerTraining(**longer), selection=sample.description, condition=condition,
        base_dir=HERE, console=console,
    )  # fmt: skip


def trained(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """By stage the epochs and the seed of each training, in order."""
    frame = load(folder, stage=None)
    rows = zip(frame["stage"], frame["fidelity"], frame["seed"], strict=True)
    found: dict[str, list[tuple[int, int]]] = {}
    for stage, epochs, seed in rows:
        found.setdefault(stage, []).append((epochs, seed))
    return found


def test_a_sample_is_trained_longer_and_again(tmp_path: Path) -> None:
    folder = searched(tmp_path / "study")
    before = load(folder)
    assert audited(folder, length="4x") == "audit"
    found = trained(folder)
    assert found["audit"] == [(16, 20_000)] * 6 + [(16, 20_001)] * 6
    assert found["audit-proxy"] == [(4, 60_000)] * 6
    assert load(folder).equals(before)
    count = sum(map(len, found.values()))
    assert audited(folder, length="16") == "audit"  # the same, in other words
    assert sum(map(len, trained(folder).values())) == count
    assert audited(folder, size=8, length="4x", seeds=3, repeats=2) == "audit"
    found = trained(folder)
    assert {seed for _, seed in found["audit"]} == {20_000, 20_001, 20_002}
    assert len(found["audit"]) == 3 * len(load_audit(folder).networks)
    assert audited(folder, length="2x", repeats=0) == "audit-2"
    assert {epochs for epochs, _ in trained(folder)["audit-2"]} == {8}
    assert load_audit(folder).longer_label == "8 epochs"
    assert load_audit(folder, "audit").longer_label == "16 epochs"


def test_every_rung_is_trained_again_by_its_own_recipe(tmp_path: Path) -> None:
    search = {"sampler": "random", "rungs": [{"recipe.epochs": 1}, {"recipe.epochs": 2}]}
    folder = searched(tmp_path / "study", search=search, budget={"trials": 30})
    audited(folder, size=6, seeds=1)
    found = trained(folder)
    assert found["audit"] == [(16, 20_000)] * 6
    assert found["audit-proxy-rung-1"] == [(1, 60_000)] * 6
    assert found["audit-proxy-rung-2"] == [(2, 60_000)] * 6
    assert found["audit-proxy"] == [(4, 60_000)] * 6 + [(4, 60_001)] * 6
    again = load(folder, stage="audit-proxy-rung-1")
    assert set(again["state"]) == {"done"}
    assert [way.name for way in load_audit(folder).fidelities] == [
        "1 epoch",
        "2 epochs",
        "4 epochs",
    ]


def test_an_audit_under_a_condition_keeps_to_it(tmp_path: Path) -> None:
    arms = {f"w{width}": {"width": width} for width in (4, 8, 12, 16)}
    conditions = {"short": {}, "long": {"recipe.epochs": 6}}
    none: dict[str, Any] = {"space": None, "search": None, "budget": {}}
    folder = searched(tmp_path / "study", arms=arms, conditions=conditions, **none)
    with pytest.raises(UserError, match="choose one of short, long with --condition"):
        audited(folder)
    assert audited(folder, condition="long", length="2x", seeds=1) == "audit"
    assert audited(folder, condition="short", length="12", seeds=1) == "audit-2"
    found = trained(folder)
    assert (found["audit"], found["audit-2"]) == ([(12, 20_000)] * 4, [(12, 21_000)] * 4)
    assert found["audit-proxy-long"] == [(6, 60_000)] * 4
    assert found["audit-proxy-short"] == [(4, 61_000)] * 4
    assert load_audit(folder, "audit").networks == ["w16", "w12", "w8", "w4"]


def test_nothing_is_timed_in_an_audit(tmp_path: Path) -> None:
    folder = searched(tmp_path / "study")
    audited(folder)
    with Ledger.open(folder) as ledger:
        assert not any(stage.timed for stage in ledger.study.stages.values())
        assert [*ledger.study.longer_audit_stages] == ["audit"]
        assert not ledger.measurements()


@pytest.mark.parametrize(
    ("longer", "epochs"),
    [({}, 16), ({"length": "2x"}, 8), ({"length": "1.5x"}, 6), ({"length": "40"}, 40),
     ({"recipe": "standard"}, 30), ({"recipe": "standard", "length": "3x"}, 12)],
)  # fmt: skip
def test_how_long_is_told_in_epochs_or_as_a_multiple(longer: dict[str, Any], epochs: int) -> None:
    own = Recipe(epochs=4, threads=3)
    target = LongerTraining(**longer).longer_recipe(own)
    assert (target.epochs, target.threads, target.keep_weights) == (epochs, 3, "none")
    assert target.ema == (0.999 if "recipe" in longer else 0)


@pytest.mark.parametrize(
    ("longer", "told"),
    [
        ({"length": "4"}, "4 epochs are no longer training than the study's 4"),
        ({"length": "0.5x"}, "2 epochs are no longer"),
        ({"length": "long"}, "expected epochs, as 40, or a multiple, as 4x; got 'long'"),
        ({"length": "-3"}, "expected epochs"),
        ({"recipe": "mine"}, "there is no recipe 'mine'; there are short, standard"),
    ],
)
def test_what_is_no_longer_training_is_refused(longer: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        LongerTraining(**longer).longer_recipe(Recipe(epochs=4))
