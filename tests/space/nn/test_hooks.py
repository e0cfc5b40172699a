"""Hooks, pruning, parametrizations and counters by hooks see all weights of a static network."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.parts import Part
from partialnas.space.arch.plan import Plan
from partialnas.space.cost.cost import compute_cost
from partialnas.space.nn.attention import ChannelAttention
from partialnas.space.nn.network import Network

Shake = Callable[[nn.Module, int], None]


def all_operations() -> Architecture:
    parts = [Part(op=op, ratio="1/8") for op in ("conv", "channel", "spatial", "self", "pool")]
    block = Block(parts=(*parts, Part(op="identity")), pat_sp=True)
    stages = (Stage(width=32, blocks=(block,)), Stage(width=64, blocks=(block,)))
    return Architecture(stem_stride=2, stages=stages, head_width=16)


def layers(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    kinds = nn.Conv2d | nn.Linear
    return {name: m for name, m in network.named_modules() if isinstance(m, kinds)}


@settings(max_examples=10, deadline=None)
@given(st.from_type(Architecture))
def test_every_module_with_parameters_is_called(architecture: Architecture) -> None:
    network = Network(architecture, num_classes=5)
    owners = {name for name, m in network.named_modules() if any(True for _ in m.parameters(False))}
    called: set[str] = set()
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    side = 2 * architecture.smallest_resolution
    network(torch.randn(2, 3, side, side))
    assert owners <= called


def test_pruned_weights_are_used(shake: Shake) -> None:
    pruned, expected = (Network(all_operations(), num_classes=5) for _ in range(2))
    for network in (pruned, expected):
        shake(network, 0)
        network.eval()
    for layer in layers(pruned).values():
        prune.l1_unstructured(layer, "weight", amount=0.5)
    with torch.no_grad():
        for name, layer in layers(expected).items():
            layer.weight.mul_(pruned.get_submodule(name).get_buffer("weight_mask"))
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(pruned(x), expected(x))
    for _ in range(2):  # each step computes the masked weights anew
        pruned(x).sum().backward()
        with torch.no_grad():
            for name, layer in layers(pruned).items():
                original = layer.get_parameter("weight_orig")
                assert original.grad is not None, name
                original.sub_(0.1 * original.grad)
    assert not torch.allclose(pruned(x), expected(x))


@pytest.mark.parametrize("kind", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_weights_are_used(
    kind: Callable[[nn.Module], nn.Module], shake: Shake
) -> None:
    parametrized, expected = (Network(all_operations(), num_classes=5) for _ in range(2))
    for network in (parametrized, expected):
        shake(network, 0)
        network.eval()
    for layer in layers(parametrized).values():
        kind(layer)
    parametrized.eval()
    with torch.no_grad():
        for name, layer in layers(expected).items():
            layer.weight.copy_(layers(parametrized)[name].weight)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(parametrized(x), expected(x))


def test_a_hook_can_replace_the_gate_of_channel_attention() -> None:
    part = ChannelAttention(6).eval()
    nn.init.constant_(part.gate_norm.weight, 0.0)
    nn.init.constant_(part.gate_norm.bias, 1.0)
    part.gate.register_forward_hook(lambda _module, _inputs, output: torch.full_like(output, 7.0))
    part.gate_norm.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    seen: list[Tensor] = []
    part(torch.randn(2, 6, 3, 4))
    assert seen[0].shape == (2, 6, 1, 1)
    assert bool((seen[0] == 7).all())


def test_a_counter_by_hooks_agrees_with_the_formula() -> None:
    sizes = {"width": 16, "depths": (1, 1, 2, 1), "head_width": 32, "stem_stride": 2}
    attention = {"channel": "stages 1-2", "spatial": "stages 3-4"}
    plan = Plan.model_validate(sizes | {"attention": attention, "pat_sp": True})
    architecture = plan.architecture()
    network = Network(architecture, num_classes=7).eval()
    counts: list[int] = []

    def count(layer: nn.Conv2d | nn.Linear, _inputs: object, output: Tensor) -> None:
        counts.append(output[0].numel() * layer.weight[0].numel())

    for layer in layers(network).values():
        layer.register_forward_hook(count)
    network(torch.randn(1, 3, 32, 32))
    assert sum(counts) == compute_cost(architecture, InputSpec.square(32, 3, 7)).macs_core
