"""Assignment of a block's channels to its parts while the boundaries between them are soft.

Channels near a soft boundary belong to both of its parts, and their maps are the sum of what both
compute. If one of the two is the identity and the other a convolution, the convolution computes
both: the center of its kernel holds the identity. Then no maps are added, and the block is as fast
as a static one.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.nn.operations import Identity, PartialConv, SoftMask
from partialnas.space.nn.soft_kernel import (
    DetachedKernels,
    SoftKernel,
    Span,
    shallower_channels,
    share_sum,
)


class PartAssignment(NamedTuple):
    """The channels of one part.

    Attributes:
        part: position of the part.
        span: channels that it works on.
        segments: positions of the segments of the channels that make up its span.
        kernel: soft kernel of a convolution that divides all images alike, else None.
    """

    part: int
    span: Span
    segments: range
    kernel: SoftKernel | None


class ChannelPartition:
    """Assignment of a block's channels to its parts.

    Args:
        parts: operations with weights for all channels.
        spans: channels of each part, together all channels; parts with an empty span are left out.
            Channels in the span of a single part belong to it fully.
        ends: boundaries of the parts but the last, if all images are divided alike.
        device: device of the shares.
    """

    def __init__(
        self,
        parts: Iterable[nn.Module],
        spans: Sequence[Span],
        ends: Sequence[float] | None = None,
        device: torch.device | None = None,
    ) -> None:
        operations = list(parts)
        self.device = device
        self._is_identity = [isinstance(operation, Identity) for operation in operations]
        kernels: list[SoftKernel | None] = [None] * len(operations)
        if ends is not None:
            convs = [isinstance(operation, PartialConv) for operation in operations]
            kernels = list(_kernels(convs, self._is_identity, spans, ends, device))
            spans = list(_spans_without_convs(convs, self._is_identity, spans))
        cuts = sorted({edge for span in spans if span.high > span.low for edge in span})
        self._lengths = [high - low for low, high in pairwise(cuts)]
        self._assignments = [
            PartAssignment(index, span, range(cuts.index(span.low), cuts.index(span.high)), kernel)
            for index, (span, kernel) in enumerate(zip(spans, kernels, strict=True))
            if span.high > span.low
        ]
        used = [segment for assignment in self._assignments for segment in assignment.segments]
        self._shared = [used.count(segment) > 1 for segment in range(len(self._lengths))]

    def mix(
        self,
        parts: Sequence[nn.Module] | nn.ModuleList,
        x: Tensor,
        shares: Tensor,
        ramp: float,
        kernels: DetachedKernels,
    ) -> Tensor:
        """Apply each part to its span, and add up the results where spans overlap.

        Args:
            parts: operations.
            x: N x C x H x W maps of all channels.
            shares: N x (P - 1) x C, share of each channel that lies before each boundary, from 0 to
                1; (P - 1) x C if all images are divided alike.
            ramp: channels over which boundaries are soft.
            kernels: kernels of the convolutions.
        """
        segments = torch.split(x, self._lengths, dim=1)
        outputs: list[list[Tensor]] = [[] for _ in segments]
        for assignment in self._assignments:
            inputs = [segments[segment] for segment in assignment.segments]
            if self._is_identity[assignment.part]:
                pieces = self._scaled(assignment, inputs, shares)
            else:
                part = parts[assignment.part]
                pieces = _operate(part, assignment, inputs, shares, ramp, kernels)
            for segment, piece in zip(assignment.segments, pieces, strict=True):
                outputs[segment].append(piece)
        sums = [sum(pieces[1:], pieces[0]) for pieces in outputs]
        return sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)

    def _scaled(
        self, assignment: PartAssignment, inputs: list[Tensor], shares: Tensor
    ) -> Sequence[Tensor]:
        """Return the maps of an identity part, scaled in shared segments only."""
        shared = [self._shared[segment] for segment in assignment.segments]
        if not any(shared):
            return inputs
        lengths = [piece.shape[1] for piece in inputs]
        scales = torch.split(_part_shares(shares, assignment), lengths, dim=1)
        return [
            piece * scale[:, :, None, None] if is_shared else piece
            for piece, scale, is_shared in zip(inputs, scales, shared, strict=True)
        ]


def _operate(
    part: Any,
    assignment: PartAssignment,
    inputs: list[Tensor],
    shares: Tensor,
    ramp: float,
    kernels: DetachedKernels,
) -> Sequence[Tensor]:
    """Apply a part to its segments."""
    x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
    if assignment.kernel is not None and isinstance(part, PartialConv):
        maps = functional.conv2d(x, kernels.kernel(part, assignment.kernel, shares), padding=1)
    else:
        mask = SoftMask(_part_shares(shares, assignment), ramp)
        maps = part.forward_sliced(x, assignment.span, mask)
    if len(inputs) == 1:
        return [maps]
    return torch.split(maps, [piece.shape[1] for piece in inputs], dim=1)


def _part_shares(shares: Tensor, assignment: PartAssignment) -> Tensor:
    """Return the per-channel weight of a part, B x span."""
    span_shares = shares.reshape(-1, *shares.shape[-2:])[:, :, assignment.span.slice]
    before, last = assignment.part - 1, shares.shape[-2]
    if before < 0:
        return span_shares[:, 0]
    after = span_shares[:, assignment.part] if assignment.part < last else 1
    return after - span_shares[:, before]


def _kernels(
    convs: Sequence[bool],
    idle: Sequence[bool],
    spans: Sequence[Span],
    ends: Sequence[float],
    device: torch.device | None,
) -> Iterator[SoftKernel | None]:
    """Yield the kernel of each convolution; the first one that has a channel passes it through."""
    shape = len(ends), spans[-1].high
    identities = [index for index, is_idle in enumerate(idle) if is_idle]
    done = 0
    edges = [-math.inf, *ends, math.inf]
    for index, span in enumerate(spans):
        if not convs[index]:
            yield None
            continue
        channels = shallower_channels(span, edges[index], edges[index + 1])
        entries = share_sum([index], channels, shape, device)
        last = torch.arange(max(span.low, done), span.high)
        kept = share_sum(identities, last, shape, device) if identities and len(last) else None
        done = span.high
        yield SoftKernel(span, entries, kept)


def _spans_without_convs(
    convs: Sequence[bool], idle: Sequence[bool], spans: Sequence[Span]
) -> Iterator[Span]:
    """Yield the spans, those of identity parts without the channels of convolutions."""
    for index, span in enumerate(spans):
        before = [other.high for other in compress(spans[:index], convs)]
        after = [other.low for other in compress(spans[index:], convs[index:])]
        yield Span(max([span.low, *before]), min([span.high, *after])) if idle[index] else span
