"""Studies from beginning to end, in this process: sources, repeats, budgets, resumption."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from partialnas.runs.ledger import Ledger
from partialnas.search.runner import run_study
from partialnas.search.study import Study, load_study
from partialnas.space.errors import MachineError, UserError

HERE = Path(__file__).parent

PLAIN: dict[str, Any] = {
    "study": "plain",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16, 20, 24], "mlp_ratio": [1, 2], "pat_sp": [False, True]}},
    "search": {"sampler": "random"},
    "trial": "simulated:plain",
    "budget": {"trials": 12},
    "executor": {"kind": "in-process"},
}


def study(**changes: Any) -> Study:
    return Study.model_validate({**PLAIN, **changes})


def ran(folder: Path, **changes: Any) -> Ledger:
    run_study(study(**changes), folder, beside=HERE)
    return Ledger.open(folder)


def networks(ledger: Ledger) -> list[tuple[str, int]]:
    return [(row.digest, row.seed) for row in ledger.trials()]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_search_ends_at_its_budget_and_trains_nothing_twice(tmp_path: Path, sampler: str) -> None:
    with ran(tmp_path, search={"sampler": sampler, "population": 4}) as ledger:
        assert ledger.counts()["done"] == 12 == len(ledger.trials())
        assert max(Counter(networks(ledger)).values()) == 1
        assert ledger.replays() == len(ledger.proposals()) - 12


def test_an_exhausted_space_ends_the_search(tmp_path: Path) -> None:
    with ran(tmp_path, budget={"trials": 500}) as ledger:
        assert ledger.counts()["done"] == 20 == len(set(networks(ledger)))


def test_arms_run_seed_by_seed_before_the_search(tmp_path: Path) -> None:
    arms = {"small": {"width": 4}, "timm": "timm:resnet18", "preset": {"pat_sp": True}}
    with ran(tmp_path, arms=arms, seeds=2, search=None, objectives={"val_nll": "min"}) as ledger:
        rows = ledger.trials()
        assert [p.arm for p in ledger.proposals()] == list(arms)
    assert [row.state for row in rows if row.name == "timm:resnet18"] == ["failed"] * 2
    assert Counter(row.seed for row in rows) == {0: 3, 1: 3}


def test_seeds_of_a_candidate_are_averaged_before_the_sampler_is_told(tmp_path: Path) -> None:
    with ran(tmp_path, seeds=3) as ledger:
        counts = Counter(row.digest for row in ledger.trials())
    assert set(counts.values()) == {3}
    assert len(counts) == 4


def test_a_resumed_search_proposes_what_it_would_have_proposed(tmp_path: Path) -> None:
    for sampler in ("random", "tpe", "nsga2"):
        search = {"sampler": sampler, "population": 4}
        whole, parts = tmp_path / f"{sampler}-whole", tmp_path / f"{sampler}-parts"
        with ran(whole, search=search, budget={"trials": 12}) as ledger:
            expected = networks(ledger)
        for trials in (3, 7, 12):
            with ran(parts, search=search, budget={"trials": trials}) as ledger:
                assert networks(ledger) == expected[:trials]


def test_a_killed_driver_loses_nothing_and_repeats_only_what_was_interrupted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, "trial": "simulated:killing"}))
    shutil.copy(HERE / "simulated.py", tmp_path)
    folder, mark = tmp_path / "out", tmp_path / "mark"
    command = [sys.executable, "-m", "partialnas", "run", str(path), "--out", str(folder)]
    for kill_at in (4, 9, 0):
        before = _finished(folder)
        environment = os.environ | {
            "PARTIALNAS_TEST_MARK": str(mark),
            "PARTIALNAS_TEST_KILL_AT": str(kill_at),
        }
        ended = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert ended.returncode == (-9 if kill_at else 0), ended.stderr.decode()
        assert before.items() <= _finished(folder).items()
    assert len(_finished(folder)) == 12
    begun = Counter(mark.read_text().splitlines())
    assert sum(begun.values()) == 12 + 2
    assert max(begun.values()) == 2


def _finished(folder: Path) -> dict[str, Any]:
    if not folder.exists():
        return {}
    with Ledger.open(folder) as ledger:
        return {row.key: row for row in ledger.trials() if row.final}


def test_what_a_network_does_wrong_is_a_row_with_a_reason(tmp_path: Path) -> None:
    with ran(tmp_path, trial="simulated:faulty", budget={"trials": 20}) as ledger:
        rows = ledger.trials()
    assert len(rows) == 20
    reasons = {row.reason for row in rows if row.state == "failed"}
    assert all(reasons)
    told = " ".join(str(reason) for reason in reasons)
    for part in ("a fault of the network", "finite", "expected metrics", "missing"):
        assert part in told
    assert any(row.state == "done" for row in rows)


def test_a_grown_study_carries_on(tmp_path: Path) -> None:
    with ran(tmp_path, budget={"trials": 4}) as ledger:
        before = {row.key: row for row in ledger.trials()}
    with ran(tmp_path, budget={"trials": 20}, seeds=2, arms={"wide": {"width": 32}}) as ledger:
        after = {row.key: row for row in ledger.trials()}
        assert {p.arm for p in ledger.proposals()} == {None, "wide"}
    assert before.items() <= after.items()
    assert len(after) == 20
    assert set(Counter(row.digest for row in after.values()).values()) == {2}


def test_another_study_in_the_folder_is_refused(tmp_path: Path) -> None:
    with ran(tmp_path, budget={"trials": 2}):
        pass
    with pytest.raises(UserError, match="holds the study 'plain'"):
        run_study(study(study="other"), tmp_path, beside=HERE)
    with pytest.raises(UserError, match=r"task\.data"):
        run_study(study(task={"data": "mnist5k"}, budget={"trials": 3}), tmp_path, beside=HERE)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"base": {"width": 2}}, "base"),
        ({"base": {**PLAIN["base"], "stem_stride": 4}}, "smallest"),
        ({"arms": {"x": "no_such.json"}}, "arms.x"),
        ({"arms": {"x": "partialnet_t9"}}, "partialnet_t0"),
        ({"arms": {"x": "timm:resnet8"}}, "resnet18"),
        ({"arms": {"x": {"colour": 1}}}, "colour: unknown key"),
        ({"task": {"data": "folder:/no/such/place"}}, "task"),
        ({"trial": "simulated:absent"}, "absent"),
        ({"trial": "no_such_module:f"}, "no_such_module"),
        ({"arms": {f"a{i}": {"width": 4 * i + 8} for i in range(13)}}, "13 arms"),
        ({"space": {**PLAIN["space"], "constraints": {"params": {"max": 10}}}}, "params"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        run_study(study(**changes), tmp_path / "out", beside=HERE)
    assert not (tmp_path / "out" / "ledger.sqlite").exists()


def test_a_device_that_is_not_there_is_the_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no GPU"):
        run_study(study(executor={"kind": "in-process", "device": "cuda"}), tmp_path, beside=HERE)


def test_quick_settings_make_another_study(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, "quick": {"budget.trials": 3}}))
    run_study(load_study(path, quick=True), tmp_path / "out", beside=HERE)
    with Ledger.open(tmp_path / "out") as ledger:
        assert ledger.counts()["done"] == 3
