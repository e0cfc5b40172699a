"""Studies of learned ratios: conditions, control arms, and which networks are timed."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from partialnas.analysis import load
from partialnas.runs.export.export_model import export_model
from partialnas.runs.ledger import column_store as volumes
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import TrialRow
from partialnas.runs.records.frozen_model import frozen_subject
from partialnas.runs.records.subject import parse_subject
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError

TINY: dict[str, Any] = {
    "study": "tiny",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "recipe": {"epochs": 2, "batch_size": 256, "ratio_freeze": 0.5},
    "arms": {
        "dynamic": {"ratio": {"learned": {"budget": "static", "grain": 1}}},
        "retrained": {"from": "dynamic", "ratios": "learned"},
        "shuffled": {"from": "dynamic", "ratios": "shuffled"},
    },
    "executor": {"kind": "in-process"},
    "measure": {"max_seconds": 0.05, "retries": 0},
    "seeds": 2,
}
FEW = {"recipe.epochs": 1}


def tiny(**changes: Any) -> Study:
    return Study.model_validate({**TINY, **changes})


def run_tiny(folder: Path, **changes: Any) -> Ledger:
    run_study(tiny(**changes), folder)
    return Ledger.open(folder)


def by_arm(ledger: Ledger) -> dict[tuple[str, int], TrialRow]:
    arms = {row.number: str(row.arm) for row in ledger.proposals()}
    return {(arms[row.proposal], row.seed): row for row in ledger.trials()}


def network(ledger: Ledger, trial: TrialRow) -> Architecture:
    subjects = {row.number: row.subject for row in ledger.proposals()}
    subject = parse_subject(subjects[trial.proposal])
    assert isinstance(subject, Architecture)
    return subject


def macs(architecture: Architecture) -> int:
    return compute_cost(architecture, InputSpec.square(8, 1, 10)).macs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    run_tiny(folder).close()
    return folder


def test_controls_have_the_ratios_learned_with_the_same_seed(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        trials = by_arm(ledger)
        assert {"dynamic", "retrained"} <= {arm for arm, _ in trials}
        assert {row.state for row in trials.values()} == {"done"}
        for seed in (0, 1):
            learned = trials["dynamic", seed]
            channels = ledger.ratios(learned.key)[-1].channels
            frozen = frozen_subject(network(ledger, learned), channels)
            retrained = network(ledger, trials["retrained", seed])
            assert retrained.learned is None
            assert retrained.digest == frozen.digest == ledger.frozen_digests()[learned.key]
            assert learned.cost["macs"] == macs(frozen) == trials["retrained", seed].cost["macs"]


def test_a_control_costs_at_most_what_was_learned(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        trials = by_arm(ledger)
        rows = {row.number: row for row in ledger.proposals()}
        shuffled = [row for row in rows.values() if row.arm == "shuffled"]
        assert [row.proposal["seed"] for row in shuffled] == [0, 1]
        for row in shuffled:
            retrained = trials["retrained", row.proposal["seed"]]
            shuffled_network = parse_subject(row.subject)
            assert isinstance(shuffled_network, Architecture)
            assert shuffled_network.learned is None
            assert macs(shuffled_network) <= retrained.cost["macs"]


def test_seeds_stay_balanced(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        ended = sorted(ledger.trials(), key=lambda row: (row.finished or "", row.number))
    seeds = [row.seed for row in ended]
    assert seeds == sorted(seeds)
    assert set(seeds) == {0, 1}


def test_frozen_networks_are_timed_and_listed_in_the_table(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        timed = {m.digest for m in ledger.measurements()}
        frozen = set(ledger.frozen_digests().values())
        learned = {row.digest for (arm, _), row in by_arm(ledger).items() if arm == "dynamic"}
    assert frozen <= timed
    assert not timed & learned
    table = load(folder)
    assert table["throughput_img_s"].notna().all()
    assert set(table.loc[table["arm"].eq("retrained"), "seed"]) == {0, 1}


def test_the_same_command_trains_nothing_again(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        before = ledger.trials(), len(ledger.proposals()), len(ledger.measurements())
    with run_tiny(folder) as ledger:
        assert (ledger.trials(), len(ledger.proposals()), len(ledger.measurements())) == before


def test_a_study_interrupted_before_its_control_arms_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "VOLUME_SIZE", 1)
    arms = {"dynamic": TINY["arms"]["dynamic"]}
    with run_tiny(tmp_path, arms=arms, seeds=1, recipe={**TINY["recipe"], "epochs": 1}) as ledger:
        (before,) = ledger.trials()
    with run_tiny(tmp_path, seeds=2, recipe={**TINY["recipe"], "epochs": 1}) as ledger:
        trials = by_arm(ledger)
        assert trials["dynamic", 0] == before
        assert {arm for arm, _ in trials} >= {"dynamic", "retrained"}
        requested = [(row.arm, row.proposal["seed"]) for row in ledger.proposals() if row.proposal]
    assert Counter(requested) == {(a, s): 1 for a in ("retrained", "shuffled") for s in (0, 1)}


def test_arms_are_trained_and_timed_under_every_condition(tmp_path: Path) -> None:
    conditions = {
        "small": {**FEW, "task.resolution": 8, "measure.batch_size": 4},
        "large": {**FEW, "task.resolution": 16, "measure.batch_size": 2},
    }
    arms = {"static": {}, **{k: v for k, v in TINY["arms"].items() if k != "shuffled"}}
    with run_tiny(tmp_path, arms=arms, conditions=conditions, seeds=1) as ledger:
        assert len(ledger.trials()) == 6 == ledger.state_counts()["done"]
        assert ledger.count_repeated_proposals() == 0
        sizes = {(m.resolution, m.batch_size) for m in ledger.measurements()}
    assert sizes == {(8, 4), (16, 2)}
    table = load(tmp_path)
    assert Counter(table["condition"]) == {"small": 3, "large": 3}
    large = table[table["condition"].eq("large")]
    assert set(large["resolution"]) == {16}
    assert set(large["batch_size"]) == {2}
    small = table[table["condition"].eq("small")].set_index("arm")
    assert (large.set_index("arm")["macs"] > small["macs"]).all()
    with run_tiny(tmp_path, arms=arms, conditions=conditions, seeds=1) as ledger:
        assert len(ledger.trials()) == 6


def test_a_network_is_exported_for_the_images_of_its_condition(tmp_path: Path) -> None:
    conditions = {"large": {**FEW, "task.resolution": 16, "measure.batch_size": 2}}
    recipe = {**TINY["recipe"], "keep_weights": "all"}
    changes = {"arms": {"dynamic": TINY["arms"]["dynamic"]}, "conditions": conditions}
    with run_tiny(tmp_path / "study", **changes, recipe=recipe, seeds=1):
        pass
    proof = export_model(tmp_path / "study", 1, tmp_path / "out", max_seconds=0.1).verification
    assert (proof.speed.resolution, proof.speed.batch_size) == (16, 2)
    assert proof.outputs.val_accuracy == pytest.approx(proof.outputs.recorded_val_accuracy)


def test_input_dependent_ratios_are_timed_with_trained_weights(tmp_path: Path) -> None:
    arms = {"input": {"ratio": {"learned": {"budget": "1/4", "grain": 2, "per": "input"}}}}
    recipe = {**TINY["recipe"], "epochs": 1}
    with run_tiny(tmp_path, arms=arms, recipe=recipe) as ledger:
        (measurement,) = ledger.measurements()
        (proposal,) = ledger.proposals()
    assert measurement.digest == proposal.digest
    assert measurement.relative_throughput is not None
    assert load(tmp_path)["throughput_img_s"].notna().all()


def test_a_control_of_a_failed_trial_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {**TINY["recipe"], "lr": 100.0, "optimizer": "sgd", "precision": "float32"}
    with run_tiny(tmp_path, recipe=recipe, seeds=1) as ledger:
        (trial,) = ledger.trials()
    assert trial.state == "failed"
    output = " ".join(capsys.readouterr().err.split())
    assert "arms.retrained is skipped for seed 0" in output


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"from": "absent"}, "learns one ratio per layer; choose dynamic"),
        ({"from": "static"}, "'static' is not an arm that learns one ratio per layer"),
        ({"from": "input"}, "'input' is not an arm that learns one ratio per layer"),
        ({"from": "dynamic", "ratios": "mirrored"}, "ratios"),
        ({"from": "dynamic", "width": 8}, "width: unknown key"),
    ],
)
def test_invalid_control_arms_are_rejected(
    tmp_path: Path, arm: dict[str, Any], message: str
) -> None:
    learned = {"per": "input", "budget": "1/4"}
    others = {"static": {}, "input": {"ratio": {"learned": learned}}, "dynamic": {}}
    others["dynamic"] = TINY["arms"]["dynamic"]
    with pytest.raises(UserError, match=message):
        run_study(tiny(arms={**others, "control": arm}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unreachable_budget_is_rejected_before_anything_runs(tmp_path: Path) -> None:
    arms = {"dynamic": {"ratio": {"learned": {"budget": 1000}}}}
    with pytest.raises(UserError, match=r"arms\.dynamic: .*out of reach: expected .* from"):
        run_study(tiny(arms=arms), tmp_path / "out")
    assert not (tmp_path / "out").exists()
