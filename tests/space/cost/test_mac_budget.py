"""Budgets of learned ratios: allowed costs and valid budgets."""

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.ratio import LearnedRatio
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.formulas import cost_rows, sum_costs
from partialnas.space.cost.learned_blocks import blocks_with_sizes, learned_blocks, mac_range
from partialnas.space.cost.mac_budget import allowed_macs, budget_limits, uniform_sizes
from partialnas.space.errors import UserError

SPEC = InputSpec.square(32)

Strategies = Callable[..., st.SearchStrategy[Architecture]]


def learning(budget: Any, **changes: Any) -> Architecture:
    terms = {"grain": changes.pop("grain", 4), "budget": budget}
    settings = {"width": 8, "depths": [1, 1, 1, 1], "stem_stride": 2, **changes}
    return Plan.model_validate({**settings, "ratio": {"learned": terms}}).architecture()


def macs(architecture: Architecture, sizes: Any, resolution: int = 32) -> int:
    blocks = blocks_with_sizes(architecture, sizes)
    return sum_costs(cost_rows(architecture, blocks, InputSpec.square(resolution, 3, 1000))).macs


def combinations(architecture: Architecture) -> list[int]:
    """Return the cost of the network for each combination of legal sizes."""
    blocks = learned_blocks(architecture, SPEC)
    every = product(*(slot.options for slot in blocks))
    return [
        macs(architecture, {s.block_index: sizes for s, sizes in zip(blocks, one, strict=True)})
        for one in every
    ]


def test_a_share_is_relative_to_dense_convolutions() -> None:
    maps = [(8, 16), (16, 8), (32, 4), (64, 2)]
    dense = sum(9 * width**2 * side**2 for width, side in maps)
    assert allowed_macs(learning("1/3"), SPEC) == dense // 3
    assert allowed_macs(learning(0.05, grain=1), SPEC) == dense // 20
    assert allowed_macs(learning(None), SPEC) is None
    assert allowed_macs(learning("1/3").frozen(uniform_sizes(learning("1/3"), SPEC)), SPEC) is None


def test_a_whole_number_limits_the_whole_network() -> None:
    architecture = learning(None)
    start = {slot.block_index: slot.start for slot in learned_blocks(architecture, SPEC)}
    whole = macs(architecture, start)
    mixers = sum(slot.macs(slot.start) for slot in learned_blocks(architecture, SPEC))
    assert allowed_macs(learning(whole + 1000), SPEC) == mixers + 1000
    other = allowed_macs(learning(whole + 1000), InputSpec.square(32, classes=999))
    assert other == mixers + 1000 + 1280


def test_static_is_the_cost_of_the_start() -> None:
    architecture = learning("static", attention="channel")
    assert uniform_sizes(architecture, SPEC) == {
        slot.block_index: slot.start for slot in learned_blocks(architecture, SPEC)
    }
    assert compute_cost(architecture, SPEC).macs == macs(architecture, {})
    limits = budget_limits(architecture, SPEC)
    assert limits is not None
    assert limits.fixed + limits.allowed == macs(architecture, {})


@pytest.mark.parametrize(
    "attention", ["none", "channel", {"channel": "stages 1-3", "self": "stage 4"}]
)
def test_limits_match_all_combinations(attention: Any) -> None:
    architecture = learning("9/10", attention=attention, grain=16, width=(16, 32, 32, 64))
    limits = budget_limits(architecture, SPEC)
    assert limits is not None
    every = combinations(architecture)
    assert (limits.fixed + limits.min_macs, limits.fixed + limits.max_macs) == (
        min(every),
        max(every),
    )
    assert mac_range(learned_blocks(architecture, SPEC)) == (limits.min_macs, limits.max_macs)


@pytest.mark.parametrize("budget", ["1/10000", 1000, 10**12])
@pytest.mark.parametrize("attention", ["none", "channel", "self"])
def test_an_unreachable_budget_is_rejected_with_valid_ones(budget: Any, attention: str) -> None:
    settings = {"attention": attention, "width": 16}
    with pytest.raises(UserError, match=r"budget .* is out of reach: expected") as error:
        allowed_macs(learning(budget, **settings), SPEC)
    with pytest.raises(UserError, match="is out of reach"):
        compute_cost(learning(budget, **settings), SPEC)
    message = str(error.value)
    low, high = (
        int(n.replace(",", "")) for n in re.findall(r"from ([\d,]+) to ([\d,]+)", message)[0]
    )
    for limit in (low, high):
        assert compute_cost(learning(limit, **settings), SPEC).macs <= limit
        assert allowed_macs(learning(limit, **settings), SPEC) is not None
    for beyond in (low - 1, high + 1):
        with pytest.raises(UserError, match="out of reach"):
            allowed_macs(learning(beyond, **settings), SPEC)
    for share in re.findall(r"a share from (0\.\d+) to below 1", message):
        assert allowed_macs(learning(share, **settings), SPEC) is not None
        with pytest.raises(UserError, match="out of reach"):
            allowed_macs(learning(Fraction(share) - Fraction(1, 1000), **settings), SPEC)


def test_no_share_is_suggested_if_none_is_valid() -> None:
    settings = {"attention": "self", "stem_stride": 1, "width": 16, "depths": (1, 1, 1, 1)}
    with pytest.raises(UserError) as error:
        allowed_macs(learning("1/2", **settings), InputSpec.square(64))
    assert "a share" not in str(error.value)
    limit = int(re.findall(r"from ([\d,]+)", str(error.value))[0].replace(",", ""))
    assert allowed_macs(learning(limit, **settings), InputSpec.square(64)) is not None


@pytest.mark.parametrize("budget", [0.05, 0.1, "1/4", "1/2", 0.75, 0.9])
@pytest.mark.parametrize("attention", ["none", "channel"])
def test_one_ratio_for_all_layers_spends_the_budget(budget: Any, attention: str) -> None:
    architecture = learning(budget, grain=1, width=32, depths=(1, 2, 2, 1), attention=attention)
    sizes = uniform_sizes(architecture, SPEC)
    blocks, allowed = learned_blocks(architecture, SPEC), allowed_macs(architecture, SPEC)
    assert allowed is not None
    spent = sum(slot.macs(sizes[slot.block_index]) for slot in blocks)
    assert 0.975 * allowed <= spent <= allowed
    shares = [sizes[slot.block_index][0] / slot.block.width for slot in blocks]
    assert max(shares) - min(shares) <= 2 / 32
    assert compute_cost(architecture, SPEC).macs == macs(architecture, sizes)


@settings(max_examples=15, deadline=None)
@given(st.data(), st.floats(0, 1))
def test_random_networks_keep_reachable_budgets(
    learning: Strategies, data: st.DataObject, where: float
) -> None:
    free = data.draw(learning())
    resolution = 2 * free.smallest_resolution
    blocks = learned_blocks(free, InputSpec.square(resolution))
    least, most = mac_range(blocks)
    start = sum(slot.macs(slot.start) for slot in blocks)
    fixed = (
        sum_costs(cost_rows(free, free.realized, InputSpec.square(resolution, 3, 1000))).macs
        - start
    )
    budget = fixed + least + int(where * (most - least))
    settings_of_free = free.model_dump(mode="json")
    for stage in settings_of_free["stages"]:
        for part in (part for block in stage["blocks"] for part in block["parts"]):
            if isinstance(part.get("ratio"), dict):
                part["ratio"]["learned"]["budget"] = budget
    architecture = Architecture.from_data(settings_of_free)
    assert allowed_macs(architecture, InputSpec.square(resolution)) == budget - fixed
    assert compute_cost(architecture, InputSpec.square(resolution)).macs <= budget


def test_the_budget_of_free_parts_is_zero() -> None:
    static = {"learned": {"budget": "static", "grain": 1, "start": "1/2"}}
    plan = Plan.model_validate(
        {"width": 4, "depths": (1, 1, 1, 1), "operations": ("pool", "identity"), "ratio": static}
    )
    whole = compute_cost(plan.architecture(), SPEC).macs
    stated = plan.model_copy(
        update={"ratio": (LearnedRatio(budget=whole, grain=1),)}
    ).architecture()
    for architecture in (plan.architecture(), stated):
        assert allowed_macs(architecture, SPEC) == 0
        assert compute_cost(architecture, SPEC).macs == whole
