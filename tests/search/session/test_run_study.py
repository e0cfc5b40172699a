"""Whole studies in this process: samplers, repeats, budgets and resuming."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from partialnas.analysis import front, hypervolume, load, load_trials, pareto_table
from partialnas.analysis.audit.confirmation import select_networks
from partialnas.analysis.figures.kinds import study_figure
from partialnas.analysis.pareto.table import format_pareto_table, make_pareto_table
from partialnas.analysis.stats.dominance import non_dominated
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.ledger import column_store as volumes
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import TrialResult
from partialnas.runs.records.job import Job
from partialnas.runs.trials import trial
from partialnas.search.driver.candidate import Candidate
from partialnas.search.driver.running_front import by_feasibility, dominated_candidates
from partialnas.search.driver.scheduler import Scheduler, make_source
from partialnas.search.followup.merge_studies import merge_studies
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.samplers.registry import SAMPLERS
from partialnas.search.session import run_study as session
from partialnas.search.session.run_study import run_study
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import load_study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import MachineError, UserError

HERE = Path(__file__).parents[1]
EACH = [pytest.param(s, marks=pytest.mark.slow if s == "gp" else ()) for s in SAMPLERS]

PLAIN: dict[str, Any] = {
    "study": "plain",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16, 20, 24], "mlp_ratio": [1, 2], "pat_sp": [False, True]}},
    "search": {"sampler": "random"},
    "trial": "simulated:plain",
    "budget": {"trials": 12},
    "executor": {"kind": "in-process", "device": "cpu"},
}


def study(**changes: Any) -> Study:
    return Study.model_validate({**PLAIN, **changes})


def ran(folder: Path, **changes: Any) -> Ledger:
    run_study(study(**changes), folder, base_dir=HERE)
    return Ledger.open(folder)


def networks(ledger: Ledger) -> list[tuple[str, int]]:
    return [(row.digest, row.seed) for row in ledger.trials()]


@pytest.mark.parametrize("sampler", EACH)
def test_a_search_ends_at_its_budget_and_trains_nothing_twice(tmp_path: Path, sampler: str) -> None:
    with ran(tmp_path, search={"sampler": sampler, "population": 4}) as ledger:
        assert ledger.state_counts()["done"] == 12 == len(ledger.trials())
        assert max(Counter(networks(ledger)).values()) == 1
        assert ledger.count_repeated_proposals() == len(ledger.proposals()) - 12


def test_lanes_change_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []
    run_job = trial.run_job
    monkeypatch.setattr(trial, "run_job", lambda job, at: jobs.append(job) or run_job(job, at))
    changes = {
        "arms": {"a": {"width": 4}, "b": {"width": 8}}, "search": None, "space": None,
        "trial": None, "objectives": {"val_nll": "min"}, "budget": {}, "seeds": 3,
        "recipe": {"epochs": 1, "data_share": 0.1}, "measure": {"when": "never"},
    }  # fmt: skip
    executor = {"kind": "in-process", "device": "cpu"}
    run_study(study(**changes), tmp_path / "1")
    run_study(study(**changes, executor={**executor, "lanes": 3}), tmp_path / "3")
    alone, together = (load(tmp_path / name).set_index("key") for name in ("1", "3"))
    assert together["state"].tolist() == ["done"] * 6
    assert [job.seeds for job in jobs[6:]] == [(0, 1, 2)] * 2
    columns = ["seed", "val_nll", "val_accuracy", "train_nll", "test_nll", "test_accuracy", "macs"]
    assert together.loc[alone.index, columns].equals(alone[columns])


def test_a_network_that_breaks_the_device_ends_one_session_only(tmp_path: Path) -> None:
    arms = {"broken": {"width": 8}, "sound": {"width": 16}}
    changes = {"trial": "simulated:breaking", "arms": arms, "search": None, "space": None}
    with pytest.raises(MachineError, match="cpu failed: device-side assert triggered"):
        ran(tmp_path, **changes, budget={})
    with ran(tmp_path, **changes, budget={}) as ledger:
        broken, sound = ledger.trials()
    assert (broken.state, sound.state) == ("failed", "done")
    assert broken.reason == "device fault: device-side assert triggered"


@pytest.mark.slow
def test_trainings_that_timed_out_run_again_and_give_the_results_of_others(tmp_path: Path) -> None:
    arms = {"arms": {"a": {"width": 4}, "b": {"width": 8}}, "search": None, "space": None}
    changes = {
        **arms, "trial": None, "objectives": {"val_nll": "min"}, "budget": {},
        "recipe": {"epochs": 1, "data_share": 0.3}, "measure": {"when": "never"},
    }  # fmt: skip
    hurried = study(**changes, executor={"kind": "in-process", "time_limit_s": 1e-3})
    run_study(hurried, tmp_path / "hurried")
    assert load(tmp_path / "hurried")["state"].tolist() == ["timeout"] * 2
    run_study(study(**changes), tmp_path / "hurried", retry_failed=True)
    run_study(study(**changes), tmp_path / "whole")
    retried, whole = (load(tmp_path / name) for name in ("hurried", "whole"))
    assert retried["state"].tolist() == whole["state"].tolist() == ["done"] * 2
    assert retried[["key", "val_nll"]].equals(whole[["key", "val_nll"]])
    assert retried["failures"].tolist() == [1, 1]
    assert retried["attempts"].tolist() == [2, 2]


def test_a_search_and_its_tables_agree_on_networks_with_failed_seeds(tmp_path: Path) -> None:
    """A quarter of the trials fail; a network with a failed one competes nowhere."""
    changes = {"trial": "simulated:fragile", "seeds": 3, "budget": {"trials": 60}}
    changes |= {"search": {"sampler": "evolution", "population": 4}}
    with ran(tmp_path, **changes) as ledger:
        resolved = resolve_study(study(**changes), HERE)
        candidates = Scheduler(resolved, ledger, make_source(resolved), str).pool.candidates
    objectives = resolved.study.objectives
    feasible, _ = by_feasibility(candidates.values(), objectives, {})
    points = np.array([*feasible.values()])
    non_dominated_points = non_dominated(points, objectives)
    searched = {c.digest for c, on in zip(feasible, non_dominated_points, strict=True) if on}
    trials = load_trials(tmp_path)
    rows = front(trials).set_index("digest")
    assert {*rows.index[rows["on_front"]]} == searched
    assert {*rows.index[rows["rank"].notna()]} == {candidate.digest for candidate in feasible}
    partly = rows[rows["failed"].gt(0) & rows["n"].gt(0)]
    assert len(partly) >= 3
    survivors = rows[rows["n"].gt(0)]  # by the means over the remaining seeds
    naive = non_dominated(survivors[[*objectives]].to_numpy(float), objectives)
    assert {*survivors.index[naive]} != searched
    best = survivors[survivors["failed"].eq(0)].sort_values("val_nll").index[:3]
    assert [*select_networks(tmp_path, "3").values()] == [*best]
    text = format_pareto_table(make_pareto_table(trials))
    assert text["Seeds"].tolist() == ["3"] * len(text)
    shown = pareto_table(trials).set_index("digest")
    assert shown.loc[partly.index, "val_nll"].notna().all()  # shown, but not ranked
    drawn = study_figure("convergence", tmp_path, tmp_path / "c.svg").table
    volume = hypervolume(trials, objectives)
    assert drawn["hypervolume"].iloc[-1] == pytest.approx(volume)


@pytest.mark.parametrize("order", [*permutations(["val_nll", "val_accuracy", "macs"])])
def test_the_order_of_objectives_is_that_of_the_study_file(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    directions = {"val_nll": "min", "val_accuracy": "max", "macs": "min"}
    changes = {"objectives": {key: directions[key] for key in order}, "budget": {"trials": 1}}
    with ran(tmp_path / "one", **changes) as ledger:
        meta = ledger.meta
    trials = load_trials(tmp_path / "one")
    assert tuple(trials.objectives) == order
    assert trials.deciding_quantity == study(**changes).decision_quantity
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    merge_studies([tmp_path / "one", tmp_path / "two"], tmp_path / "merged")
    assert tuple(load_trials(tmp_path / "merged").objectives) == order
    # an older ledger has them by alphabet until the study continues
    by_alphabet = json.dumps(json.loads(meta["frozen"]), sort_keys=True)
    with Ledger.open(tmp_path / "one", write=True) as ledger:
        ledger.update_meta({"frozen": by_alphabet})
    assert tuple(load_trials(tmp_path / "one").objectives) == tuple(sorted(order))
    with ran(tmp_path / "one", **changes) as ledger:
        assert tuple(ledger.study.frozen["objectives"]) == order
        assert ledger.study.amendments == []


def test_an_exhausted_space_ends_the_search(tmp_path: Path) -> None:
    with ran(tmp_path, budget={"trials": 500}) as ledger:
        assert ledger.state_counts()["done"] == 20 == len(set(networks(ledger)))


def test_arms_run_seed_by_seed_before_the_search(tmp_path: Path) -> None:
    arms = {"small": {"width": 4}, "timm": "timm:resnet18", "preset": {"pat_sp": True}}
    with ran(tmp_path, arms=arms, seeds=2, search=None, objectives={"val_nll": "min"}) as ledger:
        rows = ledger.trials()
        assert [p.arm for p in ledger.proposals()] == list(arms)
    assert [row.state for row in rows if row.name == "timm:resnet18"] == ["failed"] * 2
    assert Counter(row.seed for row in rows) == {0: 3, 1: 3}


def test_seeds_of_a_candidate_are_averaged_before_the_sampler_learns(tmp_path: Path) -> None:
    with ran(tmp_path, seeds=3) as ledger:
        counts = Counter(row.digest for row in ledger.trials())
    assert set(counts.values()) == {3}
    assert len(counts) == 4


@pytest.mark.parametrize("sampler", EACH)
def test_a_resumed_search_makes_the_same_proposals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setattr(volumes, "VOLUME_SIZE", 3)  # archived rows are read from volumes
    changes: dict[str, Any] = {
        "search": {"sampler": sampler, "population": 4},
        "limits": {"throughput_img_s": {"min": 6000}},
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with ran(whole, budget={"trials": 12}, **changes) as ledger:
        expected = networks(ledger)
    for trials in (3, 7, 12):
        with ran(parts, budget={"trials": trials}, **changes) as ledger:
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
        return {row.key: row for row in ledger.trials() if row.is_final}


def test_failures_of_networks_are_rows_with_a_reason(tmp_path: Path) -> None:
    with ran(tmp_path, trial="simulated:faulty", budget={"trials": 20}) as ledger:
        rows = ledger.trials()
    assert len(rows) == 20
    reasons = {row.reason for row in rows if row.state == "failed"}
    assert all(reasons)
    text = " ".join(str(reason) for reason in reasons)
    for part in ("a fault of the network", "finite", "expected a mapping of metrics", "missing"):
        assert part in text
    assert any(row.state == "done" for row in rows)


def test_an_extended_study_resumes(tmp_path: Path) -> None:
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
        run_study(study(study="other"), tmp_path, base_dir=HERE)
    with pytest.raises(UserError, match=r"task\.data"):
        run_study(study(task={"data": "mnist5k"}, budget={"trials": 3}), tmp_path, base_dir=HERE)


@pytest.mark.parametrize(
    ("changes", "message"),
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
def test_an_invalid_study_is_refused_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((UserError, ValueError), match=message):  # by the study, or when it runs
        run_study(study(**changes), tmp_path / "out", base_dir=HERE)
    assert not (tmp_path / "out" / "ledger.sqlite").exists()


def test_a_user_function_that_cannot_be_imported_is_reported(tmp_path: Path) -> None:
    (tmp_path / "broken_stand_in.py").write_text("def told(:\n")
    with pytest.raises(UserError, match="cannot import broken_stand_in:told: SyntaxError"):
        run_study(study(trial="broken_stand_in:told"), tmp_path / "out", base_dir=tmp_path)


def test_a_missing_device_is_a_machine_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no GPU"):
        run_study(study(executor={"kind": "in-process", "device": "cuda"}), tmp_path, base_dir=HERE)


def test_quick_settings_make_another_study(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, "quick": {"budget.trials": 3}}))
    run_study(load_study(path, quick=True), tmp_path / "out", base_dir=HERE)
    with Ledger.open(tmp_path / "out") as ledger:
        assert ledger.state_counts()["done"] == 3


def small_arms(folder: Path) -> dict[str, Any]:
    path = folder / "net.json"
    path.write_text(Plan(stem_stride=1, width=8, head_width=16).architecture().to_json())
    return {"arms": {"named": str(path)}, "search": None, "objectives": {"val_nll": "min"}}


def test_a_changed_architecture_file_is_refused(tmp_path: Path) -> None:
    changes = small_arms(tmp_path)
    with ran(tmp_path / "out", **changes):
        pass
    other = Plan(stem_stride=1, width=12, head_width=16).architecture()
    (tmp_path / "net.json").write_text(other.to_json())
    with pytest.raises(UserError, match=r"arms\.named: \w{16} -> \w{16}"):
        run_study(study(**changes), tmp_path / "out", base_dir=HERE)


def test_changed_data_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            image = Image.new("L", (8, 8), color=10 * number)
            image.save(tmp_path / "images" / name / f"{number}.png")
    changes = {"task": {"data": f"folder:{tmp_path / 'images'}", "resolution": 8}}
    with ran(tmp_path / "out", budget={"trials": 2}, **changes):
        pass
    (tmp_path / "images" / "a" / "0.png").unlink()
    with pytest.raises(UserError, match=r"task\.content"):
        run_study(study(budget={"trials": 3}, **changes), tmp_path / "out", base_dir=HERE)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "evolution", "front-evolution"])
def test_a_search_finds_all_of_a_small_space_and_ends(tmp_path: Path, sampler: str) -> None:
    search = {"sampler": sampler, "population": 4}
    for _ in range(2):
        with ran(tmp_path, search=search, budget={"trials": 50}) as ledger:
            proposals, rows = len(ledger.proposals()), ledger.trials()
        assert len({row.digest for row in rows}) == 20 == len(rows)
    with ran(tmp_path, search=search, budget={"trials": 50}) as ledger:
        assert len(ledger.proposals()) == proposals


def test_a_proposed_network_can_become_an_arm(tmp_path: Path) -> None:
    with ran(tmp_path, budget={"trials": 20}):
        pass
    arms = {"late": {"width": 12}}
    with ran(tmp_path, budget={"trials": 20}, arms=arms) as ledger:
        (arm,) = [row for row in ledger.proposals() if row.arm is not None]
        assert len(ledger.trials()) == 20
        assert arm.digest in {row.digest for row in ledger.trials()}


def test_arms_come_before_further_seeds_when_the_budget_is_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ran(tmp_path, budget={"trials": 4}):
        pass
    with ran(tmp_path, budget={"trials": 7}, seeds=2, arms={"wide": {"width": 32}}) as ledger:
        wide = next(row.digest for row in ledger.proposals() if row.arm)
        counts = Counter(row.digest for row in ledger.trials())
    assert counts[wide] == 2
    assert sum(counts.values()) == 7
    assert "3 trials were skipped" in capsys.readouterr().err.replace("\n", " ")


def test_a_reference_that_cannot_be_measured_is_reported_first(tmp_path: Path) -> None:
    changes = {"trial": None, "reference": "timm:vit_tiny_patch16_224"}
    with pytest.raises(UserError, match="vit_tiny"):
        run_study(study(**changes), tmp_path, base_dir=HERE)
    assert not (tmp_path / "ledger.sqlite").exists()


def test_weights_of_networks_without_results_are_kept() -> None:
    digits = Architecture.from_json(Plan(stem_stride=1, width=8).architecture().to_json())
    how = Condition("", resolve_task("digits"), Recipe(), Protocol())
    judged, better, unknown = (Candidate(digits, how, digits.digest) for _ in range(3))
    judged.add_result(TrialResult("a", 1, 0, "done", {"val_nll": 1.0, "params": 2.0}), None)
    better.add_result(TrialResult("b", 2, 0, "done", {"val_nll": 0.5, "params": 2.0}), None)
    unknown.add_result(TrialResult("c", 3, 0, "failed", {}), None)
    objectives = study(objectives={"val_nll": "min", "params": "min"}).objectives
    assert dominated_candidates([judged, better, unknown], objectives, {}) == [judged]
    assert dominated_candidates([unknown], objectives, {}) == []
    limits = study(limits={"val_nll": {"min": 0.7}}).limits
    assert dominated_candidates([judged, better, unknown], objectives, limits) == [better]


def test_weights_of_the_front_that_is_shown_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: set[str] = set()
    monkeypatch.setattr(session, "delete_weights", lambda _, keys: deleted.update(keys))
    arms = {"best": {"width": 64}}  # better than every network of the space
    recipe = {"keep_weights": "front"}
    ran(tmp_path, arms=arms, recipe=recipe, objectives={"val_nll": "min"}).close()
    rows = front(load_trials(tmp_path))
    keys = load_trials(tmp_path).frame.set_index("digest")["key"]
    members = {*keys[rows.loc[rows["on_front"], "digest"]]}
    assert members
    assert deleted == {*keys[~rows.set_index("digest")["baseline"]]} - members


def test_amendments_are_shown_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for trials in (2, 3, 3, 2):
        ran(tmp_path, budget={"trials": trials}).close()
    with Ledger.open(tmp_path) as ledger:
        noted = ledger.study.amendments
    lines = ["budget.trials: 2 -> 3", "budget.trials: 3 -> 2 (reduced)"]
    assert [entry["lines"] for entry in noted] == [[line] for line in lines]
    output = capsys.readouterr().err
    assert all(f"study changed: {line}" in output for line in lines)
