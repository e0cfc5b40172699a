"""Capacity twins against counts of built networks, and against all smaller changes."""

import math
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.resizing import Twin, width_change
from partialnas.space.cost.cost import cost, formula_cost
from partialnas.space.cost.match_cost import cost_matched_twin
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import count_ops

RESOLUTION = 28
ATTENTIONS = [
    "none",
    "channel",
    {"channel": "stages 1-3"},
    {"channel": "stages 1-2", "self": "stage 3"},
    {"self": "stages 3-4"},
]


def macs(plan: Plan) -> float:
    return formula_cost(plan.architecture(), "macs", InputSpec.square(RESOLUTION, 1, 10))


def params(plan: Plan) -> float:
    return formula_cost(plan.architecture(), "params", InputSpec.square(RESOLUTION, 1, 10))


def small(**settings: Any) -> Plan:
    return Plan.model_validate(
        {"stem_stride": 2, "depths": (1, 1, 2, 1), "head_width": 256} | settings
    )


def random_plan(rng: random.Random) -> Plan:
    while True:
        plan = small(
            width=rng.choice([8, 12, 16, 24, 32]),
            parts=rng.randint(1, 6),
            ratio=rng.choice(["1/8", "1/4"]),
            attention=rng.choice(ATTENTIONS),
            pat_sp=rng.choice([False, True, "stages 1-2"]),
            depths=rng.choice([(1, 1, 1, 1), (1, 1, 2, 1), (1, 2, 3, 1)]),
        )
        try:
            plan.architecture()
        except UserError:
            continue
        return plan


Cost = Callable[[Plan], float]


@cache
def twins(pairs: int) -> list[tuple[Plan, Plan, Cost, Twin]]:
    """Of random pairs the arm, the baseline, what is equal, and the arm's twin."""
    rng = random.Random(0)
    drawn = [(random_plan(rng), random_plan(rng)) for _ in range(pairs)]
    costs = [(arm, baseline, of) for arm, baseline in drawn for of in (macs, params)]
    return [(arm, other, of, cost_matched_twin(arm, of(other), of)) for arm, other, of in costs]


@pytest.mark.parametrize("pairs", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_random_pairs_have_twins_within_two_percent(pairs: int) -> None:
    for arm, baseline, cost_of, found in twins(pairs):
        assert found.problem == ""
        assert found.original_cost == cost_of(arm)
        assert found.final_cost == cost_of(found.plan)
        assert found.final_cost == pytest.approx(cost_of(baseline), rel=0.02)
        sizes = {"width": found.plan.width, "mlp_ratio": found.plan.mlp_ratio}
        assert found.plan == arm.model_copy(update=sizes)


def test_stages_keep_their_proportions_and_the_mlp_its_ratio() -> None:
    for arm, _, _, found in twins(20):
        assert found.plan.mlp_ratio == arm.mlp_ratio
        shares = [
            ((w - 1) / before, (w + 1) / before)
            for stage, (w, before) in enumerate(zip(found.plan.widths, arm.widths, strict=True))
            if buildable(narrowed(found.plan, stage))
        ]
        assert max(low for low, _ in shares) <= min(high for _, high in shares)


def narrowed(plan: Plan, stage: int) -> Plan:
    widths = [width - (index == stage) for index, width in enumerate(plan.widths)]
    return plan.model_copy(update={"width": tuple(widths)})


def test_built_networks_of_twins_have_as_many_parameters() -> None:
    def counted(plan: Plan) -> int:
        return sum(weight.numel() for weight in Network(plan.architecture(), 1, 10).parameters())

    for _, baseline, cost_of, found in twins(20):
        if cost_of is params:
            assert abs(counted(found.plan) / counted(baseline) - 1) <= 0.02


@pytest.mark.slow
def test_built_networks_of_twins_do_as_many_multiplications() -> None:
    def counted(plan: Plan) -> int:
        return count_ops(Network(plan.architecture(), 1, 10), InputSpec.square(RESOLUTION, 1)).macs

    for _, baseline, cost_of, found in twins(20):
        if cost_of is macs:
            assert abs(counted(found.plan) / counted(baseline) - 1) <= 0.02


@pytest.mark.parametrize("tolerance", [0.02, 0.005])
@pytest.mark.parametrize("factor", [0.9, 0.95, 1.05, 1.1])
@pytest.mark.parametrize("attention", ["channel", {"self": "stage 3"}])
def test_no_smaller_change_is_within_the_tolerance(
    attention: object, factor: float, tolerance: float
) -> None:
    plan = small(width=8, depths=(1, 1, 1, 1), attention=attention, parts=3)
    target = factor * macs(plan)
    found = cost_matched_twin(plan, target, macs, tolerance)
    assert found.problem == ""
    smaller = list(smaller_changes(plan, width_change(plan, found.plan)))
    assert len(smaller) > 1
    assert all(abs(macs(other) / target - 1) > tolerance for other in smaller)


def smaller_changes(plan: Plan, limit: float) -> Iterator[Plan]:
    """All plans that are built with smaller changes: widths in channels, MLPs in eighths."""
    widths = [
        [w for w in range(1, 2 * start) if abs(math.log(w / start)) < limit]
        for start in plan.widths
    ]
    ratios = [plan.mlp_ratio + Fraction(eighths, 8) for eighths in range(-4, 5)]
    for *width, ratio in product(*widths, ratios):
        other = plan.model_copy(update={"width": tuple(width), "mlp_ratio": ratio})
        hidden = [
            w * ratio / (start * plan.mlp_ratio)
            for w, start in zip(width, plan.widths, strict=True)
        ]
        if max(abs(math.log(share)) for share in hidden) < limit - 1e-9 and buildable(other):
            yield other


def buildable(plan: Plan) -> bool:
    try:
        plan.architecture()
    except UserError:
        return False
    return True


@given(st.floats(0.98, 1.02, exclude_min=True, exclude_max=True))
def test_a_plan_within_the_tolerance_stays_as_it_is(share: float) -> None:
    plan = small(width=(9, 20, 31, 70), mlp_ratio="5/3")
    found = cost_matched_twin(plan, macs(plan) / share, macs)
    assert found == Twin(plan, macs(plan), macs(plan))
    assert found.plan is plan


def test_the_mlp_helps_where_channels_go_in_steps_of_heads() -> None:
    plan = small(width=8, parts=1, operations=("attention",), attention="self", heads=8)
    found = cost_matched_twin(plan, 0.95 * params(plan), params)
    assert found.problem == ""
    assert found.plan.widths == plan.widths
    assert found.plan.mlp_ratio < 2
    assert all((w * found.plan.mlp_ratio).denominator == 1 for w in plan.widths)


def test_coarse_steps_are_told() -> None:
    plan = small(width=8, parts=1, operations=("attention",), attention="self", heads=8)
    found = cost_matched_twin(plan, 0.9 * params(plan), params, tolerance=0.0001)
    assert "the next widths that can be built go beyond" in found.problem
    assert f"the nearest costs {found.final_cost:,.0f}" in found.problem
    assert found.final_cost == params(found.plan) != found.original_cost


@pytest.mark.parametrize(("target", "way"), [(1, "narrow"), (1e12, "wide")])
def test_targets_out_of_reach_are_told_with_the_nearest(target: float, way: str) -> None:
    plan = small(width=16)
    found = cost_matched_twin(plan, target, macs)
    assert f"no twin within 2.0% of {target:,.0f}" in found.problem
    assert f"as {way} as it can be built" in found.problem
    assert max(width_change(plan, found.plan), math.log(8)) == pytest.approx(math.log(8))
    assert abs(math.log(found.final_cost / target)) < abs(math.log(found.original_cost / target))


def test_prices_without_a_value_are_passed_over() -> None:
    plan = small(width=16)

    def refusing(other: Plan) -> float:
        if other.widths[3] % 2:
            raise UserError("odd")
        return macs(other)

    found = cost_matched_twin(plan, 1.3 * macs(plan), refusing)
    assert found.problem == ""
    assert found.plan.widths[3] % 2 == 0
    with pytest.raises(UserError, match="odd"):
        cost_matched_twin(small(width=(8, 8, 8, 9)), 1e6, refusing)


def test_settings_of_single_blocks_decide_what_can_be_built() -> None:
    plan = small(width=8, depths=(1, 1, 1, 1))
    changes = {"parts": 1, "operations": ("attention",), "attention": "self", "heads": 4}

    def build(other: Plan) -> Architecture:
        return other.architecture(lambda stage, _: changes if stage == 3 else {})

    def weights(other: Plan) -> float:
        return cost(build(other), InputSpec.square(RESOLUTION, 1, 10)).params

    for factor in (0.7, 0.8, 1.3, 1.6):
        found = cost_matched_twin(plan, factor * weights(plan), weights, build=build)
        assert found.problem == ""
        assert found.plan.widths[3] % 4 == 0
        assert weights(found.plan) == pytest.approx(factor * weights(plan), rel=0.02)


@pytest.mark.parametrize("share", ["1/9", "1/4", "1/2"])
def test_learned_ratios_cost_what_their_budget_allows(share: str) -> None:
    widths = {"width": 32, "depths": (1, 1, 1, 1)}
    learned = small(ratio={"learned": {"budget": share, "grain": 1}}, **widths)
    dense = sum(9 * w**2 * side**2 for w, side in zip(learned.widths, (14, 7, 3, 1), strict=True))
    without = macs(small(parts=1, operations=("identity",), **widths))
    assert macs(learned) - without == pytest.approx(float(Fraction(share)) * dense, rel=0.01)


def test_learned_ratios_have_twins() -> None:
    learned = small(ratio={"learned": {"budget": "1/4"}}, width=16)
    static = small(width=16)
    assert macs(learned) > 1.2 * macs(static)
    found = cost_matched_twin(learned, macs(static), macs)
    assert found.problem == ""
    assert macs(found.plan) == pytest.approx(macs(static), rel=0.02)


def test_a_budget_for_the_whole_network_is_told_to_leave_nothing_to_match() -> None:
    plan = small(ratio={"learned": {"budget": 1_500_000}}, width=16)
    found = cost_matched_twin(plan, 1_000_000, macs)
    assert "no twin within 2.0% of 1,000,000" in found.problem
    assert found.final_cost == pytest.approx(1_500_000, rel=0.02)
