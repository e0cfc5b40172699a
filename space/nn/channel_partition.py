"""Which part of a block works on which channels while the boundaries between parts are soft.

Around a soft boundary the channels belong to both of its parts, and the maps are the sum of what
both make of them. Where one of the two would leave its channels as they are and the other is a
convolution, that one does it for both, in the middle of its kernel: then no maps are to be added,
and a block runs as a static one does.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.nn.sliced_ops import SoftMask, forward_sliced
from partialnas.space.nn.soft_kernel import SoftKernel, Span, shallower_channels, share_sum


class PartAssignment(NamedTuple):
    """What a part has to do.

    Attributes:
        part: its position.
        span: the channels that it works on.
        segments: positions of the segments of the channels that make up its span.
        kernel: of a convolution that works on all images alike.
    """

    part: int
    span: Span
    segments: range
    kernel: SoftKernel | None


class ChannelPartition:
    """How the parts of a block share its channels.

    Args:
        parts: operations with weights for all channels.
        spans: of each part, together all channels; parts with an empty one are left out. Channels
            in the span of one part alone belong to it wholly.
        ends: where the parts but the last end, if all images are divided alike.
        device: where their shares are.
    """

    def __init__(
        self,
        parts: Iterable[nn.Module],
        spans: Sequence[Span],
        ends: Sequence[float] | None = None,
        device: torch.device | None = None,
    ) -> None:
        kinds = [type(part) for part in parts]
        self._idle = [issubclass(kind, nn.Identity) for kind in kinds]
        kernels: list[SoftKernel | None] = [None] * len(kinds)
        if ends is not None:
            convs = [issubclass(kind, nn.Conv2d) for kind in kinds]
            kernels = list(_kernels(convs, self._idle, spans, ends, device))
            spans = list(_relieved(convs, self._idle, spans))
        cuts = sorted({edge for span in spans if span.high > span.low for edge in span})
        self._lengths = [high - low for low, high in pairwise(cuts)]
        self._tasks = [
            PartAssignment(index, span, range(cuts.index(span.low), cuts.index(span.high)), kernel)
            for index, (span, kernel) in enumerate(zip(spans, kernels, strict=True))
            if span.high > span.low
        ]
        held = [segment for task in self._tasks for segment in task.segments]
        self._shared = [held.count(segment) > 1 for segment in range(len(self._lengths))]

    def mix(
        self, parts: Sequence[nn.Module] | nn.ModuleList, x: Tensor, shares: Tensor, ramp: float
    ) -> Tensor:
        """The maps, each part working on its span; where spans overlap, the sum of what they make.

        Args:
            parts: the operations.
            x: N x C x H x W maps of all channels.
            shares: N x (P - 1) x C, how far each channel lies before each boundary; (P - 1) x C
                where all images are divided alike.
            ramp: channels over which boundaries are soft.
        """
        segments = torch.split(x, self._lengths, dim=1)
        made: list[list[Tensor]] = [[] for _ in segments]
        for task in self._tasks:
            own = [segments[segment] for segment in task.segments]
            if self._idle[task.part]:
                pieces = self._as_they_are(task, own, shares)
            else:
                pieces = _worked_on(parts[task.part], task, own, shares, ramp)
            for segment, piece in zip(task.segments, pieces, strict=True):
                made[segment].append(piece)
        sums = [sum(pieces[1:], pieces[0]) for pieces in made]
        return sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)

    def _as_they_are(
        self, task: PartAssignment, own: list[Tensor], shares: Tensor
    ) -> Sequence[Tensor]:
        """Maps as far as they belong to an idle part; costs nothing where no boundary is near."""
        shared = [self._shared[segment] for segment in task.segments]
        if not any(shared):
            return own
        scales = torch.split(_member(shares, task), [piece.shape[1] for piece in own], dim=1)
        return [
            piece * scale[:, :, None, None] if several else piece
            for piece, scale, several in zip(own, scales, shared, strict=True)
        ]


def _worked_on(
    part: nn.Module, task: PartAssignment, own: list[Tensor], shares: Tensor, ramp: float
) -> Sequence[Tensor]:
    """What a part makes of its segments."""
    x = own[0] if len(own) == 1 else torch.cat(own, 1)
    if task.kernel is not None and isinstance(part, nn.Conv2d):
        maps = functional.conv2d(x, task.kernel.mixed_weight(part, shares), padding=1)
    else:
        maps = forward_sliced(part, x, task.span, SoftMask(_member(shares, task), ramp))
    return [maps] if len(own) == 1 else torch.split(maps, [piece.shape[1] for piece in own], dim=1)


def _member(shares: Tensor, task: PartAssignment) -> Tensor:
    """B x span, how far the channels of a part belong to it."""
    own = shares.reshape(-1, *shares.shape[-2:])[:, :, task.span.slice]
    before, last = task.part - 1, shares.shape[-2]
    if before < 0:
        return own[:, 0]
    return (own[:, task.part] if task.part < last else 1) - own[:, before]


def _kernels(
    convs: Sequence[bool],
    idle: Sequence[bool],
    spans: Sequence[Span],
    ends: Sequence[float],
    device: torch.device | None,
) -> Iterator[SoftKernel | None]:
    """Of each convolution its kernel; each channel is kept by the first that has it."""
    shape = len(ends), spans[-1].high
    still = [index for index, nothing in enumerate(idle) if nothing]
    taken = 0
    edges = [-math.inf, *ends, math.inf]
    for index, span in enumerate(spans):
        if not convs[index]:
            yield None
            continue
        entries = share_sum(
            [index], shallower_channels(span, edges[index], edges[index + 1]), shape, device
        )
        last = torch.arange(max(span.low, taken), span.high)
        kept = share_sum(still, last, shape, device) if still and len(last) else None
        taken = span.high
        yield SoftKernel(span, entries, kept)


def _relieved(convs: Sequence[bool], idle: Sequence[bool], spans: Sequence[Span]) -> Iterator[Span]:
    """The spans, of idle parts without what convolutions do for them."""
    for index, span in enumerate(spans):
        before = [other.high for other, conv in zip(spans[:index], convs, strict=False) if conv]
        after = [
            other.low for other, conv in zip(spans[index:], convs[index:], strict=True) if conv
        ]
        yield Span(max([span.low, *before]), min([span.high, *after])) if idle[index] else span
