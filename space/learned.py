"""Mixers that learn how their channels are divided: DPConv, and its neighbours (arXiv 2502.01303).

Training and evaluation compute the same function of the weights and the sizes, always. What moves
the sizes, and ends with them fixed, is `partialnas.runs.ratios`.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from partialnas.space.attention import SelfAttention
from partialnas.space.formulas import predictor_width
from partialnas.space.masked import Membership, Span, apply
from partialnas.space.parts import Learning, RealisedPart, legal_sizes


class DividedMixer(nn.Module):
    """A mixer whose parts each hold an operation over all channels."""

    def __init__(self, parts: Sequence[RealisedPart], operations: Sequence[nn.Module]) -> None:
        super().__init__()
        self.width = sum(part.channels for part in parts)
        self.parts = nn.ModuleList(_any_channels(operation, self.width) for operation in operations)

    def divided(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """The maps, the channels divided by whole sizes; parts may have none."""
        spans = [Span(low, high) for low, high in pairwise([0, *accumulate(sizes)])]
        pieces = [
            apply(part, x, span, None)
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
            the gradient of the loss with respect to it is left in its `grad`.
    """

    shares: Tensor

    def __init__(self, parts: Sequence[RealisedPart], operations: Sequence[nn.Module]) -> None:
        super().__init__(parts, operations)
        self.register_buffer("shares", torch.empty(len(parts) - 1, self.width), persistent=False)
        self.place([float(part.channels) for part in parts], ramp=0.0)

    def place(
        self, sizes: Sequence[float], ramp: float, widest: Sequence[float] | None = None
    ) -> None:
        """Moves the boundaries.

        Args:
            sizes: channels of each part.
            ramp: channels over which a boundary is soft.
            widest: where hard boundaries (ramp 0) still learn: sizes as far as their gradients are
                to be known.
        """
        self.sizes, self.ramp = tuple(float(size) for size in sizes), ramp
        ends = list(accumulate(self.sizes))[:-1]
        reached = list(accumulate(widest))[:-1] if widest is not None else ends
        self.fixed = ramp == 0 and widest is None
        channels = torch.arange(self.width, device=self.shares.device) + 0.5
        before = torch.tensor(ends, device=channels.device)[:, None] - channels
        shares = (before / ramp + 0.5).clamp(0, 1) if ramp else (before > 0).float()
        self.shares = shares.requires_grad_(not self.fixed)
        lows = [0, *(max(math.floor(end - ramp / 2), 0) for end in ends)]
        highs = [
            *(
                min(math.ceil(max(end, far) + ramp / 2), self.width)
                for end, far in zip(ends, reached, strict=True)
            ),
            self.width,
        ]
        self.spans = [Span(low, high) for low, high in zip(lows, highs, strict=True)]

    def get_extra_state(self) -> Tensor:
        """The ramp and the sizes, as they are stored with the weights."""
        return torch.tensor([self.ramp, *self.sizes], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes up a stored ramp and sizes."""
        ramp, *sizes = state.tolist()
        self.place(sizes, ramp)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W maps, each part of their channels worked on by its operation."""
        if self.fixed:
            return self.divided(x, [int(size) for size in self.sizes])
        before = torch.cat((torch.zeros_like(self.shares[:1]), self.shares))
        after = torch.cat((self.shares, torch.ones_like(self.shares[:1])))
        members = after - before
        pieces = []
        for index, (part, span) in enumerate(zip(self.parts, self.spans, strict=True)):
            if span.high > span.low:
                member = Membership(
                    members[index : index + 1, span.slice], self.sizes[index], self.ramp
                )
                pieces.append((span, apply(part, x, span, member)))
        return _joined(pieces)


class InputMixer(DividedMixer):
    """A mixer that divides the channels of every image as a small predictor says.

    Its sizes are legal ones at any time, and hard. In evaluation the images of a batch are grouped
    by size, so that less is computed where less is used.

    Attributes:
        shift: added to what the predictor says; holds the budget.
        learns: whether the predictor gets gradients.
        chosen: of each image of the last batch the position of its sizes among `options`.
    """

    chosen: Tensor | None

    def __init__(
        self,
        parts: Sequence[RealisedPart],
        operations: Sequence[nn.Module],
        learning: Learning,
    ) -> None:
        super().__init__(parts, operations)
        (self.position,) = learning.parts
        self.options = sorted(legal_sizes(tuple(parts), learning), key=self._learned)
        hidden = predictor_width(self.width)
        self.predictor = nn.Sequential(
            nn.Linear(self.width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, 1, bias=False)
        )
        self.shift = 0.0
        self.learns = True
        self.chosen = None

    def _learned(self, sizes: Sequence[int]) -> int:
        return sizes[self.position]

    def get_extra_state(self) -> Tensor:
        """The shift, and whether the predictor still learns."""
        return torch.tensor([self.shift, float(self.learns)], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes up a stored shift."""
        self.shift, learns = state.tolist()
        self.learns = bool(learns)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W maps, each image's channels divided by its own sizes."""
        size = self._predicted(x)
        table = torch.tensor([self._learned(o) for o in self.options], device=x.device)
        self.chosen = chosen = (size.detach()[:, None] - table).abs().argmin(1)
        if not self.training:
            return self._grouped(x, chosen)
        return self._masked(x, size, chosen)

    def _predicted(self, x: Tensor) -> Tensor:
        """N sizes, not yet legal ones, between the least and the most."""
        pooled = x.mean((2, 3))
        with torch.set_grad_enabled(self.learns and torch.is_grad_enabled()):
            said = self.predictor(pooled)[:, 0]
        least, most = (self._learned(self.options[end]) for end in (0, -1))
        return least + (most - least) * torch.sigmoid(said.float() + self.shift)

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
        moved = (size - size.detach())[:, None] if self.learns else 0.0
        ramp = max(self.width / 8, 1.0)
        channels = torch.arange(self.width, device=x.device) + 0.5
        hard = (channels < ends[:, :, None]).float()
        after_learned = torch.arange(ends.shape[1], device=x.device) >= self.position
        soft = (ends + moved * after_learned)[:, :, None] - channels
        slope = (soft / ramp + 0.5).clamp(0, 1)
        shares = hard + slope - slope.detach()
        edge = torch.zeros_like(shares[:, :1])
        members = torch.cat((shares, edge + 1), 1) - torch.cat((edge, shares), 1)
        most = [int(end) for end in ends.amax(0).tolist()]
        least = [int(end) for end in ends.amin(0).tolist()]
        reach = ramp / 2 if self.learns else 0.0
        lows = [0, *(max(math.floor(end - reach), 0) for end in least)]
        highs = [*(min(math.ceil(end + reach), self.width) for end in most), self.width]
        pieces = []
        for index, (part, low, high) in enumerate(zip(self.parts, lows, highs, strict=True)):
            if high > low:
                span = Span(low, high)
                member = Membership(members[:, index, span.slice], sizes[:, index], 0.0)
                pieces.append((span, apply(part, x, span, member)))
        return _joined(pieces)


def _any_channels(operation: nn.Module, width: int) -> nn.Module:
    """The operation, self-attention with a whole number of rows for each head."""
    if isinstance(operation, SelfAttention) and width % operation.heads:
        inner = width - width % operation.heads
        operation.qkv = nn.Linear(width, 3 * inner, bias=False)
        operation.proj = nn.Linear(inner, width)
    return operation


def _joined(pieces: Sequence[tuple[Span, Tensor]]) -> Tensor:
    """The sum of maps over spans of the channels, which together cover all of them."""
    cuts = sorted({edge for span, _ in pieces for edge in span})
    segments = []
    for low, high in pairwise(cuts):
        terms = [
            maps[:, low - span.low : high - span.low]
            for span, maps in pieces
            if span.low <= low and high <= span.high
        ]
        segments.append(sum(terms[1:], terms[0]))
    return segments[0] if len(segments) == 1 else torch.cat(segments, dim=1)
