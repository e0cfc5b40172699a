"""Networks of random architectures, their initial weights, and timm's FasterNet as the oracle."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.parts import Part
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import PRESETS, preset
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError
from partialnas.space.nn.init import initialize
from partialnas.space.nn.network import Network

Shake = Callable[[nn.Module, int], None]
FASTERNETS = [name for name in PRESETS if name.startswith("fasternet")]
FROM_TIMM = {
    "patch_embed.proj": "stem.conv",
    "patch_embed.norm": "stem.norm",
    "downsample.reduction": "merge.conv",
    "downsample.norm": "merge.norm",
    "spatial_mixing.partial_conv3": "mixer.parts.0",
    "mlp.0": "mlp.expand",
    "mlp.1": "mlp.norm",
    "mlp.3": "mlp.project",
    "conv_head": "head_conv",
}


def tiny(*ops: str, width: int = 12, ratio: str = "1/3", name: str = "") -> Architecture:
    """Return three blocks of these operations, all but the last on `ratio` of the channels."""
    parts = [Part(op=op, ratio=Fraction(ratio)) for op in ops[:-1]]
    block = Block(parts=(*parts, Part(op=ops[-1])))
    stages = (Stage(width=width, blocks=(block,)), Stage(width=2 * width, blocks=(block, block)))
    return Architecture(name=name, stem_stride=2, stages=stages, head_width=16)


@settings(max_examples=40, deadline=None)
@given(
    st.from_type(Architecture),
    st.integers(1, 2),
    st.sampled_from([1, 3]),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_every_architecture_trains(
    architecture: Architecture, batch: int, in_chans: int, extra: tuple[int, int]
) -> None:
    network = Network(architecture, in_chans, num_classes=5, drop_path_rate=0.1)
    smallest = architecture.smallest_resolution
    x = torch.randn(batch, in_chans, smallest + extra[0], smallest + extra[1])
    logits = network(x)
    assert logits.shape == (batch, 5)
    logits.square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert network.eval()(x).isfinite().all()


@given(st.from_type(Architecture))
@settings(max_examples=10, deadline=None)
def test_the_error_of_a_small_input_names_the_smallest_valid_size(
    architecture: Architecture,
) -> None:
    network, smallest = Network(architecture).eval(), architecture.smallest_resolution
    assert network(torch.zeros(1, 3, smallest, smallest)).shape == (1, 1000)
    if smallest > 1:
        with pytest.raises(UserError, match=f"{smallest}x{smallest}"):
            network(torch.zeros(1, 3, smallest, smallest - 1))


def test_equal_digests_build_equal_networks() -> None:
    split, whole = tiny("conv", "identity", "identity"), tiny("conv", "identity", name="whole")
    assert split.digest == whole.digest
    networks = [Network(architecture).eval() for architecture in (split, whole)]
    for network in networks:
        initialize(network, 3)
    states = [network.state_dict() for network in networks]
    assert list(states[0]) == list(states[1])
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(networks[0](x), networks[1](x))


def test_networks_have_equal_weights_for_equal_names_and_shapes() -> None:
    one, other = Network(tiny("conv", "channel")), Network(tiny("conv", "self", "pool"))
    initialize(one, 5)
    initialize(other, 5)
    weights, others = dict(one.named_parameters()), dict(other.named_parameters())
    coinciding = [n for n in weights if n in others and weights[n].shape == others[n].shape]
    assert "stages.1.blocks.1.mlp.expand.weight" in coinciding
    assert all(torch.equal(weights[name], others[name]) for name in coinciding)


def test_weights_follow_the_seed_and_the_name() -> None:
    network = Network(tiny("conv", "self", width=36))
    initialize(network, 0)
    first = {name: parameter.clone() for name, parameter in network.named_parameters()}
    twins = [first[f"stages.1.blocks.{index}.mlp.expand.weight"] for index in (0, 1)]
    assert not torch.equal(*twins)
    assert abs(torch.cat(twins).std().item() - 0.02) < 0.001
    initialize(network.to(memory_format=torch.channels_last), 0)
    assert all(torch.equal(first[name], p) for name, p in network.named_parameters())
    initialize(network, 1)
    assert not torch.equal(first["stem.conv.weight"], network.stem.conv.weight)


def test_initialization_resets_norms_biases_tables_and_statistics(shake: Shake) -> None:
    network = Network(tiny("conv", "self"))
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    shake(network, 0)
    network(torch.randn(2, 3, 16, 16))
    initialize(network, 0)
    for name, tensor in network.state_dict().items():
        if tensor.dim() < 2 or name.endswith("position.table"):
            assert torch.equal(tensor, fresh[name]), name


def test_a_new_network_follows_torchs_seed() -> None:
    def weight() -> torch.Tensor:
        return Network(tiny("conv")).classifier.get_parameter("weight")

    torch.manual_seed(0)
    first, second = weight(), weight()
    torch.manual_seed(0)
    assert torch.equal(weight(), first)
    assert not torch.equal(first, second)


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    network = Network(preset("partialnet_t0"), drop_path_rate=0.24)
    rates = [getattr(b.drop_path, "drop_prob", 0.0) for s in network.stages for b in s.blocks]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.24, 13))


def trained(checkpointing: bool, *, learned: bool = False) -> Network:
    """Return a network with the gradients of two backward passes through two batches."""
    architecture = tiny("conv", "channel", "self", "spatial", width=16, ratio="1/4")
    if learned:
        ratio = {"learned": {"grain": 1}}
        sizes = {"width": 8, "depths": (1, 1, 1, 1), "head_width": 16, "stem_stride": 1}
        plan = Plan.model_validate(sizes | {"attention": {"channel": "stages 1-4"}, "ratio": ratio})
        architecture = plan.architecture()
    network = Network(architecture, num_classes=5, drop_path_rate=0.3)
    initialize(network, 0)
    network.set_grad_checkpointing(checkpointing)
    torch.manual_seed(0)
    for _ in range(2):
        loss = network(torch.randn(2, 3, 16, 16)).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
    return network


@pytest.mark.parametrize("learned", [False, True])
def test_checkpointing_does_not_change_gradients_and_statistics(learned: bool) -> None:
    plain, checkpointed = (trained(enable, learned=learned) for enable in (False, True))
    for (name, parameter), other in zip(
        plain.named_parameters(), checkpointed.parameters(), strict=True
    ):
        if parameter.grad is None:
            assert other.grad is None, name
        else:
            assert torch.equal(parameter.grad, other.grad), name
    buffers = dict(checkpointed.named_buffers())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in plain.named_buffers())
    assert buffers["stages.1.blocks.0.mlp.norm.running_mean"].any()


def test_checkpointing_recomputes_activations() -> None:
    calls: list[bool] = []
    for enable in (False, True):
        network = Network(tiny("conv", "channel"))
        network.set_grad_checkpointing(enable)
        layer = network.stages[0].blocks[0].mlp.expand
        layer.register_forward_hook(lambda *_, enable=enable: calls.append(enable))
        network(torch.randn(2, 3, 16, 16)).sum().backward()
    assert calls == [False, True, True]


@pytest.mark.parametrize("name", FASTERNETS)
def test_fasternets_have_the_parameters_of_timm(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert compute_cost(preset(name), InputSpec.square(224)).params == sum(
        p.numel() for p in model.parameters()
    )


_FAST = ("fasternet_t0", "fasternet_t2")


@pytest.mark.parametrize(
    "name", [n if n in _FAST else pytest.param(n, marks=pytest.mark.slow) for n in FASTERNETS]
)
def test_our_fasternet_matches_that_of_timm(shake: Shake, name: str) -> None:
    model = timm.create_model(name, num_classes=20, drop_path_rate=0.0)
    network = Network(preset(name), num_classes=20)
    shake(model, 0)
    network.load_state_dict({_from_timm(key): value for key, value in model.state_dict().items()})
    x = torch.randn(2, 3, 64, 96)
    for training in (False, True):
        model.train(training)
        network.train(training)
        expected, logits = model(x), network(x)
        assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    statistics = dict(model.named_buffers())
    for key, value in network.named_buffers():
        if key.endswith("num_batches_tracked"):  # ours are not counted
            continue
        theirs = next(k for k in statistics if _from_timm(k) == key)
        torch.testing.assert_close(value, statistics[theirs], rtol=1e-4, atol=1e-5)


def _from_timm(name: str) -> str:
    for theirs, ours in FROM_TIMM.items():
        name = name.replace(theirs, ours)
    return name
