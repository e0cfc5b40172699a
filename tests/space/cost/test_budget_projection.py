"""Settling on legal sizes within a budget, against all combinations."""

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
    return learned_blocks(Plan.model_validate({**plan, "ratio": ratio}).architecture(), InputSpec.square(32))


def spent(found: Sequence[LearnedBlock], sizes: Any) -> int:
    return sum(slot.macs(sizes[slot.block_index]) for slot in found)


def distance(found: Sequence[LearnedBlock], wanted: Sequence[Sequence[float]], sizes: Any) -> float:
    return sum(
        ((size - want) / slot.block.width) ** 2
        for slot, own in zip(found, wanted, strict=True)
        for size, want in zip(slot.learned_sizes(sizes[slot.block_index]), own, strict=True)
    )


def assert_settled(
    found: Sequence[LearnedBlock], wanted: Sequence[Sequence[float]], allowed: int
) -> None:
    """Holds it against every combination of legal sizes."""
    sizes = project_to_budget(found, wanted, allowed)
    total = spent(found, sizes)
    assert total <= allowed
    assert all(sizes[slot.block_index] in slot.options for slot in found)
    sums = np.zeros(1, np.int64)
    for slot in found:
        sums = np.unique(np.add.outer(sums, list(slot.costs.values())))
    best = sums[sums <= allowed].max()
    assert total >= 0.995 * best if best < 0.98 * allowed else total >= 0.975 * allowed
    if len(found) == 1:
        (slot,), (own,) = found, wanted
        inside = [o for o in slot.options if 0.98 * allowed <= slot.costs[o] <= allowed]
        nearest = [distance(found, [own], {slot.block_index: option}) for option in inside]
        assert not inside or distance(found, [own], sizes) == pytest.approx(min(nearest))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.floats(0, 1))
def test_as_much_as_any_combination_spends(
    learning: Strategies, data: st.DataObject, where: float
) -> None:
    architecture = data.draw(learning())
    found = learned_blocks(architecture, InputSpec.square(2 * architecture.smallest_resolution + 3))
    least, most = mac_range(found)
    shares = st.floats(0, 1)
    wanted = [[data.draw(shares) * s.block.width for _ in s.learning.parts] for s in found]
    assert_settled(found, wanted, least + int(where * 1.1 * (most - least)))


@pytest.mark.parametrize("attention", ["none", "channel", {"self": "stages 3-4"}])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("wanted", [0.02, 0.4, 1.0])
def test_wants_far_from_the_budget(attention: Any, share: float, wanted: float) -> None:
    found = layers(attention=attention, terms={"grain": 2})
    least, most = mac_range(found)
    allowed = int(least + share * (most - least))
    assert_settled(found, [[wanted * slot.block.width] for slot in found], allowed)


def test_the_nearest_of_all_combinations_within_two_per_cent() -> None:
    found = layers(width=(8, 12, 16, 20), terms={"grain": 2})
    wanted = [[4.0], [6.5], [13.0], [8.0]]
    allowed = mac_range(found)[1] // 3
    places = [slot.block_index for slot in found]
    every = [dict(zip(places, one, strict=True)) for one in product(*(s.options for s in found))]
    inside = [one for one in every if 0.98 * allowed <= spent(found, one) <= allowed]
    assert len(inside) > 10
    best = min(distance(found, wanted, one) for one in inside)
    assert distance(found, wanted, project_to_budget(found, wanted, allowed)) <= 1.02 * best


def test_without_a_limit_the_nearest_are_taken() -> None:
    found = layers(terms={"grain": 4})
    sizes = project_to_budget(found, [[9.0], [2.0], [64.0], [61.0]], None)
    assert [sizes[slot.block_index][0] for slot in found] == [8, 4, 64, 60]


def test_more_than_can_be_spent_is_spent_as_far_as_possible() -> None:
    for attention in ("none", "channel", {"self": "stages 3-4"}):
        found = layers(attention=attention)
        most = mac_range(found)[1]
        assert spent(found, project_to_budget(found, [[4.0]] * 4, 2 * most)) == most
        assert spent(found, project_to_budget(found, [[4.0]] * 4, most)) >= 0.98 * most


def test_less_than_the_least_is_refused_and_the_least_is_not() -> None:
    found = layers(attention="channel")
    least = mac_range(found)[0]
    with pytest.raises(UserError, match=f"the least is {least:,}"):
        project_to_budget(found, [[4.0]] * 4, least - 1)
    assert spent(found, project_to_budget(found, [[60.0]] * 4, least)) == least


def test_many_wide_layers_and_several_parts() -> None:
    for parts in (2, 3):
        found = layers(width=(256,) * 4, depths=(4, 4, 4, 4), parts=parts, terms={"grain": 4})
        least, most = mac_range(found)
        allowed = (least + most) // 3
        wanted = [[(i % 7 + 1) * 16.0] * (parts - 1) for i in range(len(found))]
        sizes = project_to_budget(found, wanted, allowed)
        assert 0.98 * allowed <= spent(found, sizes) <= allowed


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_even_sizes_keep_the_proportions_of_parts(share: float) -> None:
    found = layers(width=(64,) * 4, parts=3, operations=["conv", "conv", "identity"],
                   terms={"grain": 1, "start": "1/3"})  # fmt: skip
    least, most = mac_range(found)
    sizes = uniform_allocation(found, [(0.3, 0.1)] * 4, least + share * (most - least))
    assert spent(found, sizes) >= 0.97 * (least + share * (most - least))
    for first, second, _ in sizes.values():
        assert first / second == pytest.approx(3, rel=0.35)
    assert max(s[0] for s in sizes.values()) - min(s[0] for s in sizes.values()) <= 6
