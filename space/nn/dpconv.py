"""Mixers that learn how their channels are divided: DPConv, and its neighbours (arXiv 2502.01303).

Training and evaluation compute the same function of the weights and the sizes, always. What moves
the sizes, and ends with them fixed, is `partialnas.runs.ratio_learning.tracking`.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from partialnas.space.arch.parts import LearningSettings, RealizedPart, legal_sizes
from partialnas.space.cost.formulas import predictor_width
from partialnas.space.nn.attention import SelfAttention
from partialnas.space.nn.channel_partition import ChannelPartition
from partialnas.space.nn.sliced_ops import forward_sliced
from partialnas.space.nn.soft_kernel import Span, depth_threshold


class DividedMixer(nn.Module):
    """A mixer whose parts each hold an operation over all channels."""

    def __init__(self, parts: Sequence[RealizedPart], operations: Sequence[nn.Module]) -> None:
        super().__init__()
        self.width = sum(part.channels for part in parts)
        self.parts = nn.ModuleList(_any_channels(operation, self.width) for operation in operations)

    def divided(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """The maps, the channels divided by whole sizes; parts may have none."""
        spans = [Span(low, high) for low, high in pairwise([0, *accumulate(sizes)])]
        pieces = [
            forward_sliced(part, x[:, span.slice], span, None)
            for part, span in zip(self.parts, spans, strict=True)
            if span.high > span.low
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


class LearnedMixer(DividedMixer):
    """A mixer with one division of its channels for all images, moved while it is trained.

    Attributes:
        sizes: channels of each part; whole numbers once they are fixed.
        ramp: channels over which a boundary is soft; 0 for a hard one.
        shares: (P - 1) x C, how far each channel lies before each boundary. While the mixer learns
            the gradient of the loss with respect to it is left in its `grad`, for channels near a
            boundary.
    """

    shares: Tensor

    def __init__(self, parts: Sequence[RealizedPart], operations: Sequence[nn.Module]) -> None:
        super().__init__(parts, operations)
        self.register_buffer("shares", torch.empty(len(parts) - 1, self.width), persistent=False)
        self._planned: tuple[Any, Any] = None, None
        self.set_sizes([float(part.channels) for part in parts], ramp=0.0)

    def set_sizes(
        self,
        sizes: Sequence[float],
        ramp: float,
        largest_sizes: Sequence[float] | None = None,
        smallest_sizes: Sequence[float] | None = None,
    ) -> None:
        """Moves the boundaries.

        Args:
            sizes: channels of each part.
            ramp: channels over which a boundary is soft.
            largest_sizes: where hard boundaries (ramp 0) still learn: sizes up to which their gradients
                are to be known.
            smallest_sizes: the same, sizes from which on.
        """
        self.sizes, self.ramp = tuple(map(float, sizes)), ramp
        self.fixed = ramp == 0 and largest_sizes is None and smallest_sizes is None
        ends = _ends(self.sizes)
        self.shares = torch.tensor(
            [_before(end, ramp, self.width) for end in ends],
            dtype=self.shares.dtype,
            device=self.shares.device,
            requires_grad=not self.fixed,
        )
        reached = [ends, *(_ends(far) for far in (largest_sizes, smallest_sizes) if far is not None)]
        lows = [max(math.floor(min(own) - ramp / 2), 0) for own in zip(*reached, strict=True)]
        highs = [math.ceil(max(own) + ramp / 2) for own in zip(*reached, strict=True)]
        edges = zip([0, *lows], [*highs, self.width], strict=True)
        self._plan = [Span(low, min(high, self.width)) for low, high in edges], ends

    def _division(self) -> ChannelPartition:
        """Who works where; planned anew when that changes, which it seldom does."""
        (spans, ends), device = self._plan, self.shares.device
        key = spans, [depth_threshold(*pair) for pair in pairwise(ends)], device
        if key != self._planned[0]:
            self._planned = key, ChannelPartition(self.parts, spans, ends, device)
        division: ChannelPartition = self._planned[1]
        return division

    def get_extra_state(self) -> Tensor:
        """The ramp and the sizes, as they are stored with the weights."""
        return torch.tensor([self.ramp, *self.sizes], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes up a stored ramp and sizes."""
        ramp, *sizes = state.tolist()
        self.set_sizes(sizes, ramp)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W maps, each part of their channels worked on by its operation."""
        if self.fixed:
            return self.divided(x, [int(size) for size in self.sizes])
        return self._division().mix(self.parts, x, self.shares, self.ramp)


class InputDependentMixer(DividedMixer):
    """A mixer that divides the channels of every image as a small predictor says.

    Its sizes are legal ones at any time, and hard. In evaluation the images of a batch are grouped
    by size, so that less is computed where less is used.

    Attributes:
        logit_offset: added to what the predictor says; holds the budget.
        predictor_trainable: whether the predictor gets gradients.
        option_indices: of each image of the last batch the position of its sizes among `options`.
    """

    option_indices: Tensor | None

    def __init__(
        self,
        parts: Sequence[RealizedPart],
        operations: Sequence[nn.Module],
        learning: LearningSettings,
    ) -> None:
        super().__init__(parts, operations)
        (self.position,) = learning.parts
        self.options = sorted(legal_sizes(tuple(parts), learning), key=self._learned)
        hidden = predictor_width(self.width)
        self.predictor = nn.Sequential(
            nn.Linear(self.width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, 1, bias=False)
        )
        self.logit_offset = 0.0
        self.predictor_trainable = True
        self.option_indices = None

    def _learned(self, sizes: Sequence[int]) -> int:
        return sizes[self.position]

    def get_extra_state(self) -> Tensor:
        """The shift, and whether the predictor still learns."""
        return torch.tensor([self.logit_offset, float(self.predictor_trainable)], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes up a stored shift."""
        self.logit_offset, learns = state.tolist()
        self.predictor_trainable = bool(learns)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W maps, each image's channels divided by its own sizes."""
        size = self._predicted(x)
        table = torch.tensor([self._learned(o) for o in self.options], device=x.device)
        self.option_indices = chosen = (size.detach()[:, None] - table).abs().argmin(1)
        if not self.training:
            return self._grouped(x, chosen)
        return self._masked(x, size, chosen)

    def _predicted(self, x: Tensor) -> Tensor:
        """N sizes, not yet legal ones, between the least and the most."""
        pooled = x.mean((2, 3))
        with torch.set_grad_enabled(self.predictor_trainable and torch.is_grad_enabled()):
            said = self.predictor(pooled)[:, 0]
        least, most = (self._learned(self.options[end]) for end in (0, -1))
        return least + (most - least) * torch.sigmoid(said.float() + self.logit_offset)

    def _grouped(self, x: Tensor, chosen: Tensor) -> Tensor:
        groups = sorted(set(chosen.tolist()))
        if len(groups) == 1:
            return self.divided(x, self.options[groups[0]])
        out = torch.empty_like(x)
        for option in groups:
            images = (chosen == option).nonzero()[:, 0]
            out[images] = self.divided(x[images], self.options[option]).to(out.dtype)
        return out

    def _masked(self, x: Tensor, size: Tensor, chosen: Tensor) -> Tensor:
        """The same by masks over all images at once; gradients reach the predictor by a ramp."""
        sizes = torch.tensor(self.options, dtype=torch.float32, device=x.device)[chosen]
        ends = sizes.cumsum(1)[:, :-1]
        moved = (size - size.detach())[:, None] if self.predictor_trainable else 0.0
        ramp = max(self.width / 8, 1.0)
        channels = torch.arange(self.width, device=x.device) + 0.5
        hard = (channels < ends[:, :, None]).float()
        after_learned = torch.arange(ends.shape[1], device=x.device) >= self.position
        soft = (ends + moved * after_learned)[:, :, None] - channels
        slope = (soft / ramp + 0.5).clamp(0, 1)
        shares = hard + slope - slope.detach()
        most = [int(end) for end in ends.amax(0).tolist()]
        least = [int(end) for end in ends.amin(0).tolist()]
        reach = ramp / 2 if self.predictor_trainable else 0.0
        lows = [0, *(max(math.floor(end - reach), 0) for end in least)]
        highs = [*(min(math.ceil(end + reach), self.width) for end in most), self.width]
        spans = [Span(low, high) for low, high in zip(lows, highs, strict=True)]
        return ChannelPartition(self.parts, spans).mix(self.parts, x, shares, 0.0)


def _before(end: float, ramp: float, width: int) -> list[float]:
    """How far each channel lies before the end of a part."""
    if not ramp:
        return [float(channel + 0.5 < end) for channel in range(width)]
    low = min(max(math.floor(end - ramp / 2), 0), width)
    high = min(max(math.ceil(end + ramp / 2), 0), width)
    soft = [min(max((end - c - 0.5) / ramp + 0.5, 0.0), 1.0) for c in range(low, high)]
    return [1.0] * low + soft + [0.0] * (width - high)


def _ends(sizes: Sequence[float]) -> list[float]:
    """Where the parts but the last end."""
    return list(accumulate(sizes))[:-1]


def _any_channels(operation: nn.Module, width: int) -> nn.Module:
    """The operation, self-attention with a whole number of rows for each head."""
    if isinstance(operation, SelfAttention) and width % operation.heads:
        inner = width - width % operation.heads
        operation.qkv = nn.Linear(width, 3 * inner, bias=False)
        operation.proj = nn.Linear(inner, width)
    return operation
