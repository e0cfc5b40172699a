"""Control networks of learned ratios: equal cost, other orders."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.learned_blocks import learned_blocks
from partialnas.space.cost.ratio_controls import ControlKind, control_sizes

SPEC = InputSpec.square(16)
KINDS = get_args(ControlKind)


def learning(**changes: Any) -> Architecture:
    terms = changes.pop("terms", {"grain": 1})
    plan = {"width": (32,) * 4, "depths": [2, 2, 2, 2], "stem_stride": 1, **changes}
    ratio = [{"learned": terms}] * (plan.get("parts", 2) - 1)
    return Plan.model_validate({**plan, "ratio": ratio}).architecture()


def macs(architecture: Architecture, sizes: Mapping[Any, Any]) -> int:
    return compute_cost(architecture.frozen(sizes), SPEC).macs


LEARNED = [4, 30, 8, 12, 5, 20, 16, 28]


def learned(architecture: Architecture) -> dict[Any, Any]:
    places = [block.block_index for block in learned_blocks(architecture, SPEC)]
    return {place: (size, 32 - size) for place, size in zip(places, LEARNED, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["none", "channel"])
def test_controls_cost_as_much_as_the_learned_ratios(kind: ControlKind, attention: str) -> None:
    architecture = learning(attention=attention)
    sizes = learned(architecture)
    mixers = sum(
        block.macs(sizes[block.block_index]) for block in learned_blocks(architecture, SPEC)
    )
    saved = macs(architecture, sizes) - macs(
        architecture, control_sizes(kind, architecture, sizes, SPEC)
    )
    assert 0 <= saved <= 0.025 * mixers
    assert kind != "learned" or saved == 0


def test_reversed_and_shuffled_orders() -> None:
    # all maps equally large and all layers equally wide, so that an order costs what any other does
    blocks = learning().stages[0].blocks[:1] * 8
    architecture = Architecture(stages=({"width": 32, "blocks": blocks},))  # type: ignore[arg-type]
    sizes = learned(architecture)

    def firsts(kind: ControlKind, seed: int = 0) -> list[int]:
        controls = control_sizes(kind, architecture, sizes, SPEC, seed)
        assert list(controls) == list(sizes)
        return [parts[0] for parts in controls.values()]

    assert firsts("learned") == LEARNED
    assert firsts("reversed") == LEARNED[::-1]
    orders = [firsts("shuffled", seed) for seed in range(20)]
    assert all(Counter(order) == Counter(LEARNED) and order != LEARNED for order in orders)
    assert firsts("shuffled", 3) == orders[3]
    assert len(set(map(tuple, orders))) > 15
    uniform = firsts("uniform")
    assert max(uniform) - min(uniform) <= 2


@given(st.integers(0, 1000))
def test_a_shuffle_changes_the_order_if_possible(seed: int) -> None:
    blocks = learning().stages[0].blocks[:1] * 2
    architecture = Architecture(stages=({"width": 32, "blocks": blocks},))  # type: ignore[arg-type]
    two = {(0, 0): (8, 24), (0, 1): (16, 16)}
    assert control_sizes("shuffled", architecture, two, SPEC, seed=seed) == {
        (0, 0): (16, 16),
        (0, 1): (8, 24),
    }
    same = {(0, 0): (8, 24), (0, 1): (8, 24)}
    assert control_sizes("shuffled", architecture, same, SPEC, seed=seed) == same


def test_shares_of_one_block_stay_together() -> None:
    data = learning(parts=3, operations=["conv", "conv", "identity"]).model_dump(mode="json")
    three = data["stages"][0]["blocks"][0]
    two = learning().model_dump(mode="json")["stages"][0]["blocks"][0]
    stage = {"width": 32, "blocks": [three, two, three, two]}
    architecture = Architecture.from_data({"stages": [stage]})
    sizes = {(0, 0): (4, 12, 16), (0, 1): (8, 24), (0, 2): (16, 8, 8), (0, 3): (24, 8)}
    assert control_sizes("reversed", architecture, sizes, SPEC) == {
        (0, 0): (16, 8, 8),
        (0, 1): (24, 8),
        (0, 2): (4, 12, 16),
        (0, 3): (8, 24),
    }
    uniform = control_sizes("uniform", architecture, sizes, SPEC)
    first, second = uniform[0, 0][:2]
    assert abs(first - second) <= 2  # 10 and 10 channels in the mean
    assert uniform[0, 1] == uniform[0, 3]


@pytest.mark.parametrize("kind", ["uniform", "reversed", "shuffled"])
def test_controls_of_gates_may_have_any_size(kind: ControlKind) -> None:
    architecture = learning(terms={"grain": 1, "method": "gates"})
    powers = [4, 16, 8, 8, 4, 16, 16, 2]
    places = [block.block_index for block in learned_blocks(architecture, SPEC)]
    sizes = {place: (size, 32 - size) for place, size in zip(places, powers, strict=True)}
    mixers = sum(
        block.macs(sizes[block.block_index]) for block in learned_blocks(architecture, SPEC)
    )
    controls = control_sizes(kind, architecture, sizes, SPEC)
    assert 0 <= macs(architecture, sizes) - macs(architecture, controls) <= 0.025 * mixers


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(KINDS), st.integers(0, 9))
def test_random_networks_have_valid_controls(
    learning: Any, data: st.DataObject, kind: ControlKind, seed: int
) -> None:
    architecture: Architecture = data.draw(learning())
    resolution = 2 * architecture.smallest_resolution
    blocks = learned_blocks(architecture, InputSpec.square(resolution))
    sizes = {block.block_index: data.draw(st.sampled_from(block.options)) for block in blocks}
    controls = control_sizes(kind, architecture, sizes, InputSpec.square(resolution), seed)
    assert compute_cost(architecture.frozen(controls), InputSpec.square(resolution)).macs <= (
        compute_cost(architecture.frozen(sizes), InputSpec.square(resolution)).macs
    )
