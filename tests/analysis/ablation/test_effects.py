import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from partialnas.analysis import effects
from partialnas.analysis.ablation.caption import effects_caption
from partialnas.analysis.ablation.effects import mean_half_width
from partialnas.analysis.ablation.figure import factorial_sheet
from partialnas.runs.config.design import CostMatch, Design, DesignArm, ExcludedCombination, Factor
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import UserError

Ablations = Callable[..., Path]

ACCURACY = {"objectives": {"val_accuracy": "max"}}
VALUES: dict[str, dict[int, float | None]] = {
    "base": {0: 90.0, 1: 91.0, 2: 92.0},
    "same": {0: 90.1, 1: 90.9, 2: 92.0},
    "good": {0: 95.0, 1: 96.2, 2: 97.1},
}
MATCHED = CostMatch(
    quantity="macs", target=100.0, before=130.0, reached=101.0, width=((8,), (6,)),
    mlp_ratio=("2", "2"),
)  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, ablations: Ablations) -> Path:
    return ablations(tmp_path_factory.mktemp("plain") / "s", VALUES, study=ACCURACY)


def design_of(*names: str, kind: Any = "one-factor", **settings: Any) -> Design:
    arms = (DesignArm(name=n, against=None if n == names[0] else names[0]) for n in names)
    return Design(kind=kind, arms=tuple(arms), **settings)


def test_the_table_has_the_seeds_and_costs_of_each_arm(plain: Path) -> None:
    result = effects(plain)
    table = result.table.set_index("arm")
    assert [*table.index] == ["base", "same", "good"]
    assert table["n"].tolist() == [3, 3, 3]
    assert table["mean"].tolist() == pytest.approx([91, 91, 96.1])
    assert table["sd"].tolist() == pytest.approx([1, 0.95393920, 1.05356537])
    assert table["params"].tolist() == [1000, 1001, 1002]
    assert table["throughput_img_s"].tolist() == pytest.approx([3000, 1500, 1000])
    assert result.values["good"] == {0: 95.0, 1: 96.2, 2: 97.1}
    assert result.quantity.key == "val_accuracy"


def test_differences_come_from_the_block_model_with_pooled_deviation(plain: Path) -> None:
    result = effects(plain, margin=0.5)
    data = np.array([[*of.values()] for of in VALUES.values()], dtype=float)
    rest = data - data.mean(0) - data.mean(1, keepdims=True) + data.mean()
    deviation = math.sqrt((rest**2).sum() / 4)
    assert result.comparison.deviation == pytest.approx(deviation)
    assert result.comparison.degrees == 4
    table = result.table.set_index("arm")
    assert table["against"].tolist() == ["", "base", "base"]
    assert table["difference"].tolist()[1:] == pytest.approx([0.0, 5.1])
    half = result.comparison.critical * deviation * math.sqrt(2 / 3)
    assert (table["high"] - table["difference"]).tolist()[1:] == pytest.approx([half, half])
    assert table["equivalence"].tolist() == ["", "equivalent", "not shown"]
    assert 2.78 < result.comparison.critical < 3.5  # t(4) and its value after Bonferroni


def test_the_design_determines_comparisons_and_order(tmp_path: Path, ablations: Ablations) -> None:
    design = design_of("good", "base", "same", "never")
    folder = ablations(tmp_path / "s", VALUES, design, study=ACCURACY)
    table = effects(folder).table.set_index("arm")
    assert [*table.index] == ["good", "base", "same", "never"]
    assert table["against"].tolist()[1:] == ["good"] * 3
    assert (table.loc["never", "state"], table.loc["never", "missing"]) == ("missing", 3)
    assert math.isnan(table.loc["never", "difference"])
    other = effects(folder, against="base").table.set_index("arm")
    assert other.loc["good", "difference"] == pytest.approx(5.1)
    assert not effects(folder, against="none").comparison.contrasts


def test_failed_and_missing_trials_are_counted(tmp_path: Path, ablations: Ablations) -> None:
    values = VALUES | {"same": {0: 90.1, 1: None, 2: 92.0}, "bad": {0: None, 1: None, 2: None}}
    result = effects(ablations(tmp_path / "s", values, study={**ACCURACY, "seeds": 4}))
    table = result.table.set_index("arm")
    assert table["failed"].tolist() == [0, 1, 0, 3]
    assert table["missing"].tolist() == [1, 1, 1, 1]
    assert table["state"].tolist() == ["", "", "", "failed"]
    caption = effects_caption(result)
    assert (
        "Not in the means: 4 trials failed; 4 trials not run yet; arms without results: bad."
        in (caption)
    )
    assert "; 4 failed (0.04 h)" in caption
    assert "is adjusted for missing seeds" in caption


def test_a_single_seed_allows_no_test(tmp_path: Path, ablations: Ablations) -> None:
    values = {arm: {0: of[0]} for arm, of in VALUES.items()}
    result = effects(ablations(tmp_path / "s", values, study=ACCURACY))
    assert result.comparison.method == "none"
    assert result.table[["low", "high", "p"]].isna().all(axis=None)
    assert result.best is None
    caption = effects_caption(result)
    assert "Differences cannot be tested: only one seed." in caption
    assert "Bold" not in caption


def test_the_best_arm_must_be_better_than_every_other(
    tmp_path: Path, plain: Path, ablations: Ablations
) -> None:
    assert effects(plain).best == "good"
    rival = {seed: value - 0.05 for seed, value in {0: 95.1, 1: 96.1, 2: 97.1}.items()}
    close = ablations(tmp_path / "close", VALUES | {"rival": rival}, study=ACCURACY)
    result = effects(close)
    assert result.best is None
    assert "Bold" not in effects_caption(result)
    assert result.table.set_index("arm").loc["good", "low"] > 0
    with pytest.raises(UserError, match="val_accuracy:min: expected max, got min"):
        effects(plain, "val_accuracy:min")


def test_a_ladder_has_the_step_of_each_rung(tmp_path: Path, ablations: Ablations) -> None:
    design = design_of("base", "same", "good", kind="ladder")
    result = effects(ablations(tmp_path / "s", VALUES, design, study=ACCURACY))
    assert result.steps is not None
    assert [(c.arm, c.against) for c in result.steps.contrasts] == [
        ("same", "base"),
        ("good", "same"),
    ]
    assert result.table["step"].tolist()[1:] == pytest.approx([0.0, 5.1])
    assert (result.table["step_low"] < result.table["step"])[1:].all()
    assert math.isnan(result.table["step"][0])


def test_arms_of_one_network_share_its_trials(tmp_path: Path, ledgers: Callable[..., Path]) -> None:
    base = {"digest": "a" * 16, "state": "done"}
    records: list[dict[str, Any]] = []
    for seed, value in enumerate((90.0, 91.0, 92.0)):
        facts = {"seed": seed, "state": "done"}
        records += [
            {**base, "arm": "base", **facts, "metrics": {"val_accuracy": value}},
            {"digest": "b" * 16, "arm": "other", **facts, "metrics": {"val_accuracy": value + 1}},
        ]
    study = {"search": None, "arms": {}, "seeds": 3, **ACCURACY}
    folder = ledgers(tmp_path / "s", records, (), study)
    with Ledger.open(folder, write=True) as ledger:
        ledger.add_proposal("twin", "a" * 16, {}, {})
    result = effects(folder)
    assert result.table["n"].tolist() == [3, 3, 3]
    assert result.values["twin"] == result.values["base"]
    assert result.comparison.degrees == 2  # two networks with three seeds, counted once
    assert "6 trials" in effects_caption(result)


def test_unequal_variances_use_paired_tests(tmp_path: Path, ablations: Ablations) -> None:
    rng = np.random.default_rng(3)
    data = {arm: rng.normal(90, sd, 30) for arm, sd in (("a", 0.1), ("b", 0.1), ("c", 5.0))}
    values = {arm: dict(enumerate(map(float, of))) for arm, of in data.items()}
    result = effects(ablations(tmp_path / "s", values, study=ACCURACY))
    assert result.comparison.method == "paired"
    raw = [ttest_rel(data[arm], data["a"]).pvalue for arm in "bc"]
    least = min(1, 2 * min(raw))
    assert sorted(result.table["p"].dropna()) == pytest.approx([least, max(least, max(raw))])
    assert math.isnan(mean_half_width(result.comparison, 30))


def test_the_caption_names_matched_arms_and_excluded_combinations(
    tmp_path: Path, ablations: Ablations
) -> None:
    arms = (
        DesignArm(name="base"),
        DesignArm(name="same", against="base", matched=MATCHED),
        DesignArm(
            name="good", against="base",
            matched=MATCHED.model_copy(update={"reached": 130.0, "problem": "no width fits"}),
        ),
    )  # fmt: skip
    out = ExcludedCombination(levels={"a": "1"}, reason="nothing to place")
    design = Design(kind="one-factor", arms=arms, match="macs", left_out=(out,))
    result = effects(ablations(tmp_path / "s", VALUES, design, study=ACCURACY))
    caption = effects_caption(result)
    for sentence in (
        "Validation accuracy (%, higher is better) of 3 arms of parts (one-factor design), "
        "trained on mnist5k for 4 epochs: mean ± standard deviation (n − 1) over n seeds.",
        "Seeds differ in initial weights, data order and augmentation",
        "Δ: difference from base, with its simultaneous 95% interval.",
        "Δ: 2 contrasts, with p adjusted for all of them.",
        "4 degrees of freedom",
        "Brown-Forsythe test on the residuals: p = ",
        "Widths of 1 arm were adjusted to equal MACs within 2 % (largest difference 1 %).",
        "† Not matched: good (+30.0 %: no width fits).",
        "Left out: 1 combination of levels (nothing to place).",
        "Throughput: AMD EPYC 9B14, 1 thread, batch 32, 28 px, float32, deploy form.",
        "Compute: 9 trials, 0.09 h of training on cpu; none failed.",
        "The test split was not used.",
    ):
        assert sentence in caption
    assert effects_caption(result) == caption


def test_the_caption_of_a_function_study_claims_nothing_of_its_data(
    tmp_path: Path, ablations: Ablations
) -> None:
    result = effects(ablations(tmp_path / "s", VALUES, study=ACCURACY))
    result.rows.trials.frame["function"] = "bench:accuracy"
    caption = effects_caption(result)
    assert "Seeds are passed to the function; all arms have the same." in caption
    assert "augmentation" not in caption
    assert "test split" not in caption


def test_sequential_seeds_keep_the_deviation_of_the_first_stage(
    tmp_path: Path, plain: Path, ablations: Ablations
) -> None:
    more = {arm: {**of, 3: 93.0, 4: 80.0} for arm, of in VALUES.items()}
    rule = (
        '{"quantity": "val_accuracy", "min": 3, "max": 10, "until": 0.3, "first_stage": [0, 1, 2],'
        ' "deviation": 0.1, "degrees": 4, "critical": 3.0, "method": "stein",'
        ' "seeds": {"base": 6, "same": 5, "good": 5}}'
    )
    added = effects(ablations(tmp_path / "a", more, study=ACCURACY, meta={"sequential": rule}))
    first = effects(plain)
    assert added.comparison.deviation == pytest.approx(first.comparison.deviation)
    assert added.comparison.degrees == first.comparison.degrees == 4
    assert added.table["missing"].tolist() == [1, 0, 0]
    assert "Number of seeds by Stein's two-stage rule: first 3 per arm" in (effects_caption(added))


def test_factorial_designs_have_main_effects(tmp_path: Path, ablations: Ablations) -> None:
    factors = tuple(Factor(name=n, levels=("0", "1"), baseline="0") for n in "ab")
    names = {"00": (0.0, 0.1), "10": (1.0, 1.1), "01": (0.0, 0.2), "11": (3.0, 3.1)}
    arms = tuple(
        DesignArm(name=n, levels={"a": n[0], "b": n[1]}, against=None if n == "00" else "00")
        for n in names
    )
    design = Design(kind="factorial", factors=factors, arms=arms)
    values = {name: dict(enumerate(of)) for name, of in names.items()}
    result = effects(ablations(tmp_path / "s", values, design, study=ACCURACY))
    assert result.factorial is not None
    effect = result.factorial.set_index("term")["effect"]
    assert effect["a"] == pytest.approx((1.05 + 3.05 - 0.05 - 0.1) / 2)
    assert effect["a × b"] == pytest.approx((3.05 - 0.1) - (1.05 - 0.05))
    sheet = factorial_sheet(result)
    row = next(row for row in sheet.rows if row[0][1].text == "a × b")
    assert row[-1][1].text.startswith("+1.95 [")
    assert (
        "difference of differences: the effect of one factor at the second level" in sheet.caption
    )
    assert result.table[["level.a", "level.b"]].to_numpy().tolist() == [[*n] for n in names]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "macs"}, "macs: does not differ between seeds"),
        ({"metric": "val_acuracy"}, "did you mean val_accuracy"),
        ({"against": "nobody"}, "unknown arm 'nobody'; choose base, same, good or none"),
        ({"margin": -1.0}, "margin -1: expected a positive difference"),
        ({"margin": math.nan}, "margin nan"),
        ({"condition": "large"}, "no trial under the condition 'large'"),
    ],
)
def test_invalid_arguments_are_refused(
    plain: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        effects(plain, **arguments)


def test_studies_with_the_same_training_are_combined_and_others_are_refused(
    tmp_path: Path, ablations: Ablations
) -> None:
    one = ablations(tmp_path / "a", VALUES, study={**ACCURACY, "study": "a"})
    two = ablations(tmp_path / "b", VALUES, study={**ACCURACY, "study": "b"})
    both = effects([one, two])
    assert both.table["arm"].tolist()[::3] == ["a: base", "b: base"]
    assert both.table["difference"].tolist()[1:] == pytest.approx([0, 5.1, 0, 0, 5.1])
    recipe = {"epochs": 4, "optimiser": {"lr": 0.1}}
    longer = ablations(tmp_path / "c", VALUES, study={**ACCURACY, "recipe": recipe})
    with pytest.raises(UserError, match=r"recipe\.optimiser\.lr: None in .*a, 0\.1 in .*c"):
        effects([one, longer])


def test_a_study_without_arms_is_refused(tmp_path: Path, ledgers: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="no arms"):
        effects(ledgers(tmp_path / "s", [{"state": "done"}], study={"arms": {}}))


def test_costs_of_learned_ratios_are_means_over_seeds(
    tmp_path: Path, ledgers: Callable[..., Path], learned: Callable[..., list[dict[str, Any]]]
) -> None:
    params = {0: 1000, 1: 3000}
    records = [
        {**record, "proposal": "dynamic", "cost": {"params": params[record["seed"]], "macs": 10}}
        for record in learned(seeds=2)
    ]
    result = effects(ledgers(tmp_path / "s", records, study={**ACCURACY, "arms": {"dynamic": {}}}))
    assert result.table["params"].tolist() == [2000]


def test_two_folders_of_one_study_are_refused(
    tmp_path: Path, plain: Path, ablations: Ablations
) -> None:
    again = ablations(tmp_path / "again", VALUES, study=ACCURACY)
    with pytest.raises(UserError, match="several of these folders hold a study called parts"):
        effects([plain, again])


def test_the_caption_counts_only_arms_whose_widths_changed(
    tmp_path: Path, ablations: Ablations
) -> None:
    as_it_is = MATCHED.model_copy(update={"before": 101.0, "width": ((8,), (8,))})
    other_mlp = as_it_is.model_copy(update={"mlp_ratio": ("2", "15/8")})
    arms = (
        DesignArm(name="base"),
        DesignArm(name="same", against="base", matched=as_it_is),
        DesignArm(name="good", against="base", matched=other_mlp),
    )
    design = Design(kind="one-factor", arms=arms, match="macs")
    caption = effects_caption(effects(ablations(tmp_path / "s", VALUES, design, study=ACCURACY)))
    assert "Widths of 1 arm were adjusted to equal MACs within 2 %" in caption
