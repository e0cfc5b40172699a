"""Operations on some of the channels that their weights are for, each channel to a degree.

A layer that learns its ratios holds, for each of its parts, an operation over all channels, and
uses what belongs to the channels that the part has now. While a boundary is soft, the channels
around it belong to both of its parts in shares. Shares of 1 give exactly the operation that a
static network has on these channels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.nn.attention import (
    ChannelAttention,
    SelfAttention,
    SpatialAttention,
    mean_and_std,
)
from partialnas.space.nn.layers import BatchNorm
from partialnas.space.nn.soft_kernel import Span


class SoftMask(NamedTuple):
    """How far the channels of a span belong to a part.

    Attributes:
        shares: B x span, of each channel; B is 1, or the number of images.
        ramp: channels over which its boundaries are soft.
    """

    shares: Tensor
    ramp: float

    @property
    def size(self) -> Tensor:
        """B: the channels of the part, each counting as far as it belongs."""
        return self.shares.sum(1)

    @property
    def maps(self) -> Tensor:
        """The shares, to be multiplied with N x C x H x W maps."""
        return self.shares[:, :, None, None]


def forward_sliced(part: nn.Module, x: Tensor, span: Span, member: SoftMask | None) -> Tensor:
    """What a part's operation makes of the channels of a span.

    Args:
        part: the operation, with weights for all channels.
        x: N x span x H x W maps.
        span: the channels that it works on.
        member: how far they belong to the part; None where all of them do.

    Returns:
        N x span x H x W maps, already multiplied by the shares.
    """
    match part:
        case nn.Conv2d():
            return _conv(part, x, span, member)
        case ChannelAttention():
            return _channel(part, x, span, member)
        case SpatialAttention():
            return _spatial(part, x, span, member)
        case SelfAttention():
            return _self(part, x, span, member)
    out: Tensor = part(x)
    return out if member is None else out * member.maps


def _conv(conv: nn.Conv2d, x: Tensor, span: Span, member: SoftMask | None) -> Tensor:
    weight = conv.weight[span.slice, span.slice]
    if member is None:
        return functional.conv2d(x, weight, padding=1)
    return functional.conv2d(x * member.maps, weight, padding=1) * member.maps


def _channel(attention: ChannelAttention, x: Tensor, span: Span, member: SoftMask | None) -> Tensor:
    statistics = mean_and_std(x)
    if member is not None:
        statistics = statistics * member.maps
    weight = attention.gate.weight[span.slice, span.slice].flatten(1)
    gate = functional.linear(statistics.flatten(1), weight)[:, :, None, None]
    gate = functional.hardsigmoid(_normed(attention.gate_norm, gate, span))
    out = _normed(attention.norm, x * gate, span)
    return out if member is None else out * member.maps


def _spatial(attention: SpatialAttention, x: Tensor, span: Span, member: SoftMask | None) -> Tensor:
    seen = x if member is None else x * member.maps
    gate = functional.conv2d(seen, attention.gate.weight[:, span.slice])
    out = _normed(attention.norm, x * functional.hardsigmoid(gate), span)
    return out if member is None else out * member.maps


def _normed(norm: BatchNorm, x: Tensor, span: Span) -> Tensor:
    """The norm of the channels of a span; one value a channel is normalised by what is known."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    return functional.batch_norm(
        x,
        mean[span.slice],
        variance[span.slice],
        norm.weight[span.slice],
        norm.bias[span.slice],
        norm.training and x.numel() > x.shape[1],
        norm.momentum if norm.momentum is not None else 0.1,
        norm.eps,
    )


def _self(attention: SelfAttention, x: Tensor, span: Span, member: SoftMask | None) -> Tensor:
    """Each head has the first of the rows that it would have at full width."""
    batch, channels, height, width = x.shape
    heads = attention.heads
    tokens = _layer_normed(attention.norm, x.flatten(2).transpose(1, 2), span, member)
    used = _most_rows(attention, channels, member)
    qkv = functional.linear(tokens, sliced_qkv_weight(attention, used)[:, span.slice])
    parts = qkv.reshape(batch, height * width, 3, heads, used).permute(2, 0, 3, 1, 4)
    query, key, value = parts.unbind(0)
    if member is None:
        query = query * used**-0.5
    else:
        depth = member.size[:, None, None, None] / heads
        share = _row_shares(depth, used, member.ramp / heads)
        query, value = query * share * depth**-0.5, value * share
    logits = query @ key.transpose(-2, -1) + attention.position(height, width)
    mixed = attention.weights_dropout(logits.softmax(dim=-1)) @ value
    weight = sliced_proj_weight(attention, used)[span.slice]
    mixed = functional.linear(
        mixed.transpose(1, 2).flatten(2), weight, attention.proj.bias[span.slice]
    )
    out: Tensor = attention.dropout(mixed).transpose(1, 2).reshape(x.shape)
    return out if member is None else out * member.maps


def _most_rows(attention: SelfAttention, channels: int, member: SoftMask | None) -> int:
    """Rows of each head that can be in use, in part or whole, where a span has so many channels."""
    if member is None:
        return channels // attention.heads
    reached = math.ceil((channels + member.ramp) / attention.heads)
    return min(attention.proj.in_features // attention.heads, reached)


def _row_shares(depth: Tensor, rows: int, ramp: float) -> Tensor:
    """How far each row of a head is in use where its heads are so deep."""
    places = torch.arange(rows, device=depth.device) + 0.5
    return ((depth - places) / max(ramp, 1e-3) + 0.5).clamp(0, 1)


def sliced_qkv_weight(attention: SelfAttention, used: int) -> Tensor:
    """The query, key and value weights of the first `used` rows of each head."""
    weight = attention.qkv.weight
    every = weight.view(3, attention.heads, -1, weight.shape[1])
    return every[:, :, :used].flatten(0, 2)


def sliced_proj_weight(attention: SelfAttention, used: int) -> Tensor:
    """The projection's weights of the first `used` rows of each head."""
    weight = attention.proj.weight
    return weight.view(weight.shape[0], attention.heads, -1)[:, :, :used].flatten(1)


def _layer_normed(
    norm: nn.LayerNorm, tokens: Tensor, span: Span, member: SoftMask | None
) -> Tensor:
    """The layer norm over the channels of a span, each counting as far as it belongs."""
    scale, shift = norm.weight[span.slice], norm.bias[span.slice]
    if member is None:
        return functional.layer_norm(tokens, tokens.shape[-1:], scale, shift, norm.eps)
    shares = member.shares[:, None, :]
    total = shares.sum(-1, keepdim=True)
    mean = (tokens * shares).sum(-1, keepdim=True) / total
    variance = ((tokens - mean).square() * shares).sum(-1, keepdim=True) / total
    normed = (tokens - mean) * torch.rsqrt(variance + norm.eps) * scale + shift
    return normed * shares
