"""Channel, spatial and self-attention on a part of the channels (arXiv 2502.01303).

Each takes and returns N x C x H x W maps of its part. Channel and spatial attention end in a norm.
"""

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.nn.layers import BatchNorm
from partialnas.space.nn.norm_folding import fold_after, fold_output_norm
from partialnas.space.nn.operations import PartOperation, SoftMask
from partialnas.space.nn.soft_kernel import Span

_LINEAR_REACH = 20
_BUCKET_REACH = 40
_KEPT_SIZES = 4


class StatisticsConv(nn.Conv2d):
    """1x2 convolution over the mean and the std of each map, computed as a matrix product.

    A convolution over a map of its kernel's size is a matrix product, but several times slower.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (1, 2), bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map N x C x 1 x 2 statistics to N x C x 1 x 1."""
        out = functional.linear(input.flatten(1), self.weight.flatten(1), self.bias)
        return out[:, :, None, None]


class ChannelAttention(PartOperation):
    """Channel attention (PAT_ch): each map is gated by the means and deviations of all maps.

    `BN(x * hardsigmoid(BN(W_m mean(x) + W_s std(x))))` with the unbiased std over the map. Both
    matrices are one 1x2 convolution over [mean, std].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = StatisticsConv(channels)
        self.gate_norm = BatchNorm(channels)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Gate N x C x H x W maps."""
        gate = functional.hardsigmoid(self.gate_norm(self.gate(mean_and_std(x))))
        out: Tensor = self.norm(x * gate)
        return out

    def forward_sliced(self, x: Tensor, span: Span, mask: SoftMask | None) -> Tensor:
        """Gate the maps of a span; see `PartOperation`."""
        statistics = SoftMask.apply(mask, mean_and_std(x))
        weight = self.gate.weight[span.slice, span.slice].flatten(1)
        gate = functional.linear(statistics.flatten(1), weight)[:, :, None, None]
        gate = functional.hardsigmoid(self.gate_norm.forward_sliced(gate, span))
        return SoftMask.apply(mask, self.norm.forward_sliced(x * gate, span))

    def sliced_state(self, span: Span) -> dict[str, Tensor]:
        """Return the weights of a span; see `PartOperation`."""
        gate = self.gate.weight[span.slice, span.slice]
        return self._channel_state(span) | {"gate.weight": gate}

    def fold_norms(self, *, keep_output: bool) -> tuple[Tensor, Tensor] | None:
        """Fold both norms; see `PartOperation`."""
        fold_after(self, self.gate, "gate_norm")
        return fold_output_norm(self, self.norm, keep_output=keep_output)


def mean_and_std(x: Tensor) -> Tensor:
    """Return N x C x 1 x 2: mean and unbiased std of each map; the std of a 1x1 map is 0.

    The norm of the deviations is several times faster than `torch.std` on a CPU, and its gradient
    is 0 if all deviations are 0.
    """
    mean = x.mean((2, 3), keepdim=True)
    area = x.shape[2] * x.shape[3]
    # Traced sizes stay variables in arithmetic, but not in `max` and `math.sqrt`.
    freedom = area - 1 + 1 // area  # 1 // area is 1 for a 1x1 map, else 0
    std = torch.linalg.vector_norm(x - mean, dim=(2, 3), keepdim=True) / freedom**0.5
    return torch.cat((mean, std), dim=3)


class SpatialAttention(PartOperation):
    """Spatial attention: `BN(x * hardsigmoid(conv1x1(x)))`, one gate per position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, 1, 1, bias=False)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Gate the positions of N x C x H x W maps."""
        out: Tensor = self.norm(x * functional.hardsigmoid(self.gate(x)))
        return out

    def forward_sliced(self, x: Tensor, span: Span, mask: SoftMask | None) -> Tensor:
        """Gate the positions by the channels of a span; see `PartOperation`."""
        gate = functional.conv2d(SoftMask.apply(mask, x), self.gate.weight[:, span.slice])
        maps = self.norm.forward_sliced(x * functional.hardsigmoid(gate), span)
        return SoftMask.apply(mask, maps)

    def sliced_state(self, span: Span) -> dict[str, Tensor]:
        """Return the weights of a span; see `PartOperation`."""
        return self._channel_state(span) | {"gate.weight": self.gate.weight[:, span.slice]}

    def fold_norms(self, *, keep_output: bool) -> tuple[Tensor, Tensor] | None:
        """Fold the norm; see `PartOperation`."""
        return fold_output_norm(self, self.norm, keep_output=keep_output)


class PartialSpatialAttention(nn.Module):
    """PAT_sp: spatial attention on the first half of the channels, `conv1x1(BN(b))` on the last.

    If the number of channels is odd, the first half has one more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = channels // 2
        self.sizes = [channels - last, last]
        self.attention = SpatialAttention(channels - last)
        self.norm = BatchNorm(last)
        self.conv = nn.Conv2d(last, last, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both operations to N x C x H x W maps."""
        first, last = torch.split(x, self.sizes, dim=1)
        return torch.cat((self.attention(first), self.conv(self.norm(last))), dim=1)


class SelfAttention(PartOperation):
    """Multi-head self-attention (PAT_sf) over the positions of a map, after a layer norm.

    Uses explicit matrix products, so that every operation counter sees them. For a number of
    channels that is no multiple of the heads, as blocks with learned ratios may have, the heads
    have the channels of the next lower multiple.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.depth = channels // heads
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        inner = heads * self.depth
        self.qkv = nn.Linear(channels, 3 * inner, bias=False)
        self.position = PositionBias(heads)
        self.weights_dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(inner, channels)
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def build(cls, channels: int, heads: int, dropout: float) -> Self:
        """Return a new module; see `PartOperation`."""
        return cls(channels, heads, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions of N x C x H x W maps; tokens are positions in row-major order."""
        height, width = x.shape[2:]
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        qkv = self.qkv(tokens).unflatten(2, (3, self.heads, self.depth))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        logits = (query * self.depth**-0.5) @ key.transpose(-2, -1) + self.position(height, width)
        mixed = self.weights_dropout(logits.softmax(dim=-1)) @ value
        out = self._drop_out(self.proj(mixed.transpose(1, 2).flatten(2)))
        return out.transpose(1, 2).reshape(x.shape)

    def forward_sliced(self, x: Tensor, span: Span, mask: SoftMask | None) -> Tensor:
        """Mix the positions of a span; see `PartOperation`.

        Each head uses the first rows of those that it has for all channels.
        """
        batch, channels, height, width = x.shape
        heads = self.heads
        tokens = self._normalize_sliced(x.flatten(2).transpose(1, 2), span, mask)
        rows = self._used_rows(channels, mask)
        qkv = functional.linear(tokens, self._qkv_weight(rows)[:, span.slice])
        parts = qkv.reshape(batch, height * width, 3, heads, rows).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        if mask is None:
            query = query * rows**-0.5
        else:
            depth = mask.size[:, None, None, None] / heads
            share = _row_shares(depth, rows, mask.ramp / heads)
            query, value = query * share * depth**-0.5, value * share
        logits = query @ key.transpose(-2, -1) + self.position(height, width)
        mixed = self.weights_dropout(logits.softmax(dim=-1)) @ value
        weight, bias = self._proj_weight(rows)[span.slice], self.proj.bias[span.slice]
        mixed = functional.linear(mixed.transpose(1, 2).flatten(2), weight, bias)
        return SoftMask.apply(mask, self._drop_out(mixed).transpose(1, 2).reshape(x.shape))

    def _drop_out(self, tokens: Tensor) -> Tensor:
        """Apply dropout to N x HW x C tokens.

        As a matrix, because its gradient is then contiguous. `torch.compile` assumes that, but the
        gradient of dropout has the strides of its input.
        """
        out: Tensor = self.dropout(tokens.flatten(0, 1))
        return out.view_as(tokens)

    def sliced_state(self, span: Span) -> dict[str, Tensor]:
        """Return the weights of a span; see `PartOperation`."""
        rows = (span.high - span.low) // self.heads
        return self._channel_state(span) | {
            "qkv.weight": self._qkv_weight(rows)[:, span.slice],
            "position.table": self.position.table,
            "proj.weight": self._proj_weight(rows)[span.slice],
        }

    def _used_rows(self, channels: int, mask: SoftMask | None) -> int:
        """Return the rows of each head that a span of so many channels uses at least in part."""
        if mask is None:
            return channels // self.heads
        reached = math.ceil((channels + mask.ramp) / self.heads)
        return min(self.proj.in_features // self.heads, reached)

    def _qkv_weight(self, rows: int) -> Tensor:
        """Return the query, key and value weights of the first rows of each head."""
        weight = self.qkv.weight
        by_head = weight.view(3, self.heads, -1, weight.shape[1])
        return by_head[:, :, :rows].flatten(0, 2)

    def _proj_weight(self, rows: int) -> Tensor:
        """Return the projection weights of the first rows of each head."""
        weight = self.proj.weight
        return weight.view(weight.shape[0], self.heads, -1)[:, :, :rows].flatten(1)

    def _normalize_sliced(self, tokens: Tensor, span: Span, mask: SoftMask | None) -> Tensor:
        """Apply the layer norm over the channels of a span, each counted by its weight."""
        scale, shift = self.norm.weight[span.slice], self.norm.bias[span.slice]
        if mask is None:
            return functional.layer_norm(tokens, tokens.shape[-1:], scale, shift, self.norm.eps)
        shares = mask.shares[:, None, :]
        total = shares.sum(-1, keepdim=True)
        mean = (tokens * shares).sum(-1, keepdim=True) / total
        variance = ((tokens - mean).square() * shares).sum(-1, keepdim=True) / total
        normalized = (tokens - mean) * torch.rsqrt(variance + self.norm.eps) * scale + shift
        return normalized * shares


def _row_shares(depth: Tensor, rows: int, ramp: float) -> Tensor:
    """Return how much each row of a head is used, given the depth of the heads."""
    places = torch.arange(rows, device=depth.device) + 0.5
    return ((depth - places) / max(ramp, 1e-3) + 0.5).clamp(0, 1)


class PositionBias(nn.Module):
    """A learned bias for each head and distance between two positions.

    Which entries of the table a map needs is computed once for each of the first few map sizes, and
    kept outside of the state. Kept entries are not replaced: a captured CUDA graph reads them.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(heads, 2 * _BUCKET_REACH + 1))
        self._kept_buckets: dict[tuple[int, int], Tensor] = {}

    def forward(self, height: int, width: int) -> Tensor:
        """Return heads x HW x HW biases, to add to the attention logits."""
        return self.table[:, self._buckets(height, width)]

    def _buckets(self, height: int, width: int) -> Tensor:
        """Return the entries for a map; a traced graph computes them, as its sizes may vary."""
        device = self.table.device
        if not isinstance(height, int) or torch.compiler.is_compiling() or _is_tracing():
            return position_buckets(height, width, device)
        kept = self._kept_buckets.get((height, width))
        if kept is not None and kept.device == device:
            return kept
        with torch.inference_mode(False):  # they may be used in training later
            buckets = position_buckets(height, width, device)
        if self._can_keep(buckets) and (kept is not None or len(self._kept_buckets) < _KEPT_SIZES):
            self._kept_buckets[height, width] = buckets
        return buckets

    def _can_keep(self, buckets: Tensor) -> bool:
        """Return whether entries have values: not those of a fake tensor or a graph in capture."""
        is_captured = self.table.is_cuda and torch.cuda.is_current_stream_capturing()
        return isinstance(self.table, type(buckets)) and not is_captured


def _is_tracing() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[no-untyped-call, attr-defined]


def position_buckets(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the HW x HW entries of the position table for all pairs of positions of a map.

    The rounded distance is used as it is up to 20 pixels and in logarithmic steps beyond, up to 40.
    The bucket is 40 more: the table has room for negative distances, which do not occur.
    """
    y = torch.arange(height, device=device, dtype=torch.float32)
    x = torch.arange(width, device=device, dtype=torch.float32)
    rows = (y[:, None] - y).square()[:, None, :, None]
    columns = (x[:, None] - x).square()[None, :, None, :]
    distance = (rows + columns).sqrt().round().reshape(height * width, height * width)
    return distance_bucket(distance)


def distance_bucket(distance: Tensor) -> Tensor:
    """Return the entry of the position table for a distance in whole pixels."""
    beyond = (distance / _LINEAR_REACH).clamp(min=1).log() / math.log(8)
    far = (_LINEAR_REACH * (1 + beyond)).round().clamp(max=_BUCKET_REACH)
    index = torch.where(distance <= _LINEAR_REACH, distance, far)
    return index.long() + _BUCKET_REACH
