"""Mixers that learn how their channels are divided: DPConv and related methods (arXiv 2502.01303).

Training and evaluation always compute the same function of the weights and the sizes. The modules
of `partialnas.runs.ratio_learning` change the sizes during training and fix them in the end.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.arch.parts import RealizedPart, legal_sizes
from partialnas.space.arch.ratio import LearningSettings
from partialnas.space.cost.formulas import predictor_width
from partialnas.space.errors import UserError
from partialnas.space.nn.channel_partition import ChannelPartition
from partialnas.space.nn.operations import PartialConv, PartOperation
from partialnas.space.nn.soft_kernel import (
    DetachedKernels,
    SoftKernel,
    Span,
    depth_threshold,
    to_device,
)

INPUT_DEPENDENT = (
    "the ratios depend on the input, so no static network computes the same function; learn them "
    "per layer to freeze or export them"
)


class DividedMixer(nn.Module):
    """A mixer in which each part holds an operation over all channels.

    A static mixer calls its parts as modules. This one slices their weights by `forward_sliced`:
    parametrizations of these weights apply, and hooks of the mixer and of modules outside it run,
    but hooks of its parts do not. Pruning by hooks (`torch.nn.utils.prune`), observers and counters
    therefore need the frozen network (`partialnas.space.freeze`).

    Attributes:
        width: channels of all parts together.
        parts: operations.
        kernels: kernels of the convolutions.
    """

    def __init__(self, parts: Sequence[RealizedPart], operations: Sequence[PartOperation]) -> None:
        super().__init__()
        self.width = sum(part.channels for part in parts)
        self.parts = nn.ModuleList(operations)
        self.kernels = DetachedKernels()

    def divided(self, x: Tensor, spans: Sequence[Span]) -> Tensor:
        """Return the mixed maps for hard boundaries.

        Args:
            x: N x C x H x W maps.
            spans: channels of each part, together all channels; a span may be empty.
        """
        operations: Any = self.parts
        segments = torch.split(x, [span.high - span.low for span in spans], dim=1)
        pieces: list[Tensor] = [
            self._operate(operation, segment, span)
            for operation, segment, span in zip(operations, segments, spans, strict=True)
            if span.high > span.low
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def _operate(self, operation: PartOperation, x: Tensor, span: Span) -> Tensor:
        """Apply an operation to the channels of its span."""
        if isinstance(operation, PartialConv):
            return functional.conv2d(x, self.kernels.kernel(operation, SoftKernel(span)), padding=1)
        return operation.forward_sliced(x, span, None)


class Boundaries:
    """Division of the channels of a mixer, alike for all images.

    Args:
        sizes: channels of each part.
        ramp: channels over which a boundary is soft; 0 for a hard boundary.
        largest_sizes: sizes up to which gradients are computed if hard boundaries still learn.
        smallest_sizes: sizes from which gradients are computed in this case.

    Attributes:
        fixed: whether the boundaries no longer learn.
        ends: boundaries at the ends of all parts but the last.
        spans: channels of each part.
        order: thresholds of the depth of channels in each part.
    """

    def __init__(
        self,
        sizes: Sequence[float],
        ramp: float,
        largest_sizes: Sequence[float] | None = None,
        smallest_sizes: Sequence[float] | None = None,
    ) -> None:
        self.sizes, self.ramp = tuple(map(float, sizes)), ramp
        self.fixed = ramp == 0 and largest_sizes is None and smallest_sizes is None
        self.width = width = round(sum(self.sizes))
        self.ends = lowest = highest = _ends(self.sizes)
        limits = [_ends(limit) for limit in (largest_sizes, smallest_sizes) if limit is not None]
        if limits:
            lowest = [min(group) for group in zip(self.ends, *limits, strict=True)]
            highest = [max(group) for group in zip(self.ends, *limits, strict=True)]
        lows = [0, *(max(math.floor(end - ramp / 2), 0) for end in lowest)]
        highs = [*(min(math.ceil(end + ramp / 2), width) for end in highest), width]
        self.spans = list(map(Span, lows, highs))
        self.order = [depth_threshold(*pair) for pair in pairwise(self.ends)]

    def shares(self) -> list[float]:
        """Return the share of each channel before each boundary, (P - 1) * C values."""
        return [share for end in self.ends for share in _before(end, self.ramp, self.width)]


def set_boundaries(moved: Sequence[tuple["LearnedMixer", Boundaries]]) -> None:
    """Move the boundaries of mixers of one network, with one copy to its device."""
    rows = [boundaries.shares() for _, boundaries in moved]
    before = moved[0][0].shares
    values = torch.tensor(list(chain.from_iterable(rows)), dtype=before.dtype)
    pieces = torch.split(to_device(values, before.device), [len(row) for row in rows])
    for (mixer, boundaries), piece in zip(moved, pieces, strict=True):
        mixer.move(boundaries, piece.view(-1, mixer.width))


class LearnedMixer(DividedMixer):
    """A mixer that divides its channels alike for all images and changes the sizes in training.

    The sizes are extra state, not buffers: an average of weights over training steps does not
    average them. They must be copied to it by `set_extra_state`.

    Attributes:
        shares: (P - 1) x C, share of each channel that lies before each boundary, from 0 to 1.
            While the mixer learns, `shares.grad` holds the gradient of the loss for channels near a
            boundary.
    """

    shares: Tensor

    def __init__(self, parts: Sequence[RealizedPart], operations: Sequence[PartOperation]) -> None:
        super().__init__(parts, operations)
        self.register_buffer("shares", torch.empty(len(parts) - 1, self.width), persistent=False)
        self._partition: ChannelPartition | None = None
        self._boundaries = Boundaries([part.channels for part in parts], ramp=0.0)
        set_boundaries([(self, self._boundaries)])

    @property
    def sizes(self) -> tuple[float, ...]:
        """Channels of each part; whole numbers once they are fixed."""
        return self._boundaries.sizes

    @property
    def ramp(self) -> float:
        """Channels over which a boundary is soft; 0 for a hard boundary."""
        return self._boundaries.ramp

    @property
    def fixed(self) -> bool:
        """Whether the boundaries no longer learn."""
        return self._boundaries.fixed

    def set_sizes(
        self,
        sizes: Sequence[float],
        ramp: float,
        largest_sizes: Sequence[float] | None = None,
        smallest_sizes: Sequence[float] | None = None,
    ) -> None:
        """Move the boundaries; see `Boundaries`."""
        boundaries = Boundaries(sizes, ramp, largest_sizes, smallest_sizes)
        set_boundaries([(self, boundaries)])

    def move(self, boundaries: Boundaries, shares: Tensor) -> None:
        """Move the boundaries to where channels have these (P - 1) x C shares."""
        before = self._boundaries
        # Past `Module.__setattr__`, which is slow: this runs in every step that learns.
        self._buffers["shares"] = shares.requires_grad_(not boundaries.fixed)
        self.__dict__["_boundaries"] = boundaries
        if boundaries.spans != before.spans or boundaries.order != before.order:
            self._partition = None

    def _current_partition(self) -> ChannelPartition:
        """Return the assignment of channels, rebuilt only if it changed, which is rare."""
        device = self.shares.device
        if self._partition is None or self._partition.device != device:
            spans, ends = self._boundaries.spans, self._boundaries.ends
            self._partition = ChannelPartition(self.parts, spans, ends, device)
        return self._partition

    def get_extra_state(self) -> Tensor:
        """Return the ramp and the sizes, to be stored with the weights."""
        return torch.tensor([self.ramp, *self.sizes], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore a stored ramp and sizes."""
        ramp, *sizes = state.tolist()
        self.set_sizes(sizes, ramp)

    def forward(self, x: Tensor) -> Tensor:
        """Mix N x C x H x W maps: each part of the channels goes through its operation."""
        if self.fixed:
            return self.divided(x, self._boundaries.spans)
        partition = self._current_partition()
        return partition.mix(self.parts, x, self.shares, self.ramp, self.kernels)


class InputDependentMixer(DividedMixer):
    """A mixer that divides the channels of each image as a small predictor decides.

    The sizes are always legal, and the boundaries hard. In evaluation the images of a batch are
    grouped by size, so that smaller sizes save computation.

    Attributes:
        logit_offset: added to the output of the predictor to meet the budget.
        predictor_trainable: whether the predictor receives gradients.
        option_indices: for each image of the last batch, the position of its sizes in `options`.
        traces_one_batch: whether a trace of the sizes of a single batch is allowed.
    """

    option_indices: Tensor | None

    def __init__(
        self,
        parts: Sequence[RealizedPart],
        operations: Sequence[PartOperation],
        learning: LearningSettings,
    ) -> None:
        super().__init__(parts, operations)
        (self.position,) = learning.parts
        self.options = sorted(legal_sizes(tuple(parts), learning), key=self._learned_size)
        hidden = predictor_width(self.width)
        self.predictor = nn.Sequential(
            nn.Linear(self.width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, 1, bias=False)
        )
        self.logit_offset = 0.0
        self.predictor_trainable = True
        self.option_indices = None
        self.traces_one_batch = False

    def _learned_size(self, sizes: Sequence[int]) -> int:
        return sizes[self.position]

    def get_extra_state(self) -> Tensor:
        """Return the logit offset and whether the predictor still learns."""
        values = [self.logit_offset, float(self.predictor_trainable)]
        return torch.tensor(values, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore a stored logit offset."""
        self.logit_offset, trainable = state.tolist()
        self.predictor_trainable = bool(trainable)

    def forward(self, x: Tensor) -> Tensor:
        """Mix N x C x H x W maps, the channels of each image divided by its sizes.

        Raises:
            UserError: The network is exported or traced: a static graph would use the sizes of the
                example for all images.
        """
        tracing = torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
        if torch.compiler.is_exporting() or (tracing and not self.traces_one_batch):
            raise UserError(INPUT_DEPENDENT)
        size = self._predicted_size(x)
        learned = torch.tensor([self._learned_size(option) for option in self.options])
        table = to_device(learned, x.device)
        indices = (size.detach()[:, None] - table).abs().argmin(1)
        self.option_indices = indices
        if not self.training:
            return self._grouped(x, indices)
        return self._masked(x, size, indices)

    def _predicted_size(self, x: Tensor) -> Tensor:
        """Return N real sizes between the smallest and the largest legal size."""
        pooled = x.mean((2, 3))
        with torch.set_grad_enabled(self.predictor_trainable and torch.is_grad_enabled()):
            logits = self.predictor(pooled)[:, 0]
        smallest, largest = (self._learned_size(self.options[end]) for end in (0, -1))
        share = torch.sigmoid(logits.float() + self.logit_offset)
        return smallest + (largest - smallest) * share

    def _grouped(self, x: Tensor, indices: Tensor) -> Tensor:
        """Mix the images of each size separately."""
        groups = sorted(set(indices.tolist()))
        if len(groups) == 1:
            return self.divided(x, hard_spans(self.options[groups[0]]))
        out = torch.empty_like(x)
        for option in groups:
            images = (indices == option).nonzero()[:, 0]
            mixed = self.divided(x[images], hard_spans(self.options[option]))
            out[images] = mixed.to(out.dtype)
        return out

    def _masked(self, x: Tensor, size: Tensor, indices: Tensor) -> Tensor:
        """Mix all images at once by masks; gradients reach the predictor through a ramp."""
        options = torch.tensor(self.options, dtype=torch.float32)
        sizes = to_device(options, x.device)[indices]
        ends = sizes.cumsum(1)[:, :-1]
        moved = (size - size.detach())[:, None] if self.predictor_trainable else 0.0
        ramp = max(self.width / 8, 1.0)
        channels = torch.arange(self.width, device=x.device) + 0.5
        hard = (channels < ends[:, :, None]).float()
        after_learned = torch.arange(ends.shape[1], device=x.device) >= self.position
        soft = (ends + moved * after_learned)[:, :, None] - channels
        slope = (soft / ramp + 0.5).clamp(0, 1)
        shares = hard + slope - slope.detach()
        extremes = torch.stack((ends.amin(0), ends.amax(0))).tolist()  # the device is read once
        least, most = ([int(end) for end in row] for row in extremes)
        reach = ramp / 2 if self.predictor_trainable else 0.0
        lows = [0, *(max(math.floor(end - reach), 0) for end in least)]
        highs = [*(min(math.ceil(end + reach), self.width) for end in most), self.width]
        spans = [Span(low, high) for low, high in zip(lows, highs, strict=True)]
        return ChannelPartition(self.parts, spans).mix(self.parts, x, shares, 0.0, self.kernels)


@contextmanager
def tracing_one_batch(network: nn.Module) -> Iterator[None]:
    """Allow traces of input-dependent mixers, which hold for the traced batch only."""
    mixers = [module for module in network.modules() if isinstance(module, InputDependentMixer)]
    for mixer in mixers:
        mixer.traces_one_batch = True
    try:
        yield
    finally:
        for mixer in mixers:
            mixer.traces_one_batch = False


def hard_spans(sizes: Sequence[int]) -> list[Span]:
    """Return the channels of parts of these sizes."""
    return [Span(low, high) for low, high in pairwise([0, *accumulate(sizes)])]


def _before(end: float, ramp: float, width: int) -> list[float]:
    """Return the share of each channel that lies before the end of a part, from 0 to 1."""
    if not ramp:
        return [float(channel + 0.5 < end) for channel in range(width)]
    low = min(max(math.floor(end - ramp / 2), 0), width)
    high = min(max(math.ceil(end + ramp / 2), 0), width)
    soft = [min(max((end - c - 0.5) / ramp + 0.5, 0.0), 1.0) for c in range(low, high)]
    return [1.0] * low + soft + [0.0] * (width - high)


def _ends(sizes: Sequence[float]) -> list[float]:
    """Return the boundaries at the ends of all parts but the last."""
    return list(accumulate(sizes))[:-1]
