"""Audits of simulated studies: which trials run, and with which recipes."""

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


def run_search(folder: Path, **changes: Any) -> Path:
    study = Study.model_validate({**STUDY, **changes})
    run_study(study, folder, base_dir=HERE, console=Console(file=StringIO()))
    return folder


def run_audit(folder: Path, size: int = 6, condition: str = "", **longer: Any) -> str:
    sample = choose_sample(folder, size, condition=condition)
    with Ledger.open(folder) as ledger:
        subjects = {row.digest: parse_subject(row.subject) for row in ledger.proposals()}
    chosen = {name: subjects[digest] for name, digest in sample.digests.items()}
    console = Console(file=StringIO())
    return audit(
        folder,
        chosen,
        longer=LongerTraining(**longer),
        selection=sample.description,
        condition=condition,
        base_dir=HERE,
        console=console,
    )


def trained(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """Return epochs and seed of each training in order, by stage."""
    frame = load(folder, stage=None)
    rows = zip(frame["stage"], frame["fidelity"], frame["seed"], strict=True)
    stages: dict[str, list[tuple[int, int]]] = {}
    for stage, epochs, seed in rows:
        stages.setdefault(stage, []).append((epochs, seed))
    return stages


def test_a_sample_is_trained_longer_and_repeated(tmp_path: Path) -> None:
    folder = run_search(tmp_path / "study")
    before = load(folder)
    assert run_audit(folder, length="4x") == "audit"
    stages = trained(folder)
    assert stages["audit"] == [(16, 20_000)] * 6 + [(16, 20_001)] * 6
    assert stages["audit-proxy"] == [(4, 60_000)] * 6
    assert load(folder).equals(before)
    count = sum(map(len, stages.values()))
    assert run_audit(folder, length="16") == "audit"  # the same length in epochs
    assert sum(map(len, trained(folder).values())) == count
    assert run_audit(folder, size=8, length="4x", seeds=3, repeats=2) == "audit"
    stages = trained(folder)
    assert {seed for _, seed in stages["audit"]} == {20_000, 20_001, 20_002}
    assert len(stages["audit"]) == 3 * len(load_audit(folder).networks)
    assert run_audit(folder, length="2x", repeats=0) == "audit-2"
    assert {epochs for epochs, _ in trained(folder)["audit-2"]} == {8}
    assert load_audit(folder).longer_label == "8 epochs"
    assert load_audit(folder, "audit").longer_label == "16 epochs"


def test_every_rung_is_repeated_with_its_own_recipe(tmp_path: Path) -> None:
    search = {"sampler": "random", "rungs": [{"recipe.epochs": 1}, {"recipe.epochs": 2}]}
    folder = run_search(tmp_path / "study", search=search, budget={"trials": 30})
    run_audit(folder, size=6, seeds=1)
    stages = trained(folder)
    assert stages["audit"] == [(16, 20_000)] * 6
    assert stages["audit-proxy-rung-1"] == [(1, 60_000)] * 6
    assert stages["audit-proxy-rung-2"] == [(2, 60_000)] * 6
    assert stages["audit-proxy"] == [(4, 60_000)] * 6 + [(4, 60_001)] * 6
    again = load(folder, stage="audit-proxy-rung-1")
    assert set(again["state"]) == {"done"}
    assert [way.name for way in load_audit(folder).fidelities] == [
        "1 epoch",
        "2 epochs",
        "4 epochs",
    ]


def test_an_audit_can_be_limited_to_a_condition(tmp_path: Path) -> None:
    arms = {f"w{width}": {"width": width} for width in (4, 8, 12, 16)}
    conditions = {"short": {}, "long": {"recipe.epochs": 6}}
    none: dict[str, Any] = {"space": None, "search": None, "budget": {}}
    folder = run_search(tmp_path / "study", arms=arms, conditions=conditions, **none)
    with pytest.raises(UserError, match="choose one of short, long as the condition"):
        run_audit(folder)
    assert run_audit(folder, condition="long", length="2x", seeds=1) == "audit"
    assert run_audit(folder, condition="short", length="12", seeds=1) == "audit-2"
    stages = trained(folder)
    assert (stages["audit"], stages["audit-2"]) == ([(12, 20_000)] * 4, [(12, 21_000)] * 4)
    assert stages["audit-proxy-long"] == [(6, 60_000)] * 4
    assert stages["audit-proxy-short"] == [(4, 61_000)] * 4
    assert load_audit(folder, "audit").networks == ["w16", "w12", "w8", "w4"]


def test_nothing_is_timed_in_an_audit(tmp_path: Path) -> None:
    folder = run_search(tmp_path / "study")
    run_audit(folder)
    with Ledger.open(folder) as ledger:
        assert not any(stage.timed for stage in ledger.study.stages.values())
        assert [*ledger.study.longer_audit_stages] == ["audit"]
        assert not ledger.measurements()


@pytest.mark.parametrize(
    ("longer", "epochs"),
    [({}, 16), ({"length": "2x"}, 8), ({"length": "1.5x"}, 6), ({"length": "40"}, 40),
     ({"recipe": "standard"}, 30), ({"recipe": "standard", "length": "3x"}, 12)],
)  # fmt: skip
def test_the_length_is_a_number_of_epochs_or_a_multiple(
    longer: dict[str, Any], epochs: int
) -> None:
    recipe = Recipe(epochs=4, threads=3)
    target = LongerTraining(**longer).longer_recipe(recipe)
    assert (target.epochs, target.threads, target.keep_weights) == (epochs, 3, "none")
    assert target.ema == (0.999 if "recipe" in longer else 0)


@pytest.mark.parametrize(
    ("longer", "message"),
    [
        ({"length": "4"}, "4 epochs are not longer than the study's 4"),
        ({"length": "0.5x"}, "2 epochs are not longer"),
        ({"length": "long"}, "expected epochs such as 40 or a multiple such as 4x, got 'long'"),
        ({"length": "-3"}, "expected epochs"),
        ({"recipe": "mine"}, "unknown recipe 'mine'; choose short, standard or gpu"),
    ],
)
def test_trainings_that_are_not_longer_are_rejected(longer: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LongerTraining(**longer).longer_recipe(Recipe(epochs=4))
