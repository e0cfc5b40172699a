"""Projection onto a budget, compared with all combinations of legal sizes."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.cost.budget_projection import project_to_budget, uniform_allocation
from partialnas.space.cost.learned_blocks import LearnedBlock, learned_blocks, mac_range
from partialnas.space.errors import UserError

Strategies = Callable[..., st.SearchStrategy[Architecture]]


def layers(**changes: Any) -> tuple[LearnedBlock, ...]:
    terms = changes.pop("terms", {"grain": 4})
    plan = {"width": 16, "depths": [1, 1, 1, 1], "stem_stride": 2, **changes}
    learned = {"learned": terms}
    ratio = [learned] * (plan.get("parts", 2) - 1)
    return learned_blocks(
        Plan.model_validate({**plan, "ratio": ratio}).architecture(), InputSpec.square(32)
    )


def spent(blocks: Sequence[LearnedBlock], sizes: Any) -> int:
    return sum(block.macs(sizes[block.block_index]) for block in blocks)


def distance(
    blocks: Sequence[LearnedBlock], targets: Sequence[Sequence[float]], sizes: Any
) -> float:
    return sum(
        ((size - target) / block.block.width) ** 2
        for block, block_targets in zip(blocks, targets, strict=True)
        for size, target in zip(
            block.learned_sizes(sizes[block.block_index]), block_targets, strict=True
        )
    )


def assert_projected(
    blocks: Sequence[LearnedBlock], targets: Sequence[Sequence[float]], allowed: int
) -> None:
    """Compare with every combination of legal sizes."""
    sizes = project_to_budget(blocks, targets, allowed)
    total = spent(blocks, sizes)
    assert total <= allowed
    assert all(sizes[block.block_index] in block.options for block in blocks)
    sums = np.zeros(1, np.int64)
    for block in blocks:
        sums = np.unique(np.add.outer(sums, list(block.costs.values())))
    best = sums[sums <= allowed].max()
    assert total >= 0.995 * best if best < 0.98 * allowed else total >= 0.975 * allowed
    if len(blocks) == 1:
        (block,) = blocks
        inside = [o for o in block.options if 0.98 * allowed <= block.costs[o] <= allowed]
        nearest = [distance(blocks, targets, {block.block_index: option}) for option in inside]
        assert not inside or distance(blocks, targets, sizes) == pytest.approx(min(nearest))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.floats(0, 1))
def test_random_networks_spend_the_budget(
    learning: Strategies, data: st.DataObject, where: float
) -> None:
    architecture = data.draw(learning())
    blocks = learned_blocks(
        architecture, InputSpec.square(2 * architecture.smallest_resolution + 3)
    )
    least, most = mac_range(blocks)
    shares = st.floats(0, 1)
    targets = [[data.draw(shares) * s.block.width for _ in s.learning.parts] for s in blocks]
    assert_projected(blocks, targets, least + int(where * 1.1 * (most - least)))


@pytest.mark.parametrize("attention", ["none", "channel", {"self": "stages 3-4"}])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("target", [0.02, 0.4, 1.0])
def test_targets_far_from_the_budget(attention: Any, share: float, target: float) -> None:
    blocks = layers(attention=attention, terms={"grain": 2})
    least, most = mac_range(blocks)
    allowed = int(least + share * (most - least))
    assert_projected(blocks, [[target * block.block.width] for block in blocks], allowed)


def test_the_projection_is_nearly_the_nearest_combination() -> None:
    blocks = layers(width=(8, 12, 16, 20), terms={"grain": 2})
    targets = [[4.0], [6.5], [13.0], [8.0]]
    allowed = mac_range(blocks)[1] // 3
    places = [block.block_index for block in blocks]
    combinations = [
        dict(zip(places, one, strict=True)) for one in product(*(s.options for s in blocks))
    ]
    inside = [one for one in combinations if 0.98 * allowed <= spent(blocks, one) <= allowed]
    assert len(inside) > 10
    best = min(distance(blocks, targets, one) for one in inside)
    assert distance(blocks, targets, project_to_budget(blocks, targets, allowed)) <= 1.02 * best


def test_without_a_limit_the_nearest_sizes_are_returned() -> None:
    blocks = layers(terms={"grain": 4})
    sizes = project_to_budget(blocks, [[9.0], [2.0], [64.0], [61.0]], None)
    assert [sizes[block.block_index][0] for block in blocks] == [8, 4, 64, 60]


def test_a_limit_above_all_costs_is_spent_as_far_as_possible() -> None:
    for attention in ("none", "channel", {"self": "stages 3-4"}):
        blocks = layers(attention=attention)
        most = mac_range(blocks)[1]
        assert spent(blocks, project_to_budget(blocks, [[4.0]] * 4, 2 * most)) == most
        assert spent(blocks, project_to_budget(blocks, [[4.0]] * 4, most)) >= 0.98 * most


def test_the_lowest_limit() -> None:
    blocks = layers(attention="channel")
    least = mac_range(blocks)[0]
    with pytest.raises(UserError, match=f"the minimum is {least:,}"):
        project_to_budget(blocks, [[4.0]] * 4, least - 1)
    assert spent(blocks, project_to_budget(blocks, [[60.0]] * 4, least)) == least


def test_many_wide_layers_and_several_parts() -> None:
    for parts in (2, 3):
        blocks = layers(width=(256,) * 4, depths=(4, 4, 4, 4), parts=parts, terms={"grain": 4})
        least, most = mac_range(blocks)
        allowed = (least + most) // 3
        targets = [[(i % 7 + 1) * 16.0] * (parts - 1) for i in range(len(blocks))]
        sizes = project_to_budget(blocks, targets, allowed)
        assert 0.98 * allowed <= spent(blocks, sizes) <= allowed


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_uniform_allocation_keeps_the_proportions_of_parts(share: float) -> None:
    blocks = layers(width=(64,) * 4, parts=3, operations=["conv", "conv", "identity"],
                   terms={"grain": 1, "start": "1/3"})  # fmt: skip
    least, most = mac_range(blocks)
    sizes = uniform_allocation(blocks, [(0.3, 0.1)] * 4, least + share * (most - least))
    assert spent(blocks, sizes) >= 0.97 * (least + share * (most - least))
    for first, second, _ in sizes.values():
        assert first / second == pytest.approx(3, rel=0.35)
    assert max(s[0] for s in sizes.values()) - min(s[0] for s in sizes.values()) <= 6
