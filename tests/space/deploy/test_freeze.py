"""A frozen network computes the same function, at the stated cost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.formulas import cost_rows, sum_costs
from partialnas.space.cost.learned_blocks import blocks_with_sizes, learned_blocks
from partialnas.space.deploy.freeze import freeze, learned_mixers, learned_sizes
from partialnas.space.deploy.fuse import deploy
from partialnas.space.errors import UserError
from partialnas.space.nn.dpconv import LearnedMixer
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import count_ops

Shake = Callable[[nn.Module, int], None]
Strategies = Callable[..., st.SearchStrategy[Architecture]]


def settled(architecture: Architecture, draw: st.DrawFn) -> Network:
    """Return a network with random legal sizes."""
    network = Network(architecture, num_classes=6, drop_path_rate=0.1)
    for slot in learned_blocks(architecture, InputSpec.square(architecture.smallest_resolution)):
        mixer = learned_mixers(network)[slot.block_index]
        assert isinstance(mixer, LearnedMixer)
        mixer.set_sizes(draw(st.sampled_from(slot.options)), 0.0)
    return network


def small(**learned: Any) -> Network:
    plan = {"width": 8, "depths": [1, 1, 1, 1], "ratio": {"learned": learned}}
    return Network(Plan.model_validate(plan).architecture())


def _same_function(shake: Shake, network: Network, seed: int) -> None:
    shake(network, seed)
    network.eval()
    before = network.state_dict()
    frozen = freeze(network)
    smallest = network.architecture.smallest_resolution
    x = torch.randn(3, 3, 2 * smallest + 1, 3 * smallest)
    with torch.no_grad():
        logits = network(x)
        for static in (frozen, deploy(network), deploy(frozen)):
            assert (static(x) - logits).abs().max() <= 1e-5 * logits.abs().max()
    assert frozen.architecture.learned is None
    assert not learned_mixers(frozen)
    for name, value in frozen.state_dict().items():
        if ".mixer." not in name:
            assert torch.equal(value, before[name]), name
    state = network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def _same_cost(network: Network, extra: int) -> None:
    architecture, sizes = network.architecture, learned_sizes(network)
    resolution = 2 * architecture.smallest_resolution + extra
    frozen = freeze(network)
    counted = count_ops(frozen, InputSpec.square(resolution))
    said = sum_costs(
        cost_rows(
            architecture, blocks_with_sizes(architecture, sizes), InputSpec.square(resolution, 3, 6)
        )
    )
    static = compute_cost(frozen.architecture, InputSpec.square(resolution, classes=6))
    assert counted.macs_raw == said.macs == static.macs
    assert counted.macs_core == said.macs_core == static.macs_core
    assert counted.params == said.params == static.params
    blocks = learned_blocks(architecture, InputSpec.square(resolution))
    moved = sum(block.macs(sizes[block.block_index]) - block.macs(block.start) for block in blocks)
    start = sum_costs(
        cost_rows(architecture, architecture.realized, InputSpec.square(resolution, 3, 6))
    ).macs
    assert start + moved == counted.macs_raw
    assert all(
        block.costs[sizes[block.block_index]] == block.macs(sizes[block.block_index])
        for block in blocks
    )


@settings(max_examples=12, deadline=None)
@given(st.data(), st.integers(0, 2**32))
def test_a_frozen_network_computes_the_same_function(
    shake: Shake, learning: Strategies, data: st.DataObject, seed: int
) -> None:
    _same_function(shake, settled(data.draw(learning()), data.draw), seed)


@settings(max_examples=5, deadline=None)
@given(st.data(), st.integers(0, 4))
def test_costs_of_learned_sizes_match_counts_of_the_frozen_network(
    learning: Strategies, data: st.DataObject, extra: int
) -> None:
    _same_cost(settled(data.draw(learning()), data.draw), extra)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.integers(0, 2**32), st.integers(0, 4))
def test_60_frozen_networks(
    shake: Shake, learning: Strategies, data: st.DataObject, seed: int, extra: int
) -> None:
    network = settled(data.draw(learning()), data.draw)
    _same_function(shake, network, seed)
    _same_cost(network, extra)


def test_a_part_without_channels_is_removed() -> None:
    network = small(grain=1)
    for mixer in learned_mixers(network).values():
        assert isinstance(mixer, LearnedMixer)
        mixer.set_sizes([mixer.width, 0], 0.0)
    frozen = freeze(network)
    parts = [block.parts for blocks in frozen.architecture.realized for block in blocks]
    assert [
        (len(block_parts), block_parts[0].op, block_parts[0].channels) for block_parts in parts
    ] == [(1, "conv", width) for width in (8, 16, 32, 64)]


def test_freezing_keeps_settings_and_the_random_state() -> None:
    plan = Plan.model_validate({"width": 8, "ratio": {"learned": {}}})
    network = Network(plan.architecture(), 1, 7, drop_path_rate=0.3, drop_rate=0.2).double()
    torch.manual_seed(1)
    frozen = freeze(network.train())
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)
    assert frozen.training
    settings_of = [
        (n.in_chans, n.num_classes, n.drop_path_rate, n.drop_rate) for n in (network, frozen)
    ]
    assert settings_of[0] == settings_of[1] == (1, 7, 0.3, 0.2)
    assert {parameter.dtype for parameter in frozen.parameters()} == {torch.float64}


def test_a_network_that_still_learns_is_not_frozen() -> None:
    network = small()
    mixer = learned_mixers(network)[2, 0]
    assert isinstance(mixer, LearnedMixer)
    mixer.set_sizes([10.3, 21.7], 4.0)
    with pytest.raises(UserError, match="still being learned"):
        freeze(network)
    with pytest.raises(UserError, match="per layer"):
        freeze(small(per="input"))
