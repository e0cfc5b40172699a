"""The kernel of a convolution on some of its channels, each to a degree, one function for all uses.

An entry counts as far as both its channels belong to the part: as far as the one does that lies
less deep inside of it. One convolution with such a kernel is the mixture of those over all nested
spans. Where channels are shared with parts that leave them as they are, the middle of the kernel
does that too.
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
        """To be used as an index."""
        return slice(self.low, self.high)


class ShareSum(NamedTuple):
    """How far channels belong to some parts, as a sum over shares of boundaries.

    Attributes:
        constant: 1 with the last part among them, which no boundary ends; else 0.
        terms: of each boundary of theirs a sign, and places among all shares laid flat.
    """

    constant: int
    terms: list[tuple[int, Tensor]]

    def of(self, shares: Tensor) -> Tensor:
        """The sums for these shares."""
        (sign, places), *further = self.terms
        total = shares.take(places)
        if sign < 0:
            total.neg_()
        for sign, places in further:
            total.add_(shares.take(places), alpha=sign)
        return total.add_(self.constant) if self.constant else total

    def spread(self, gradient: Tensor, onto: Tensor) -> None:
        """Adds a gradient with respect to the sums to that of the shares, which is laid flat."""
        for sign, places in self.terms:
            onto.index_add_(0, places.flatten(), gradient.flatten(), alpha=sign)


def share_sum(
    parts: Iterable[int], channels: Tensor, shape: tuple[int, int], device: torch.device | None
) -> ShareSum:
    """How far channels belong to any of some parts.

    Args:
        parts: their positions, not all there are.
        channels: in any shape.
        shape: P - 1 and C, of the shares.
        device: where they are.
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
    """What a convolution's weight becomes where boundaries are soft.

    Attributes:
        span: the channels that it works on.
        entries: span x span x 1 x 1, how far each entry counts.
        kept: of the last channels of the span, how far each is left as it is as well; None for not
            at all.
    """

    span: Span
    entries: ShareSum
    kept: ShareSum | None

    def mixed_weight(self, conv: nn.Conv2d, shares: Tensor) -> Tensor:
        """The weight for (P - 1) x C shares."""
        weight: Tensor = _MixedWeight.apply(conv.weight, shares, self)
        return weight


def shallower_channels(span: Span, start: float, end: float) -> Tensor:
    """Which channel each entry among those of a span follows: the one that lies less deep.

    Where shares differ that is the lesser one. Of equal shares it is the one that the nearest
    boundary comes to first, so that hard boundaries learn what it brings to add or to remove
    channels: with one boundary exactly that, with two nearly.

    Args:
        span: the channels.
        start: where the part begins; minus infinity where all channels do.
        end: where it ends; infinity where they do.
    """
    channels = torch.arange(span.low, span.high)
    if math.isfinite(start + end):
        end = depth_threshold(start, end) - start
    depth = torch.minimum(channels + 0.5 - start, end - channels - 0.5)
    own = channels[:, None].expand(-1, len(channels))
    return torch.where(depth[:, None] < depth, own, own.T)[:, :, None, None]


def depth_threshold(start: float, end: float) -> float:
    """What tells which of two channels at opposite ends of a part lies deeper.

    Their middles add up to less or to more than this; as they never add up to the same, parts with
    equal turning points have the same order.
    """
    return math.floor(start + end) + 0.5


class _MixedWeight(torch.autograd.Function):
    """What autograd would make of slices, a minimum and sums, in a fraction of the operations."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, shares: Tensor, kernel: SoftKernel) -> Tensor:
        own = weight[kernel.span.slice, kernel.span.slice]
        mask = kernel.entries.of(shares)
        ctx.save_for_backward(weight, shares, own, mask)
        ctx.kernel = kernel
        mixed = own * mask
        if kernel.kept is not None:
            kept = kernel.kept.of(shares)
            _middle(mixed, len(kept)).add_(kept)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, shares, own, mask = ctx.saved_tensors
        kernel: SoftKernel = ctx.kernel
        whole, slopes = torch.zeros_like(weight), torch.zeros_like(shares)
        torch.mul(gradient, mask, out=whole[kernel.span.slice, kernel.span.slice])
        flat = slopes.view(-1)
        kernel.entries.spread((gradient * own).sum((2, 3)), flat)
        if kernel.kept is not None:
            (_, places), *_ = kernel.kept.terms
            kernel.kept.spread(_middle(gradient, len(places)), flat)
        return whole, slopes, None


def _middle(weight: Tensor, count: int) -> Tensor:
    """What a 3x3 convolution does to each of its last channels alone, at the same place."""
    return weight[:, :, 1, 1].diagonal()[-count:]
