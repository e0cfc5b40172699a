"""The kernel of a convolution over a soft span of channels.

Each entry of the kernel connects two channels. Its weight is the share of the channel that is
nearer to the edge of the part. One convolution with such a kernel equals the mixture of the
convolutions over all nested spans. If channels are shared with identity parts, the center of the
kernel passes them through.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Span(NamedTuple):
    """Channels from `low` up to but not including `high`."""

    low: int
    high: int

    @property
    def slice(self) -> slice:
        """The channels as an index."""
        return slice(self.low, self.high)


class ShareSum(NamedTuple):
    """Per-channel weight of some parts together, as a signed sum of the shares of boundaries.

    Attributes:
        constant: 1 if the last part, which has no boundary at its end, is one of them; else 0.
        terms: sign and flat positions among all shares, for each boundary of the parts.
    """

    constant: int
    terms: list[tuple[int, Tensor]]

    def evaluate(self, shares: Tensor) -> Tensor:
        """Return the sums for these shares."""
        (sign, positions), *others = self.terms
        total = shares.take(positions)
        if sign < 0:
            total.neg_()
        for sign, positions in others:
            total.add_(shares.take(positions), alpha=sign)
        return total.add_(self.constant) if self.constant else total

    def add_gradient(self, gradient: Tensor, total: Tensor) -> None:
        """Add a gradient with respect to the sums to the flat gradient of the shares."""
        for sign, positions in self.terms:
            total.index_add_(0, positions.flatten(), gradient.flatten(), alpha=sign)


def share_sum(
    parts: Iterable[int], channels: Tensor, shape: tuple[int, int], device: torch.device | None
) -> ShareSum:
    """Return the per-channel weight of some parts together.

    Args:
        parts: positions of the parts; not all parts of the block.
        channels: channels, in any shape.
        shape: shape of the shares, P - 1 and C.
        device: device of the shares.
    """
    boundaries, width = shape
    ends: dict[int, int] = {}
    for part in parts:
        ends[part] = ends.get(part, 0) + 1
        ends[part - 1] = ends.get(part - 1, 0) - 1
    terms = [
        (sign, (channels + boundary * width).to(device))
        for boundary, sign in ends.items()
        if sign and 0 <= boundary < boundaries
    ]
    return ShareSum(ends.get(boundaries, 0), terms)


class SoftKernel(NamedTuple):
    """How soft boundaries change the weight of a convolution.

    Attributes:
        span: channels that it works on.
        entries: span x span x 1 x 1, the weight of each entry.
        kept: share with which each of the last channels of the span is passed through, or None.
    """

    span: Span
    entries: ShareSum
    kept: ShareSum | None

    def mixed_weight(self, conv: nn.Conv2d, shares: Tensor) -> Tensor:
        """Return the weight for (P - 1) x C shares."""
        weight: Tensor = _MixedWeight.apply(conv.weight, shares, self)
        return weight


def shallower_channels(span: Span, start: float, end: float) -> Tensor:
    """Return the channel nearer to the edge of the part, for each pair of channels of a span.

    If the shares differ, it is the channel with the smaller share. If they are equal, it is the one
    that the nearest boundary reaches first. Hard boundaries then learn the effect of adding or
    removing channels: exactly with one boundary, approximately with two.

    Args:
        span: the channels.
        start: boundary at the start of the part, or minus infinity.
        end: boundary at the end of the part, or infinity.
    """
    channels = torch.arange(span.low, span.high)
    if math.isfinite(start + end):
        end = depth_threshold(start, end) - start
    depth = torch.minimum(channels + 0.5 - start, end - channels - 0.5)
    rows = channels[:, None].expand(-1, len(channels))
    return torch.where(depth[:, None] < depth, rows, rows.T)[:, :, None, None]


def depth_threshold(start: float, end: float) -> float:
    """Return the threshold that orders two channels at opposite ends of a part by depth.

    The sum of their centers is below or above it, and never equal to it. Parts with the same
    threshold have the same order of channels.
    """
    return math.floor(start + end) + 0.5


class _MixedWeight(torch.autograd.Function):
    """The mixed weight, with a gradient that needs far fewer operations than autograd's."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, shares: Tensor, kernel: SoftKernel) -> Tensor:
        sliced = weight[kernel.span.slice, kernel.span.slice]
        mask = kernel.entries.evaluate(shares)
        ctx.save_for_backward(weight, shares, sliced, mask)
        ctx.kernel = kernel
        mixed = sliced * mask
        if kernel.kept is not None:
            kept = kernel.kept.evaluate(shares)
            _center(mixed, len(kept)).add_(kept)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, shares, sliced, mask = ctx.saved_tensors
        kernel: SoftKernel = ctx.kernel
        whole, slopes = torch.zeros_like(weight), torch.zeros_like(shares)
        torch.mul(gradient, mask, out=whole[kernel.span.slice, kernel.span.slice])
        flat = slopes.view(-1)
        kernel.entries.add_gradient((gradient * sliced).sum((2, 3)), flat)
        if kernel.kept is not None:
            (_, positions), *_ = kernel.kept.terms
            kernel.kept.add_gradient(_center(gradient, len(positions)), flat)
        return whole, slopes, None


def _center(weight: Tensor, count: int) -> Tensor:
    """Return the center entries that map each of the last channels to itself."""
    return weight[:, :, 1, 1].diagonal()[-count:]
