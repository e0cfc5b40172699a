"""Mixers with learned ratios: one function in all forms, and the gradients that move them."""

from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.parts import Part
from partialnas.space.arch.ratio import LearnedRatio
from partialnas.space.cost.formulas import mixer_cost
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.nn.blocks import build_mixer
from partialnas.space.nn.dpconv import InputDependentMixer, LearnedMixer
from partialnas.space.nn.network import Network

Shake = Callable[[nn.Module, int], None]
Strategies = Callable[..., st.SearchStrategy[Architecture]]


def block_of(*ops: str, width: int = 12, positions: tuple[int, ...] = (0,), **terms: Any) -> Any:
    """Return a realized block with equal parts, those at these positions learned."""
    share = Fraction(1, len(ops))
    learned = LearnedRatio(**{"grain": 1, "start": share, **terms})
    parts = [
        Part(
            op=op,
            ratio=None if i == len(ops) - 1 else learned if i in positions else share,
            heads=2 if op == "self" else None,
        )
        for i, op in enumerate(ops)
    ]
    return Block(parts=tuple(parts)).realize(width)


def mixer_of(shake: Shake, *ops: str, **settings: Any) -> Any:
    mixer = build_mixer(block_of(*ops, **settings), dropout=0.0)
    shake(mixer, 0)
    return mixer.double().eval()


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def soften(network: Network, draw: st.DrawFn) -> None:
    """Set random soft boundaries."""
    for mixer in learned_mixers(network).values():
        assert isinstance(mixer, LearnedMixer)
        count = len(mixer.sizes)
        weights = draw(st.lists(st.floats(0.3, 1), min_size=count, max_size=count))
        sizes = [mixer.width * weight / sum(weights) for weight in weights]
        mixer.set_sizes(sizes, ramp=draw(st.floats(0.5, mixer.width / 2)))


def in_training(network: nn.Module) -> nn.Module:
    """Set training mode, except for the statistics of norms."""
    for module in network.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(0, 2**32), st.booleans())
def test_training_and_evaluation_compute_the_same_function(
    shake: Shake, learning: Strategies, data: st.DataObject, seed: int, soft: bool
) -> None:
    network = Network(data.draw(learning()), num_classes=5, attention_dropout=0.0)
    shake(network, seed)
    if soft:
        soften(network, data.draw)
    smallest = network.architecture.smallest_resolution
    x = torch.randn(3, 3, 2 * smallest + 1, 3 * smallest)
    with torch.no_grad():
        assert apart(in_training(network)(x), network.eval()(x)) <= 1e-5


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(0, 2**32))
def test_a_vanishing_ramp_matches_whole_sizes(
    shake: Shake, learning: Strategies, data: st.DataObject, seed: int
) -> None:
    network = Network(data.draw(learning()), num_classes=5).double().eval()
    shake(network, seed)
    smallest = network.architecture.smallest_resolution
    x = torch.randn(2, 3, 3 * smallest, 2 * smallest, dtype=torch.float64)
    with torch.no_grad():
        hard = network(x)
        for mixer in learned_mixers(network).values():
            assert isinstance(mixer, LearnedMixer)
            mixer.set_sizes(mixer.sizes, ramp=1e-6)
            assert not mixer.fixed
        assert apart(network(x), hard) <= 1e-12


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.5, 6), min_size=2, max_size=4), st.floats(0.3, 5), st.integers(0, 2**32)
)
def test_a_soft_convolution_is_the_mixture_of_nested_convolutions(
    shake: Shake, weights: list[float], ramp: float, seed: int
) -> None:
    ops: list[Any] = ["conv"] * len(weights)
    mixer = mixer_of(shake, *ops, width=9, positions=tuple(range(len(ops) - 1)))
    shake(mixer, seed)
    mixer.set_sizes([9 * weight / sum(weights) for weight in weights], ramp)
    x = torch.randn(2, 9, 5, 4, dtype=torch.float64)
    expected = torch.zeros_like(x)
    edges = [torch.ones(9), *(1 - row for row in mixer.shares.detach()), torch.zeros(9)]
    for part, (after, further) in zip(mixer.parts, pairwise(edges), strict=True):
        shares = (after - further).double()
        levels = [0.0, *sorted(set(shares.tolist()) - {0.0})]
        for low, high in pairwise(levels):  # the channels that belong to at least that much
            kept = shares >= high
            nested = part.weight * kept[:, None, None, None] * kept[:, None, None]
            expected += (high - low) * functional.conv2d(x, nested, padding=1)
    with torch.no_grad():
        torch.testing.assert_close(mixer(x), expected, rtol=1e-10, atol=1e-10)


def written_out(mixer: LearnedMixer, x: Tensor, shares: Tensor) -> Tensor:
    """Apply masked convolutions and identity parts over all channels."""
    edge = torch.ones_like(shares[:1])
    before = torch.cat((0 * edge, shares, edge))
    out = torch.zeros_like(x)
    for part, member in zip(mixer.parts, before[1:] - before[:-1], strict=True):
        if isinstance(part, nn.Identity):
            out = out + x * member[:, None, None]
        else:
            mask = torch.minimum(member[:, None], member)[:, :, None, None]
            out = out + functional.conv2d(x, part.weight * mask, padding=1)
    return out


def tied(shares: Tensor) -> bool:
    """Return whether two channels have equal shares, so that their minimum has no gradient."""
    before = torch.cat((torch.zeros_like(shares[:1]), shares, torch.ones_like(shares[:1])))
    parts = [sorted(share for share in row if 0 < share < 1) for row in before.diff(dim=0).tolist()]
    return any(high - low < 1e-6 for row in parts for low, high in pairwise(row))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["ci", "ic", "cc", "cic", "ici", "cci", "icc", "cici"]),
    st.lists(st.floats(0.5, 6), min_size=4, max_size=4),
    st.floats(0.3, 5),
    st.integers(0, 2**32),
)
def test_convolutions_and_identity_parts_match_masks_with_their_gradients(
    shake: Shake, kinds: str, weights: list[float], ramp: float, seed: int
) -> None:
    ops: list[str] = ["conv" if kind == "c" else "identity" for kind in kinds]
    mixer = mixer_of(shake, *ops, width=9, positions=tuple(range(len(ops) - 1)))
    shake(mixer, seed)
    shares = weights[: len(ops)]
    mixer.set_sizes([9 * weight / sum(shares) for weight in shares], ramp)
    assume(not tied(mixer.shares.detach()))
    x = torch.randn(2, 9, 5, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 9, 5, 4, dtype=torch.float64)
    shares = mixer.shares.detach().clone().requires_grad_()
    soft = (shares > 0) & (shares < 1)
    results = []
    for out, leaf in ((mixer(x), mixer.shares), (written_out(mixer, x, shares), shares)):
        (out - target).square().sum().backward()
        boundaries = (leaf.grad * soft).sum(1)
        results.append([out.detach(), x.grad, boundaries, *(p.grad for p in mixer.parameters())])
        x.grad = None
        mixer.zero_grad()
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


OPS: list[str] = ["conv", "channel", "spatial", "self", "pool", "identity"]


@pytest.mark.parametrize("neighbor", OPS)
@pytest.mark.parametrize("operation", ["conv", "self"])
def test_the_gradient_of_a_boundary_matches_central_differences(
    shake: Shake, operation: str, neighbor: str
) -> None:
    mixer = mixer_of(shake, operation, neighbor)
    x = torch.randn(3, 12, 4, 4, dtype=torch.float64)
    target = torch.randn(3, 12, 4, 4, dtype=torch.float64)

    def loss(end: float) -> Tensor:
        mixer.set_sizes([end, 12 - end], ramp=4.0)
        out: Tensor = (mixer(x) - target).square().sum()
        return out

    loss(5.2).backward()
    shares = mixer.shares
    inside = (shares > 0) & (shares < 1)
    gradient = float((shares.grad * inside).sum()) / 4.0
    step = 1e-5  # no channel's edge of the ramp lies between
    with torch.no_grad():
        slope = float(loss(5.2 + step) - loss(5.2 - step)) / (2 * step)
    assert gradient == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("ops", [("conv", "identity"), ("identity", "conv"), ("conv", "conv")])
def test_hard_boundaries_have_gradients_of_more_and_fewer_channels(
    shake: Shake, ops: tuple[str, ...]
) -> None:
    mixer = mixer_of(shake, *ops)
    x = torch.randn(3, 12, 4, 4, dtype=torch.float64)
    weights = torch.randn(3, 12, 4, 4, dtype=torch.float64)

    def loss(end: int) -> float:  # linear in the outputs, so that differences are slopes
        mixer.set_sizes([end, 12 - end], 0.0)
        with torch.no_grad():
            return float((mixer(x) * weights).sum())

    differences = [loss(channel + 1) - loss(channel) for channel in range(3, 9)]
    mixer.set_sizes([6, 6], 0.0, largest_sizes=[9, 3], smallest_sizes=[3, 9])
    (mixer(x) * weights).sum().backward()
    assert mixer.shares.grad[0, 3:9].tolist() == pytest.approx(differences, rel=1e-9)


def test_networks_do_not_share_their_boundaries() -> None:
    stage = Stage(width=12, blocks=(Block(parts=(Part(op="conv", ratio=LearnedRatio(grain=1)),
                                                 Part(op="channel"))),))  # fmt: skip
    one, other = (Network(Architecture(stages=(stage,), head_width=8)).eval() for _ in range(2))
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = other(x)
        for sizes, ramp in (([7.5, 4.5], 2.0), ([8, 4], 0.0)):
            moved = one(x)
            learned_mixers(one)[0, 0].set_sizes(sizes, ramp)  # type: ignore[operator]
            assert not torch.equal(one(x), moved)
            assert torch.equal(other(x), before)


@settings(max_examples=10, deadline=None)
@given(st.data(), st.booleans())
def test_sizes_and_ramp_are_part_of_the_state(
    learning: Strategies, data: st.DataObject, soft: bool
) -> None:
    architecture = data.draw(learning())
    one, other = Network(architecture).eval(), Network(architecture).eval()
    if soft:
        soften(one, data.draw)
    state = {name: value.detach().clone() for name, value in one.state_dict().items()}
    other.load_state_dict(load(save(state)))
    mixers = zip(learned_mixers(one).values(), learned_mixers(other).values(), strict=True)
    for mine, theirs in mixers:
        assert isinstance(mine, LearnedMixer)
        assert isinstance(theirs, LearnedMixer)
        assert (mine.sizes, mine.ramp, mine.fixed) == (theirs.sizes, theirs.ramp, theirs.fixed)
    smallest = architecture.smallest_resolution
    x = torch.randn(2, 3, 2 * smallest, 2 * smallest)
    with torch.no_grad():
        assert torch.equal(one(x), other(x))


@settings(max_examples=12, deadline=None)
@given(st.data(), st.integers(0, 2**32))
def test_masked_images_match_images_grouped_by_size(
    shake: Shake, learning: Strategies, data: st.DataObject, seed: int
) -> None:
    network = Network(data.draw(learning(most=1, per="input")), attention_dropout=0.0)
    shake(network, seed)
    for mixer in learned_mixers(network).values():
        assert isinstance(mixer, InputDependentMixer)
        mixer.predictor[-1].weight.data.mul_(10)  # so that images differ
    smallest = network.architecture.smallest_resolution
    x = torch.randn(6, 3, 2 * smallest + 1, 2 * smallest)
    with torch.no_grad():
        masked = in_training(network)(x)
        chosen = [mixer.option_indices for mixer in learned_mixers(network).values()]  # type: ignore[union-attr]
        grouped = network.eval()(x)
    for before, mixer in zip(chosen, learned_mixers(network).values(), strict=True):
        assert isinstance(mixer, InputDependentMixer)
        assert torch.equal(before, mixer.option_indices)  # type: ignore[arg-type]
    assert apart(masked, grouped) <= 1e-5


def test_grouped_images_have_the_cost_of_their_sizes(shake: Shake) -> None:
    block = block_of("conv", "channel", width=16, per="input")
    mixer = build_mixer(block, 0.0).eval()
    assert isinstance(mixer, InputDependentMixer)
    shake(mixer, 0)
    mixer.predictor[-1].weight.data.mul_(20)
    x = torch.randn(8, 16, 6, 6) + torch.randn(8, 16, 1, 1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        mixer(x)
    assert mixer.option_indices is not None
    sizes = [mixer.options[option] for option in mixer.option_indices.tolist()]
    assert len(set(sizes)) > 2
    predictor = 8 * (16 * 4 + 4)
    costs = [mixer_cost(one, 36) for one in (block, block._replace(learning=None))]
    assert 8 * (costs[0].macs_core - costs[1].macs_core) == predictor
    weights = sum(parameter.numel() for parameter in mixer.predictor.parameters())
    assert costs[0].params - costs[1].params == weights
    expected = sum(9 * conv**2 * 36 + 2 * channel**2 for conv, channel in sizes)
    assert counter.get_total_flops() / 2 == predictor + expected
    mixer.train()
    with torch.no_grad(), FlopCounterMode(display=False) as masked:
        mixer(x)
    assert counter.get_total_flops() < masked.get_total_flops()


def test_the_predictor_learns_from_the_loss_until_it_is_stopped(shake: Shake) -> None:
    mixer = build_mixer(block_of("conv", "pool", width=16, per="input"), 0.0)
    assert isinstance(mixer, InputDependentMixer)
    shake(mixer, 0)
    x = torch.randn(4, 16, 5, 5)
    mixer(x).square().sum().backward()
    weights = list(mixer.predictor.parameters())
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)
    mixer.predictor_trainable = False
    mixer.zero_grad()
    mixer(x).square().sum().backward()
    assert all(weight.grad is None for weight in weights)
    restored = build_mixer(block_of("conv", "pool", width=16, per="input"), 0.0)
    mixer.logit_offset = 1.5
    restored.load_state_dict(mixer.state_dict())
    assert isinstance(restored, InputDependentMixer)
    assert (restored.logit_offset, restored.predictor_trainable) == (1.5, False)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_every_used_weight_and_every_boundary_has_a_gradient(
    learning: Strategies, data: st.DataObject
) -> None:
    network = Network(data.draw(learning()), num_classes=3, attention_dropout=0.0)
    soften(network, data.draw)
    smallest = network.architecture.smallest_resolution
    network(torch.randn(3, 3, 2 * smallest, 2 * smallest)).square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    for mixer in learned_mixers(network).values():
        assert isinstance(mixer, LearnedMixer)
        assert mixer.shares.grad is not None
        assert mixer.shares.grad.isfinite().all()
        assert mixer.shares.grad.abs().sum() > 0
        assert sum(mixer.sizes) == pytest.approx(mixer.width)
        assert list(accumulate(mixer.sizes)) == sorted(accumulate(mixer.sizes))
