"""Ablation sections of studies, and the arms compiled from them."""

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from partialnas.runs.config.design import Design
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import resolve_task
from partialnas.search.ablation import cost_matching
from partialnas.search.ablation.compile import compile_ablation
from partialnas.search.ablation.cost_matching import make_matcher
from partialnas.search.study.ablation_spec import AblationSpec
from partialnas.search.study.fidelity import Condition
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.match_cost import cost_matched_twin
from partialnas.space.errors import UserError

BASE = Plan(stem_stride=1, width=16, depths=(1, 1, 1, 1), head_width=32)
CONDITION = Condition("", resolve_task("digits"), Recipe(), Protocol())

FACTORS: dict[str, Any] = {
    "parts": [2, 3],
    "pat_sp": [False, True],
    "attention": {"none": {}, "channel": {"channel": "stages 1-3"}},
}


def make_spec(design: str, **changes: Any) -> AblationSpec:
    return AblationSpec.model_validate({"design": design, "factors": FACTORS, **changes})


def compile_design(design: str, **changes: Any) -> tuple[Design, dict[str, Architecture]]:
    stated = make_spec(design, **changes)
    match = make_matcher(stated.match, stated.effective_tolerance, CONDITION)
    return compile_ablation(stated, BASE, Recipe(), match)


def network(**changes: Any) -> str:
    return Plan.model_validate({**BASE.model_dump(), **changes}).architecture().digest


def macs(architecture: Architecture) -> int:
    task = CONDITION.task
    return compute_cost(architecture, task.input_spec).macs


ON = {"parts": 3, "pat_sp": True, "attention": {"channel": "stages 1-3"}}


def test_one_factor_changes_one_setting_of_the_baseline_at_a_time() -> None:
    design, networks = compile_design("one-factor", factors=FACTORS | {"ratio": ["1/8", "1/2"]})
    expected = {
        "baseline": network(),
        "parts=3": network(parts=3),
        "pat_sp=true": network(pat_sp=True),
        "attention=channel": network(attention={"channel": "stages 1-3"}),
        "ratio=1/8": network(ratio="1/8"),
        "ratio=1/2": network(ratio="1/2"),
    }
    assert {name: arch.digest for name, arch in networks.items()} == expected
    assert list(networks) == [arm.name for arm in design.arms]
    assert {arm.against for arm in design.arms[1:]} == {"baseline"}
    assert design.factors[3].levels == ("1/4", "1/8", "1/2")


def test_ingredients_are_left_out_added_and_stacked() -> None:
    _, without = compile_design("leave-one-out")
    assert without["full"].digest == network(**ON)
    assert without["without parts"].digest == network(**(ON | {"parts": 2}))
    _, alone = compile_design("add-one-in")
    assert alone["bare"].digest == network()
    assert alone["with pat_sp"].digest == network(pat_sp=True)
    _, ladder = compile_design("ladder")
    assert list(ladder) == ["bare", "+ parts", "+ pat_sp", "+ attention"]
    assert ladder["+ pat_sp"].digest == network(parts=3, pat_sp=True)
    assert ladder["+ attention"].digest == network(**ON)


def test_an_ingredient_can_be_written_as_settings_of_some_stages() -> None:
    design, networks = compile_design("ladder", factors={"PAT_sf": {"stage 4.attention": "self"}})
    assert design.factors[0].levels == ("without", "with")
    assert networks["+ PAT_sf"].digest == network(attention={"self": "stage 4"})


def test_a_factorial_design_has_every_combination_once() -> None:
    design, networks = compile_design(
        "factorial", factors=FACTORS | {"ratio": ["1/4", "1/8", "1/2"]}
    )
    combinations = itertools.product([2, 3], [False, True], ["none", "channel"], [4, 8, 2])
    expected = {
        network(
            parts=parts,
            pat_sp=pat_sp,
            attention="none" if kind == "none" else {kind: "stages 1-3"},
            ratio=f"1/{share}",
        )
        for parts, pat_sp, kind, share in combinations
    }
    assert {arch.digest for arch in networks.values()} == expected
    assert len(networks) + len(design.left_out) == 24
    assert design.arms[0].against is None
    assert networks[design.arms[0].name].digest == network()


def test_a_fractional_design_is_balanced_and_contains_the_baseline() -> None:
    factors = FACTORS | {"mlp_ratio": [2, 1], "ratio": ["1/4", "1/2"]}
    design, networks = compile_design("fractional", factors=factors, resolution=3)
    assert len(networks) == 8
    assert networks[design.arms[0].name].digest == network()
    for name in factors:
        assert set(Counter(arm.levels[name] for arm in design.arms).values()) == {4}
    for one, other in itertools.combinations(factors, 2):
        pairs = Counter((arm.levels[one], arm.levels[other]) for arm in design.arms)
        assert set(pairs.values()) == {2}
    assert design.aliases


def test_combinations_excluded_by_when_are_left_out() -> None:
    factors = {
        "attention": ["none", "self"],
        "heads": {"values": [4, 2], "when": {"attention": ["self"]}},
    }
    design, _ = compile_design("factorial", factors=factors)
    assert [arm.levels for arm in design.arms] == [
        {"attention": "none", "heads": "4"},
        {"attention": "self", "heads": "4"},
        {"attention": "self", "heads": "2"},
    ]
    assert [row.levels for row in design.left_out] == [{"attention": "none", "heads": "2"}]
    assert "only if attention is self" in design.left_out[0].reason
    del factors["heads"]["when"]  # type: ignore[attr-defined]
    unsaid, _ = compile_design("factorial", factors=factors)
    assert "same network" in unsaid.left_out[0].reason


def test_levels_that_cannot_be_built_together_are_left_out() -> None:
    factors = {"width": [16, 4], "parts": [2, 6]}
    design, _ = compile_design("factorial", factors=factors)
    assert [row.levels for row in design.left_out] == [{"width": "4", "parts": "6"}]
    assert "stage 1" in design.left_out[0].reason


def test_a_factor_can_vary_the_recipe() -> None:
    factors = FACTORS | {"augmentation": {"none": {}, "mixup": {"recipe.mixup": 0.2}}}
    design, networks = compile_design("factorial", factors=factors)
    assert len(networks) == 16
    mixed = [arm for arm in design.arms if arm.levels["augmentation"] == "mixup"]
    assert {arm.recipe["mixup"] for arm in mixed} == {0.2}
    assert len(mixed) == 8
    plain, _ = compile_design("one-factor", factors={"recipe.mixup": [0.2, 0.4]})
    assert plain.factors[0].levels == ("baseline", "0.2", "0.4")


def test_each_stratum_has_its_own_baseline() -> None:
    factors = {"size": {"small": {"width": 8}, "large": {"width": 24}}, "parts": [2, 3, 4]}
    design, networks = compile_design("one-factor", factors=factors, within=["size"], match="macs")
    assert [arm.against for arm in design.arms] == [
        *[None, "size=small, baseline", "size=small, baseline"],
        *[None, "size=large, baseline", "size=large, baseline"],
    ]
    for arm in design.arms:
        base = networks[arm.against or arm.name]
        assert abs(macs(networks[arm.name]) / macs(base) - 1) <= 0.02


@pytest.mark.parametrize("quantity", ["macs", "params"])
def test_every_arm_costs_as_much_as_its_baseline(quantity: str) -> None:
    factors = {"ratio": ["1/8", "1/4", "1/2"], "parts": [1, 2, 4], "attention": ["none", "self"]}
    design, networks = compile_design("factorial", factors=factors, match=quantity)
    task = CONDITION.task
    costs = {
        name: getattr(compute_cost(arch, task.input_spec), quantity)
        for name, arch in networks.items()
    }
    base = costs[design.arms[0].name]
    for arm in design.arms[1:]:
        assert arm.matched is not None
        assert arm.matched.reached == costs[arm.name]
        assert abs(costs[arm.name] / base - 1) <= 0.02 or arm.matched.problem


def test_a_recorded_twin_is_kept() -> None:
    stated = make_spec("one-factor", factors={"ratio": ["1/2"]}, match="macs")
    match = make_matcher("macs", 0.02, CONDITION)
    design, _ = compile_ablation(stated, BASE, Recipe(), match)
    matched = design.arms[1].matched
    assert matched is not None
    other = matched.model_copy(update={"width": (matched.width[0], (12, 24, 48, 96))})
    recorded = design.model_copy(
        update={"arms": (design.arms[0], design.arms[1].model_copy(update={"matched": other}))}
    )
    again, networks = compile_ablation(stated, BASE, Recipe(), match, recorded)
    assert networks["ratio=1/2"].widths == (12, 24, 48, 96)
    assert again.arms[1].matched == other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": {"heads": [16, 4]}}, "factors.heads: has no effect: 4: builds"),
        ({"factors": {"parts": [2]}}, "its only level is the baseline's"),
        ({"factors": {"width": [8]}, "match": "macs"}, "factors.width: has no effect"),
        (
            {"factors": {"parts": [2, 3, 4]}, "design": "ladder"},
            "a ladder design needs exactly two levels",
        ),
        ({"baseline": "partialnet_t9"}, "unknown preset 'partialnet_t9'"),
        ({"baseline": {"parts": 6, "width": 4}}, "baseline: stage 1"),
        (
            {"factors": {"a": {"b=c": {"parts": 3}}, "a=b": {"c": {"width": 12}}}},
            "duplicate arm name a=b=c",
        ),
        (
            {"factors": {"parts": {"values": [2, 3], "when": {"width": 13}}, "width": [16, 8]}},
            "factors.parts.when: unknown level '13' of width; choose 16 or 8",
        ),
    ],
)
def test_ablations_that_cannot_run_are_rejected(changes: dict[str, Any], message: str) -> None:
    changes = {"design": "one-factor", **changes}
    with pytest.raises(UserError) as error:
        compile_design(changes.pop("design"), **changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": {}}, "at least 1 item"),
        (
            {"factors": {"part": [2]}},
            "part: a factor with a list of values must be named like a setting",
        ),
        ({"factors": {"part": [2]}}, "unknown setting 'part'; did you mean parts"),
        ({"factors": {"recipe.lr": [1e-2, -1]}}, "recipe.lr: input should be greater than 0"),
        ({"factors": {"": {"parts": 3}}}, "must not be empty"),
        ({"factors": {"a": {" ": {"parts": 3}}}}, "must not be empty"),
        ({"factors": {"parts": []}}, "parts: expected at least one level"),
        ({"factors": {"parts": [2, 2]}}, "duplicate level 2"),
        ({"factors": {"parts": [2, 9]}}, "parts: expected a whole number from 1 to 8, got 9"),
        ({"factors": {"parts": 3}}, "parts: expected a list of levels"),
        (
            {"factors": {"a": {"b": {"partz": 3}}}},
            "a: unknown setting 'partz'; did you mean parts?",
        ),
        ({"factors": {"a": {"b": {"wholly": 3}}}}, "expected settings such as"),
        (
            {"factors": {"mixup": {"recipe.mixupp": 0.2}}},
            "mixup: recipe.mixupp: the recipe has no such setting; did you mean mixup?",
        ),
        ({"factors": {"a": {"mixup": 0.2}}}, "unknown setting 'mixup'; did you mean recipe.mixup?"),
        (
            {"factors": {"a": {"pat_spp": True}}},
            "a: unknown setting 'pat_spp'; did you mean pat_sp? ",
        ),
        ({"factors": {"pat_spp": [True]}}, "unknown setting 'pat_spp'; did you mean pat_sp? "),
        ({"factors": {"stage 5.parts": [2, 3]}}, "stage 5.parts"),
        ({"factors": {"recipe.threads": [1, 2]}}, "recipe.threads"),
        ({"within": ["size"]}, "within: unknown factor 'size'"),
        ({"within": [*FACTORS]}, "at least one factor must not be listed"),
        ({"within": ["parts", "parts"]}, "within: a factor is listed twice"),
        (
            {"factors": {"parts": {"values": [2], "when": {"x": [1]}}}},
            "'x' is not another factor",
        ),
        ({"margin": {"val_nll": 0}}, "expected a number above 0"),
        ({"design": "two-factor"}, "one-factor"),
    ],
)
def test_errors_are_reported_with_their_paths(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        make_spec(**{"design": "one-factor", **changes})
    assert message in str(error.value)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "parts": st.lists(st.integers(1, 8), min_size=2, max_size=4, unique=True),
            "ratio": st.lists(st.sampled_from(["1/8", "1/4", "1/2"]), min_size=2, unique=True),
            "attention": st.lists(
                st.sampled_from(["none", "channel", "spatial", "self"]), min_size=2, unique=True
            ),
            "recipe.mixup": st.lists(st.sampled_from([0.0, 0.1, 0.2]), min_size=2, unique=True),
            "stages 2-3.pat_sp": st.just([False, True]),
        },
    ).filter(bool)
)
@settings(max_examples=30, deadline=None)
def test_an_ablation_survives_a_round_trip(factors: dict[str, Any]) -> None:
    stated = make_spec("factorial", factors=factors)
    assert AblationSpec.model_validate(stated.model_dump(mode="json")) == stated
    design, networks = compile_ablation(stated, BASE, Recipe(), None)
    assert Design.model_validate_json(design.model_dump_json()) == design
    combinations = 1
    for factor in design.factors:
        combinations *= len(factor.levels)
    assert len(networks) + len(design.left_out) == combinations


def strata(count: int) -> dict[str, Any]:
    """Return factors whose strata differ in the learning rate alone, with 3 arms in each."""
    rates = {f"lr{i}": {"recipe.lr": 0.001 * (i + 1)} for i in range(count)}
    return {"factors": {"rate": rates, "parts": [2, 3], "pat_sp": [False, True]}}


def test_the_number_of_arms_is_limited_over_all_strata() -> None:
    message = r"334 strata of 3 arms are 1,002, more than 1,000"
    with pytest.raises(UserError, match=message):
        compile_design("one-factor", within=["rate"], match="macs", **strata(334))


def test_strata_that_differ_in_the_recipe_share_the_search_for_twins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searches = []

    def counted(plan: Plan, *arguments: Any) -> Any:
        searches.append(plan)
        return cost_matched_twin(plan, *arguments)

    monkeypatch.setattr(cost_matching, "cost_matched_twin", counted)
    design, networks = compile_design("one-factor", within=["rate"], match="macs", **strata(20))
    assert len(design.arms) == 60
    assert len(searches) == 2
    assert len({networks[arm.name].digest for arm in design.arms}) == 3
