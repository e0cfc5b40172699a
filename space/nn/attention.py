"""The attentions that work on a part of the channels (arXiv 2502.01303).

Each takes and returns N x C x H x W maps of its part, and ends in its own norm where it has one.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.nn.layers import BatchNorm

_LINEAR_REACH = 20
_BUCKET_REACH = 40


class ChannelAttention(nn.Module):
    """Channel attention (PAT_ch): maps gated by a function of their means and deviations.

    `BN(x * hardsigmoid(BN(W_m mean(x) + W_s std(x))))`, the unbiased std over the map; both
    matrices are one 1x2 convolution over [mean, std].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, (1, 2), bias=False)
        self.gate_norm = BatchNorm(channels)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Gates the maps."""
        # On a map of its own size a convolution is a matrix product, and several times as slow.
        statistics, weight = mean_and_std(x).flatten(1), self.gate.weight.flatten(1)
        gate = functional.linear(statistics, weight, self.gate.bias)[:, :, None, None]
        out: Tensor = self.norm(x * functional.hardsigmoid(self.gate_norm(gate)))
        return out


def mean_and_std(x: Tensor) -> Tensor:
    """N x C x 1 x 2: mean and unbiased std of each map; the std of a 1x1 map is 0.

    The norm of the deviations is several times faster than `torch.std` on a CPU, and its gradient
    is 0 where all deviations are.
    """
    mean = x.mean((2, 3), keepdim=True)
    freedom = max(x.shape[2] * x.shape[3] - 1, 1)
    std = torch.linalg.vector_norm(x - mean, dim=(2, 3), keepdim=True) / math.sqrt(freedom)
    return torch.cat((mean, std), dim=3)


class SpatialAttention(nn.Module):
    """Spatial attention: `BN(x * hardsigmoid(conv1x1(x)))`, one gate per position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, 1, 1, bias=False)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Gates the positions."""
        out: Tensor = self.norm(x * functional.hardsigmoid(self.gate(x)))
        return out


class PartialSpatialAttention(nn.Module):
    """PAT_sp: spatial attention on the first half of the channels, `conv1x1(BN(b))` on the last.

    Of an odd number of channels, the first half has one more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = channels // 2
        self.sizes = [channels - last, last]
        self.attention = SpatialAttention(channels - last)
        self.norm = BatchNorm(last)
        self.conv = nn.Conv2d(last, last, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Works on both halves."""
        first, last = torch.split(x, self.sizes, dim=1)
        return torch.cat((self.attention(first), self.conv(self.norm(last))), dim=1)


class SelfAttention(nn.Module):
    """Multi-head self-attention (PAT_sf) over the positions of a map, after a layer norm.

    Written with explicit matrix products, so that every counter sees them.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.position = PositionBias(heads)
        self.weights_dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Mixes the positions; tokens are the positions in row-major order."""
        batch, channels, height, width = x.shape
        depth = channels // self.heads
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        qkv = self.qkv(tokens).reshape(batch, height * width, 3, self.heads, depth)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        logits = (query * depth**-0.5) @ key.transpose(-2, -1) + self.position(height, width)
        mixed = self.weights_dropout(logits.softmax(dim=-1)) @ value
        out: Tensor = self.dropout(self.proj(mixed.transpose(1, 2).flatten(2)))
        return out.transpose(1, 2).reshape(batch, channels, height, width)


class PositionBias(nn.Module):
    """A learned bias per head and distance between two positions."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(heads, 2 * _BUCKET_REACH + 1))

    def forward(self, height: int, width: int) -> Tensor:
        """Heads x HW x HW, to be added to the logits of attention."""
        return self.table[:, position_buckets(height, width, self.table.device)]


def position_buckets(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """HW x HW entries of the position table, for every pair of positions of a map.

    The distance, rounded, counts by itself up to 20 pixels and in logarithmic steps beyond, 40 at
    most; the bucket is 40 more (the table has room for signed distances, of which none occur).
    """
    y = torch.arange(height, device=device, dtype=torch.float32)
    x = torch.arange(width, device=device, dtype=torch.float32)
    rows = (y[:, None] - y).square()[:, None, :, None]
    columns = (x[:, None] - x).square()[None, :, None, :]
    distance = (rows + columns).sqrt().round().reshape(height * width, height * width)
    return distance_bucket(distance)


def distance_bucket(distance: Tensor) -> Tensor:
    """The entry of the position table for a distance in whole pixels."""
    beyond = (distance / _LINEAR_REACH).clamp(min=1).log() / math.log(8)
    far = (_LINEAR_REACH * (1 + beyond)).round().clamp(max=_BUCKET_REACH)
    index = torch.where(distance <= _LINEAR_REACH, distance, far)
    return index.long() + _BUCKET_REACH
