"""Twins matched by formula, compared with counts of built networks and with all smaller changes."""

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
from partialnas.space.cost.cost import compute_cost, formula_cost
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
    """Return arm, baseline, matched cost and the arm's twin, for random pairs of plans."""
    rng = random.Random(0)
    drawn = [(random_plan(rng), random_plan(rng)) for _ in range(pairs)]
    costs = [(arm, baseline, of) for arm, baseline in drawn for of in (macs, params)]
    return [(arm, other, of, cost_matched_twin(arm, of(other), of)) for arm, other, of in costs]


@pytest.mark.parametrize("pairs", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_twins_of_random_pairs_are_within_two_percent(pairs: int) -> None:
    for arm, baseline, cost_of, twin in twins(pairs):
        assert twin.problem == ""
        assert twin.original_cost == cost_of(arm)
        assert twin.final_cost == cost_of(twin.plan)
        assert twin.final_cost == pytest.approx(cost_of(baseline), rel=0.02)
        sizes = {"width": twin.plan.width, "mlp_ratio": twin.plan.mlp_ratio}
        assert twin.plan == arm.model_copy(update=sizes)


def test_twins_keep_width_proportions_and_mlp_ratio() -> None:
    for arm, _, _, twin in twins(20):
        assert twin.plan.mlp_ratio == arm.mlp_ratio
        shares = [
            ((w - 1) / before, (w + 1) / before)
            for stage, (w, before) in enumerate(zip(twin.plan.widths, arm.widths, strict=True))
            if buildable(narrowed(twin.plan, stage))
        ]
        assert max(low for low, _ in shares) <= min(high for _, high in shares)


def narrowed(plan: Plan, stage: int) -> Plan:
    widths = [width - (index == stage) for index, width in enumerate(plan.widths)]
    return plan.model_copy(update={"width": tuple(widths)})


def test_built_twins_have_the_target_parameters() -> None:
    def counted(plan: Plan) -> int:
        return sum(weight.numel() for weight in Network(plan.architecture(), 1, 10).parameters())

    for _, baseline, cost_of, twin in twins(20):
        if cost_of is params:
            assert abs(counted(twin.plan) / counted(baseline) - 1) <= 0.02


@pytest.mark.slow
def test_built_twins_have_the_target_macs() -> None:
    def counted(plan: Plan) -> int:
        return count_ops(Network(plan.architecture(), 1, 10), InputSpec.square(RESOLUTION, 1)).macs

    for _, baseline, cost_of, twin in twins(20):
        if cost_of is macs:
            assert abs(counted(twin.plan) / counted(baseline) - 1) <= 0.02


@pytest.mark.parametrize("tolerance", [0.02, 0.005])
@pytest.mark.parametrize("factor", [0.9, 0.95, 1.05, 1.1])
@pytest.mark.parametrize("attention", ["channel", {"self": "stage 3"}])
def test_no_smaller_change_is_within_the_tolerance(
    attention: object, factor: float, tolerance: float
) -> None:
    plan = small(width=8, depths=(1, 1, 1, 1), attention=attention, parts=3)
    target = factor * macs(plan)
    twin = cost_matched_twin(plan, target, macs, tolerance)
    assert twin.problem == ""
    smaller = list(smaller_changes(plan, width_change(twin.plan, plan.widths, plan.mlp_ratio)))
    assert len(smaller) > 1
    assert all(abs(macs(other) / target - 1) > tolerance for other in smaller)


def smaller_changes(plan: Plan, limit: float) -> Iterator[Plan]:
    """Yield buildable plans with smaller changes: widths in channels, MLP ratios in eighths."""
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
def test_a_plan_within_the_tolerance_is_unchanged(share: float) -> None:
    plan = small(width=(9, 20, 31, 70), mlp_ratio="5/3")
    twin = cost_matched_twin(plan, macs(plan) / share, macs)
    assert twin == Twin(plan, macs(plan), macs(plan))
    assert twin.plan is plan


def test_the_mlp_ratio_changes_where_heads_make_width_steps_coarse() -> None:
    plan = small(width=8, parts=1, operations=("attention",), attention="self", heads=8)
    twin = cost_matched_twin(plan, 0.95 * params(plan), params)
    assert twin.problem == ""
    assert twin.plan.widths == plan.widths
    assert twin.plan.mlp_ratio < 2
    assert all((w * twin.plan.mlp_ratio).denominator == 1 for w in plan.widths)


def test_coarse_steps_are_reported() -> None:
    plan = small(width=8, parts=1, operations=("attention",), attention="self", heads=8)
    twin = cost_matched_twin(plan, 0.9 * params(plan), params, tolerance=0.0001)
    assert "the next valid widths overshoot" in twin.problem
    assert f"the nearest costs {twin.final_cost:,.0f}" in twin.problem
    assert twin.final_cost == params(twin.plan) != twin.original_cost


@pytest.mark.parametrize(("target", "limit"), [(1, "narrowest"), (1e12, "widest")])
def test_unreachable_targets_are_reported_with_the_nearest_plan(target: float, limit: str) -> None:
    plan = small(width=16)
    twin = cost_matched_twin(plan, target, macs)
    assert f"no twin within 2.0% of {target:,.0f}" in twin.problem
    assert f"at the {limit} valid widths" in twin.problem
    change = width_change(twin.plan, plan.widths, plan.mlp_ratio)
    assert max(change, math.log(8)) == pytest.approx(math.log(8))
    assert abs(math.log(twin.final_cost / target)) < abs(math.log(twin.original_cost / target))


def test_plans_without_a_cost_are_skipped() -> None:
    plan = small(width=16)

    def refusing(other: Plan) -> float:
        if other.widths[3] % 2:
            raise UserError("odd")
        return macs(other)

    twin = cost_matched_twin(plan, 1.3 * macs(plan), refusing)
    assert twin.problem == ""
    assert twin.plan.widths[3] % 2 == 0
    with pytest.raises(UserError, match="odd"):
        cost_matched_twin(small(width=(8, 8, 8, 9)), 1e6, refusing)


def test_settings_of_single_blocks_limit_the_widths() -> None:
    plan = small(width=8, depths=(1, 1, 1, 1))
    changes = {"parts": 1, "operations": ("attention",), "attention": "self", "heads": 4}

    def build(other: Plan) -> Architecture:
        return other.architecture(lambda stage, _: changes if stage == 3 else {})

    def weights(other: Plan) -> float:
        return compute_cost(build(other), InputSpec.square(RESOLUTION, 1, 10)).params

    for factor in (0.7, 0.8, 1.3, 1.6):
        twin = cost_matched_twin(plan, factor * weights(plan), weights, build=build)
        assert twin.problem == ""
        assert twin.plan.widths[3] % 4 == 0
        assert weights(twin.plan) == pytest.approx(factor * weights(plan), rel=0.02)


@pytest.mark.parametrize("share", ["1/9", "1/4", "1/2"])
def test_learned_ratios_cost_their_budget(share: str) -> None:
    widths = {"width": 32, "depths": (1, 1, 1, 1)}
    learned = small(ratio={"learned": {"budget": share, "grain": 1}}, **widths)
    dense = sum(9 * w**2 * side**2 for w, side in zip(learned.widths, (14, 7, 3, 1), strict=True))
    without = macs(small(parts=1, operations=("identity",), **widths))
    assert macs(learned) - without == pytest.approx(float(Fraction(share)) * dense, rel=0.01)


def test_learned_ratios_have_twins() -> None:
    learned = small(ratio={"learned": {"budget": "1/4"}}, width=16)
    static = small(width=16)
    assert macs(learned) > 1.2 * macs(static)
    twin = cost_matched_twin(learned, macs(static), macs)
    assert twin.problem == ""
    assert macs(twin.plan) == pytest.approx(macs(static), rel=0.02)


def test_a_budget_for_the_whole_network_cannot_be_matched() -> None:
    plan = small(ratio={"learned": {"budget": 1_500_000}}, width=16)
    twin = cost_matched_twin(plan, 1_000_000, macs)
    assert "no twin within 2.0% of 1,000,000" in twin.problem
    assert twin.final_cost == pytest.approx(1_500_000, rel=0.02)
