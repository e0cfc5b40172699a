"""Operations on parts, mixers and blocks, each against its formula written out."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from partialnas.space.arch.architecture import RealizedBlock
from partialnas.space.arch.parts import RealizedPart
from partialnas.space.nn.attention import (
    ChannelAttention,
    PartialSpatialAttention,
    PositionBias,
    SelfAttention,
    SpatialAttention,
    distance_bucket,
    position_buckets,
)
from partialnas.space.nn.blocks import Mixer, NetworkBlock
from partialnas.space.nn.layers import BatchNorm
from partialnas.space.nn.operations import build_part

Shake = Callable[[nn.Module, int], None]
ALL_OPS = (
    RealizedPart("conv", 3, 0),
    RealizedPart("channel", 2, 0),
    RealizedPart("spatial", 3, 0),
    RealizedPart("self", 4, 2),
    RealizedPart("pool", 1, 0),
    RealizedPart("identity", 2, 0),
)


def normalize(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    if not norm.training:
        mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight / torch.sqrt(var + 1e-5)
    return x * scale.view(-1, 1, 1) + (norm.bias - mean * scale).view(-1, 1, 1)


def hardsigmoid(x: Tensor) -> Tensor:
    return (x / 6 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("training", [False, True])
def test_channel_attention_follows_its_formula(shake: Shake, training: bool) -> None:
    part = ChannelAttention(5).double()
    shake(part, 0)
    part.train(training)
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    mean, std = x.mean((2, 3)), x.flatten(2).std(dim=2, correction=1)
    w_mean, w_std = part.gate.weight[:, :, 0].unbind(-1)
    raw = (mean @ w_mean.T + std @ w_std.T)[:, :, None, None]
    expected = normalize(part.norm, x * hardsigmoid(normalize(part.gate_norm, raw)))
    torch.testing.assert_close(part(x), expected)


def test_channel_attention_has_the_gradient_of_the_standard_deviation(shake: Shake) -> None:
    part = ChannelAttention(2).double().eval()
    shake(part, 1)
    x = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(part, (x,))


@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_channel_attention_of_flat_maps_has_finite_gradients(size: tuple[int, int]) -> None:
    part = ChannelAttention(3)
    x = torch.ones(2, 3, *size, requires_grad=True)
    part(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())


def test_the_std_of_one_value_is_zero(shake: Shake) -> None:
    part = ChannelAttention(3).eval()
    shake(part, 0)
    x = torch.randn(2, 3, 1, 1)
    before = part(x)
    with torch.no_grad():
        part.gate.weight[..., 1].fill_(7)
    torch.testing.assert_close(part(x), before)


@pytest.mark.parametrize("training", [False, True])
def test_spatial_attention_follows_its_formula(shake: Shake, training: bool) -> None:
    part = SpatialAttention(4).train(training)
    shake(part, 0)
    x = torch.randn(2, 4, 3, 5)
    gate = hardsigmoid((x * part.gate.weight[0]).sum(1, keepdim=True))
    torch.testing.assert_close(part(x), normalize(part.norm, x * gate))


@pytest.mark.parametrize("channels", [2, 5, 8])
def test_pat_sp_gates_the_first_half_and_mixes_the_last(shake: Shake, channels: int) -> None:
    part = PartialSpatialAttention(channels).eval()
    shake(part, 0)
    x = torch.randn(2, channels, 3, 4)
    half = channels - channels // 2
    first, last = x[:, :half], normalize(part.norm, x[:, half:])
    expected = torch.einsum("oi,nihw->nohw", part.conv.weight[:, :, 0, 0], last)
    torch.testing.assert_close(part(x)[:, :half], part.attention(first))
    torch.testing.assert_close(part(x)[:, half:], expected)


def bucket(distance: int) -> int:
    if distance <= 20:
        return distance + 40
    return min(40, round(20 + 20 * math.log(distance / 20) / math.log(8))) + 40


def test_buckets_of_distances_follow_the_formula() -> None:
    distances = torch.arange(201)
    assert distance_bucket(distances.float()).tolist() == [bucket(int(d)) for d in distances]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (25, 2)])
def test_buckets_of_a_map_match_its_distances(size: tuple[int, int]) -> None:
    height, width = size
    positions = [(y, x) for y in range(height) for x in range(width)]
    expected = [[bucket(round(math.dist(p, q))) for q in positions] for p in positions]
    assert position_buckets(height, width).tolist() == expected


class CountedOperators(TorchDispatchMode):
    """Counts the operators that run."""

    count = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operators_of(position: PositionBias, height: int, width: int) -> int:
    with CountedOperators() as operators:
        bias = position(height, width)
    assert torch.equal(bias, position.table[:, position_buckets(height, width)])
    return operators.count


def test_positions_are_computed_once_for_each_size_of_a_map() -> None:
    position = PositionBias(2)
    nn.init.normal_(position.table)
    sizes = [(3, 5), (5, 3), (1, 1)]
    first, again = ([operators_of(position, *size) for size in sizes] for _ in range(2))
    assert max(again) <= 3 < min(first)
    assert list(position.state_dict()) == ["table"]


def test_sizes_of_maps_do_not_fill_the_memory() -> None:
    position = PositionBias(1)
    for side in range(1, 40):
        position(side, 1)
    assert len(pickle.dumps(position)) < 10_000


def test_positions_of_a_copy_are_those_of_the_original() -> None:
    position = PositionBias(2)
    nn.init.normal_(position.table)
    bias = position(3, 5)
    copies = [copy.deepcopy(position), pickle.loads(pickle.dumps(position))]  # noqa: S301
    assert all(torch.equal(other(3, 5), bias) for other in copies)
    assert position.to("meta")(3, 5).is_meta


def test_positions_of_an_evaluation_serve_training() -> None:
    position = PositionBias(2)
    with torch.inference_mode():
        position(2, 2)
    position(2, 2).sum().backward()
    assert position.table.grad is not None
    assert position.table.grad.sum() == 2 * 16


def test_positions_without_values_are_not_kept() -> None:
    position = PositionBias(2)
    with FakeTensorMode(allow_non_fake_inputs=True):
        position(2, 2)
    assert type(position(2, 2).detach()) is Tensor


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_self_attention_matches_torch(shake: Shake, heads: int) -> None:
    part = SelfAttention(8, heads, dropout=0.5).eval()
    shake(part, 0)
    reference = nn.MultiheadAttention(8, heads, batch_first=True)
    reference.in_proj_weight = part.qkv.weight
    reference.out_proj = part.proj
    x = torch.randn(2, 8, 3, 5)
    tokens = functional.layer_norm(
        x.flatten(2).mT, (8,), part.norm.weight, part.norm.bias, eps=1e-6
    )
    bias = part.position.table[:, position_buckets(3, 5)].repeat(2, 1, 1)
    expected, _ = reference(tokens, tokens, tokens, attn_mask=bias)
    torch.testing.assert_close(part(x), expected.mT.reshape(2, 8, 3, 5))


def test_self_attention_uses_dropout_in_training_only() -> None:
    part = SelfAttention(8, 2, dropout=0.5)
    x = torch.randn(2, 8, 3, 3)
    assert not torch.equal(part(x), part(x))
    part.eval()
    assert torch.equal(part(x), part(x))


def test_pooling_does_not_count_padding() -> None:
    pooled = build_part(RealizedPart("pool", 1, 0), 0.0)(torch.arange(6.0).view(1, 1, 2, 3))
    assert pooled[0, 0].tolist() == [[2.0, 2.5, 3.0], [2.0, 2.5, 3.0]]


def test_a_partial_convolution_does_not_change_the_other_channels() -> None:
    mixer = Mixer((RealizedPart("conv", 2, 0), RealizedPart("identity", 5, 0)), 0.0)
    x = torch.randn(2, 7, 4, 4)
    expected = functional.conv2d(x[:, :2], mixer.parts[0].weight, padding=1)
    assert torch.equal(mixer(x), torch.cat((expected, x[:, 2:]), 1))


@pytest.mark.parametrize("parts", [ALL_OPS, ALL_OPS[::-1]])
def test_each_part_sees_only_its_channels(parts: tuple[RealizedPart, ...]) -> None:
    mixer = Mixer(parts, 0.1).eval()
    x = torch.randn(2, 15, 4, 3)
    mixed = mixer(x)
    start = 0
    for part in parts:
        part_slice = slice(start, start := start + part.channels)
        disturbed = torch.randn_like(x)
        disturbed[:, part_slice] = x[:, part_slice]
        assert torch.equal(mixer(disturbed)[:, part_slice], mixed[:, part_slice])


def block(*parts: RealizedPart, drop_path: float = 0.0) -> NetworkBlock:
    width = sum(part.channels for part in parts)
    return NetworkBlock(
        RealizedBlock(width, parts, 2 * width, False), "gelu", drop_path, 0.1
    ).eval()


def test_a_block_without_self_attention_has_one_residual() -> None:
    built = block(*ALL_OPS[:3])
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(built(x), x + built.mlp(built.mixer(x)))


def test_a_block_with_self_attention_has_two_residuals() -> None:
    built = block(*ALL_OPS)
    x = torch.randn(2, 15, 4, 4)
    mixed = x + built.mixer(x)
    assert torch.equal(built(x), mixed + built.mlp(mixed))


def test_drop_path_applies_to_the_mlp_and_not_to_the_first_residual() -> None:
    built = block(*ALL_OPS, drop_path=0.999999)
    built.drop_path.train()
    x = torch.randn(2, 15, 4, 4)
    assert torch.equal(built(x), x + built.mixer(x))


def test_a_norm_with_one_value_per_channel_uses_its_statistics() -> None:
    norm = BatchNorm(3)
    norm(torch.randn(4, 3, 2, 2))
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    x = torch.randn(1, 3, 1, 1)
    trained = norm(x)
    assert all(torch.equal(before[name], buffer) for name, buffer in norm.named_buffers())
    assert torch.equal(trained, norm.eval()(x))


def test_a_norm_with_two_values_per_channel_matches_torch() -> None:
    ours, torchs = BatchNorm(3), nn.BatchNorm2d(3)
    for shape in ((2, 3, 1, 1), (1, 3, 1, 2)):
        x = torch.randn(shape)
        assert torch.equal(ours(x), torchs(x))
        for statistics in ("running_mean", "running_var"):
            assert torch.equal(ours.get_buffer(statistics), torchs.get_buffer(statistics))
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    assert ours.state_dict()["num_batches_tracked"] == 0  # batches are not counted
