"""Complete ablations: balanced seeds, shared trials, amendments, seed rules, confirmation."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from partialnas.analysis.ablation.effects import effects
from partialnas.analysis.audit.confirmation import confirmation_table, select_networks
from partialnas.analysis.frames.arms import load_arm_trials
from partialnas.analysis.frames.load import load
from partialnas.analysis.stats.multiple_comparisons import compare, seeds_needed
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import parse_subject
from partialnas.search.followup.confirm import FIRST_SEED, confirm
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError

HERE = Path(__file__).parents[1]

PLAIN: dict[str, Any] = {
    "study": "plain",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "seeds": 3,
    "ablation": {
        "design": "one-factor",
        "factors": {"parts": [2, 3], "width": [8, 12, 16], "pat_sp": [False, True]},
    },
    "objectives": {"val_nll": "min"},
    "trial": "simulated:noisy",
    "executor": {"kind": "in-process"},
}


def run_plain(folder: Path, **changes: Any) -> Ledger:
    run_study(Study.model_validate({**PLAIN, **changes}), folder, base_dir=HERE)
    return Ledger.open(folder)


def factors(**changes: Any) -> dict[str, Any]:
    ablation = PLAIN["ablation"]
    return ablation | {"factors": ablation["factors"] | changes}


def test_all_arms_have_a_seed_before_any_has_the_next(tmp_path: Path) -> None:
    with run_plain(tmp_path, budget={"trials": 15}) as ledger:
        assert [row.seed for row in ledger.trials()] == [0] * 5 + [1] * 5 + [2] * 5
        names = [row.name for row in ledger.trials()]
    assert names[:5] == ["baseline", "parts=3", "width=12", "width=16", "pat_sp=true"]
    assert names == names[:5] * 3


def test_a_design_over_the_budget_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="5 arms x 3 seeds = 15 trials"):
        run_plain(tmp_path, budget={"trials": 14})


def test_one_network_with_several_recipes_has_separate_trials(tmp_path: Path) -> None:
    recipes = {"parts": [2, 3], "long": {"no": {}, "yes": {"recipe.epochs": 8}}}
    ablation = {"design": "factorial", "factors": recipes}
    with run_plain(tmp_path, ablation=ablation) as ledger:
        assert Counter(row.fidelity for row in ledger.trials()) == {4: 6, 8: 6}
        assert len({row.digest for row in ledger.trials()}) == 2
        assert ledger.count_repeated_proposals() == 0
    frame = load(tmp_path)
    assert (frame["fidelity"] == frame["full_fidelity"]).all()
    run_study(Study.model_validate({**PLAIN, "ablation": ablation}), tmp_path, base_dir=HERE)
    assert len(load(tmp_path)) == 12


def test_arms_with_the_same_training_share_trials(tmp_path: Path) -> None:
    with run_plain(tmp_path, arms={"by hand": {"parts": 3}}, budget={"trials": 15}) as ledger:
        assert len(ledger.trials()) == 15
    rows = load_arm_trials(tmp_path).frame
    assert Counter(rows["arm"]) == dict.fromkeys(
        ["baseline", "parts=3", "width=12", "width=16", "pat_sp=true", "by hand"], 3
    )
    same = [rows[rows["arm"].eq(arm)]["trial"].tolist() for arm in ("parts=3", "by hand")]
    assert same[0] == same[1]


def test_only_levels_and_factors_may_be_added(tmp_path: Path) -> None:
    run_plain(tmp_path).close()
    with run_plain(tmp_path, ablation=factors(parts=[2, 3, 4], mlp_ratio=[2, 1])) as ledger:
        assert len(ledger.trials()) == 21
        design = ledger.study.design
    assert design is not None
    assert len(design.arms) == 7
    for changed in (
        factors(parts=[2, 4]),
        PLAIN["ablation"] | {"match": "macs"},
        PLAIN["ablation"] | {"design": "add-one-in"},
    ):
        with pytest.raises(UserError, match="ablation"):
            run_plain(tmp_path, ablation=changed)


def test_adding_a_factor_to_a_factorial_design_is_rejected(tmp_path: Path) -> None:
    few = {"design": "factorial", "factors": {"parts": [2, 3]}}
    run_plain(tmp_path, ablation=few).close()
    more = few | {"factors": {"parts": [2, 3], "pat_sp": [False, True]}}
    with pytest.raises(UserError, match=r"arms\.parts=2: .* -> removed"):
        run_plain(tmp_path, ablation=more)


def test_seeds_are_added_until_intervals_have_the_target_width(tmp_path: Path) -> None:
    rule = {"min": 3, "max": 30, "until": 0.12}
    with run_plain(tmp_path, seeds=rule) as ledger:
        decided = ledger.study.sequential
        trials = ledger.trials()
        design = ledger.study.design
    assert decided is not None
    assert design is not None
    seeds = Counter(row.name for row in trials)
    assert seeds == decided.seeds
    assert set(seeds.values()) == {max(seeds.values())}
    assert 3 < max(seeds.values()) < 30
    first = {
        arm: {row.seed: row.metrics["val_nll"] for row in trials if row.name == arm}
        for arm in seeds
    }
    stage = {arm: {s: v for s, v in cells.items() if s < 3} for arm, cells in first.items()}
    comparison = compare(stage, design.contrasts)
    assert seeds_needed(comparison, 0.12, 30) == seeds
    final = compare(first, design.contrasts, first_stage=range(3))
    assert all((contrast.high - contrast.low) / 2 <= 0.12 + 1e-9 for contrast in final.contrasts)


def test_a_seed_rule_gives_the_same_seeds_after_an_interruption(
    tmp_path: Path,
) -> None:
    rule = {"min": 3, "max": 6, "until": 0.12}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with run_plain(whole, seeds=rule) as ledger:
        expected = {(row.name, row.seed) for row in ledger.trials()}
    for trials in (15, 17, 22):
        run_plain(parts, seeds=rule, budget={"trials": trials}).close()
    with run_plain(parts, seeds=rule) as ledger:
        assert {(row.name, row.seed) for row in ledger.trials()} == expected
        assert len(ledger.trials()) == 30
    with run_plain(parts, seeds=rule | {"max": 8}) as ledger:
        assert len(ledger.trials()) == 40


def test_a_confirmation_has_fresh_seeds_and_does_not_change_the_study(tmp_path: Path) -> None:
    run_plain(tmp_path).close()
    before = load(tmp_path)
    digests = select_networks(tmp_path, "1")
    assert list(digests) == ["baseline", "width=16"]
    with Ledger.open(tmp_path) as ledger:
        subjects = {row.digest: parse_subject(row.subject) for row in ledger.proposals()}
    chosen = {name: subjects[digest] for name, digest in digests.items()}
    for seeds in (2, 2, 4):  # repeating a call does nothing; more seeds are added
        stage = _confirmed(tmp_path, chosen, seeds=seeds)
        fresh = load(tmp_path, stage=stage)
        assert len(fresh) == 2 * seeds
        assert set(fresh["seed"]) == set(range(FIRST_SEED, FIRST_SEED + seeds))
    longer = load(tmp_path, stage=_confirmed(tmp_path, chosen, seeds=2, recipe="standard"))
    assert set(longer["fidelity"]) == set(longer["full_fidelity"]) == {30}
    assert load(tmp_path).equals(before)
    assert len(load(tmp_path, stage=None)) == len(before) + 8 + 4
    with run_plain(tmp_path, seeds=4) as ledger:
        assert set(ledger.study.stages) == {"confirm", "confirm-standard"}
    assert len(load(tmp_path)) == 20


def _confirmed(folder: Path, chosen: Any, **options: Any) -> str:
    try:
        return confirm(folder, chosen, selection="the best 1", base_dir=HERE, **options).name
    finally:
        with Ledger.open(folder) as ledger:
            assert all(row.is_final for row in ledger.trials())


def test_a_confirmation_reports_the_test_split_with_its_interval(tmp_path: Path) -> None:
    from scipy.stats import t

    run_plain(tmp_path, trial="simulated:tested").close()
    with Ledger.open(tmp_path) as ledger:
        subject = parse_subject(ledger.proposals()[0].subject)
    confirm(tmp_path, {"baseline": subject}, seeds=4, selection="one", base_dir=HERE)
    (row,) = confirmation_table(tmp_path).table.to_dict("records")
    fresh = load(tmp_path, stage="confirm")["test_accuracy"]
    low, high = t.interval(0.95, 3, fresh.mean(), fresh.std() / 2)
    assert (row["test_accuracy_low"], row["test_accuracy_high"]) == pytest.approx((low, high))
    trials = load(tmp_path)
    chosen = trials[trials["arm"].eq("baseline")]["val_nll"].mean()
    assert row["chosen"] == pytest.approx(chosen)
    assert row["shift"] == pytest.approx(row["confirmed"] - chosen)
    with pytest.raises(UserError, match="no stage 'other'"):
        confirmation_table(tmp_path, "other")


@pytest.mark.parametrize("top", ["0", "best", "-1"])
def test_invalid_top_values_are_rejected(tmp_path: Path, top: str) -> None:
    run_plain(tmp_path, seeds=1).close()
    with pytest.raises(UserError, match="--top"):
        select_networks(tmp_path, top)
    assert set(select_networks(tmp_path, "all")) == set(load_arm_trials(tmp_path).frame["arm"])


def test_a_seed_rule_counts_shared_trainings_once(tmp_path: Path) -> None:
    rule = {"min": 3, "max": 30, "until": 0.12}
    with run_plain(tmp_path / "alone", seeds=rule) as ledger:
        alone = ledger.study.sequential
    with run_plain(tmp_path / "shared", seeds=rule, arms={"by hand": {"parts": 3}}) as ledger:
        shared = ledger.study.sequential
    assert alone is not None
    assert shared is not None
    assert shared.degrees == alone.degrees == 8
    assert shared.deviation == alone.deviation
    assert {arm: shared.seeds[arm] for arm in alone.seeds} == alone.seeds


def test_an_added_arm_has_the_seeds_that_the_rule_requires(tmp_path: Path) -> None:
    rule = {"min": 3, "max": 30, "until": 0.12}
    run_plain(tmp_path, seeds=rule).close()
    before = Counter(load_arm_trials(tmp_path).frame["arm"])
    run_plain(tmp_path, seeds=rule, ablation=factors(parts=[2, 3, 4])).close()
    rows = load_arm_trials(tmp_path).frame
    assert all(Counter(rows["arm"])[arm] >= seeds for arm, seeds in before.items())
    comparison = effects(tmp_path).table.dropna(subset=["low", "high"])
    assert len(comparison) == 5
    assert ((comparison["high"] - comparison["low"]) / 2).max() <= 0.12 + 1e-9


def test_a_stage_records_its_selection_and_condition(tmp_path: Path) -> None:
    conditions = {"a": {"recipe.epochs": 2}, "b": {"recipe.epochs": 3}}
    with run_plain(tmp_path, seeds=1, conditions=conditions) as ledger:
        subject = parse_subject(ledger.proposals()[0].subject)

    def confirmed(words: str, condition: str) -> Any:
        chosen = {"baseline": subject}
        confirm(tmp_path, chosen, seeds=1, selection=words, condition=condition, base_dir=HERE)
        with Ledger.open(tmp_path) as ledger:
            return ledger.study.stages["confirm"].chosen

    assert confirmed("the best 1", "a") == "the best 1"
    assert confirmed("all arms", "a") == "the best 1, then all arms"
    assert confirmed("the best 1", "a") == "the best 1, then all arms"
    with pytest.raises(UserError, match="stage confirm under condition a"):
        confirmed("the best 1", "b")
    with pytest.raises(UserError, match="--condition c: choose a or b"):
        select_networks(tmp_path, "1", "c")


def test_a_condition_is_rejected_in_a_study_without_conditions(tmp_path: Path) -> None:
    run_plain(tmp_path, seeds=1).close()
    with pytest.raises(UserError, match="no conditions"):
        select_networks(tmp_path, "1", "a")
