"""Parameters, multiply-accumulates and activations by closed formula, without building a network.

Conventions (those of fvcore, which the literature reports as FLOPs): one multiply-accumulate is
one; a batch norm in evaluation costs 2 per element, a layer norm 5, global pooling 1 per input
element; activations, softmax, 3x3 average pooling, element-wise operations and biases cost
nothing. `macs` counts all of that, `macs_core` only convolutions and matrix products. The counts
are of the training form in evaluation mode, for one image.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from partialnas.space.architecture import Architecture, Op, RealisedBlock, RealisedPart

POSITIONS = 81
"""Entries of a head's table of relative positions (buckets 0..80)."""


@dataclass(frozen=True)
class Cost:
    """What a piece of a network costs for one image.

    Attributes:
        params: learnable parameters.
        macs: multiply-accumulates as fvcore counts them, norms and pooling included.
        macs_core: multiply-accumulates of convolutions and matrix products alone.
        activations: elements of the outputs of convolutions and matrix products.
    """

    params: int = 0
    macs: int = 0
    macs_core: int = 0
    activations: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.params + other.params,
            self.macs + other.macs,
            self.macs_core + other.macs_core,
            self.activations + other.activations,
        )


@dataclass(frozen=True)
class BlockCost(Cost):
    """The cost of one named row: stem, a merge, a block, or the head.

    `name` counts stages and blocks from 1 (`stage 2, block 1`); `height` and `width` are the map's.
    """

    name: str = ""
    height: int = 0
    width: int = 0
    channels: int = 0


@dataclass(frozen=True)
class NetworkCost(Cost):
    """The cost of a network in all, and of its rows from input to output."""

    rows: tuple[BlockCost, ...] = ()


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    return sum(costs, Cost())


def _convolution(inputs: int, outputs: int, kernel: int, places: int) -> Cost:
    """A bias-free convolution, `kernel` positions wide, evaluated at `places` positions."""
    macs = inputs * outputs * kernel * places
    return Cost(inputs * outputs * kernel, macs, macs, outputs * places)


def _batch_norm(channels: int, places: int) -> Cost:
    return Cost(params=2 * channels, macs=2 * channels * places)


def _conv_part(part: RealisedPart, places: int) -> Cost:
    return _convolution(part.channels, part.channels, 9, places)


def _channel_part(part: RealisedPart, places: int) -> Cost:
    gate = _convolution(part.channels, part.channels, 2, 1) + _batch_norm(part.channels, 1)
    return gate + _batch_norm(part.channels, places)


def _spatial_part(part: RealisedPart, places: int) -> Cost:
    return _convolution(part.channels, 1, 1, places) + _batch_norm(part.channels, places)


def _self_part(part: RealisedPart, places: int) -> Cost:
    channels = part.channels
    norm = Cost(params=2 * channels, macs=5 * channels * places)
    qkv = _convolution(channels, 3 * channels, 1, places)
    scores = Cost(0, places**2 * channels, places**2 * channels, part.heads * places**2)
    values = Cost(0, places**2 * channels, places**2 * channels, channels * places)
    projection = _convolution(channels, channels, 1, places) + Cost(params=channels)
    return norm + qkv + scores + values + projection + Cost(params=POSITIONS * part.heads)


def _free_part(_part: RealisedPart, _places: int) -> Cost:
    return Cost()


_PARTS: dict[Op, Callable[[RealisedPart, int], Cost]] = {
    "conv": _conv_part,
    "channel": _channel_part,
    "spatial": _spatial_part,
    "self": _self_part,
    "pool": _free_part,
    "identity": _free_part,
}


def _mlp(block: RealisedBlock, places: int) -> Cost:
    expand = _convolution(block.width, block.hidden, 1, places) + _batch_norm(block.hidden, places)
    return expand + _convolution(block.hidden, block.width, 1, places)


def _pat_sp(block: RealisedBlock, places: int) -> Cost:
    mixed = block.width // 2
    gated = block.width - mixed
    gate = _convolution(gated, 1, 1, places) + _batch_norm(gated, places)
    return gate + _batch_norm(mixed, places) + _convolution(mixed, mixed, 1, places)


def block_cost(block: RealisedBlock, places: int) -> Cost:
    """The cost of one block on a map of `places` positions (height x width)."""
    parts = total(_PARTS[part.op](part, places) for part in block.parts)
    spatial = _pat_sp(block, places) if block.pat_sp else Cost()
    return parts + _mlp(block, places) + spatial


def _head(architecture: Architecture, places: int, num_classes: int) -> Cost:
    channels, features = architecture.widths[-1], architecture.head_width
    pooling = Cost(macs=channels * places)
    linear = _convolution(features, num_classes, 1, 1) + Cost(params=num_classes)
    return pooling + _convolution(channels, features, 1, 1) + linear


def cost(
    architecture: Architecture,
    resolution: int | tuple[int, int],
    in_chans: int = 3,
    num_classes: int = 1000,
) -> NetworkCost:
    """The cost of a network for one image of `resolution` pixels (side, or height and width).

    Raises:
        UserError: the input is too small for the architecture's strides.
    """
    rows = tuple(_rows(architecture, resolution, in_chans, num_classes))
    whole = total(rows)
    return NetworkCost(whole.params, whole.macs, whole.macs_core, whole.activations, rows)


def _rows(
    architecture: Architecture,
    resolution: int | tuple[int, int],
    in_chans: int,
    num_classes: int,
) -> Iterator[BlockCost]:
    def row(name: str, channels: int, piece: Cost) -> BlockCost:
        counts = (piece.params, piece.macs, piece.macs_core, piece.activations)
        return BlockCost(*counts, name, height, width, channels)

    inputs, kernel, name = in_chans, architecture.stem_stride**2, "stem"
    sizes = architecture.map_sizes(resolution)
    for stage, (blocks, (height, width)) in enumerate(
        zip(architecture.realised, sizes, strict=True), start=1
    ):
        places, channels = height * width, blocks[0].width
        entry = _convolution(inputs, channels, kernel, places) + _batch_norm(channels, places)
        yield row(name, channels, entry)
        for index, block in enumerate(blocks, start=1):
            yield row(f"stage {stage}, block {index}", channels, block_cost(block, places))
        inputs, kernel, name = channels, 4, f"merge {stage}"
    yield row("head", inputs, _head(architecture, places, num_classes))
