"""Cost formulas of the pieces of a network; see `cost` for the conventions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.operation_registry import OPERATIONS
from partialnas.space.arch.parts import RealizedPart

POSITIONS = 81
"""Number of relative positions in a head's bias table."""


@dataclass(frozen=True)
class Cost:
    """Cost of a piece of a network for one image.

    Attributes:
        params: learnable parameters.
        macs: multiply-accumulates as fvcore counts them, including norms and pooling.
        macs_core: multiply-accumulates of convolutions and matrix products only.
        activations: output elements of convolutions and matrix products.
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
    """Cost of one piece: the stem, a merge, a block, or the head.

    Attributes:
        name: name of the piece, such as `stage 2, block 1`, counted from 1.
        height: height of its map.
        width: width of its map.
        channels: channels of its map.
    """

    name: str = ""
    height: int = 0
    width: int = 0
    channels: int = 0


@dataclass(frozen=True)
class NetworkCost(Cost):
    """Total cost of a network, and the cost of its pieces from input to output."""

    rows: tuple[BlockCost, ...] = ()


def sum_costs(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs."""
    return sum(costs, Cost())


def _convolution(inputs: int, outputs: int, kernel: int, map_area: int) -> Cost:
    """Return the cost of a convolution without bias, with `kernel` weights per channel pair."""
    macs = inputs * outputs * kernel * map_area
    return Cost(inputs * outputs * kernel, macs, macs, outputs * map_area)


def _batch_norm(channels: int, map_area: int) -> Cost:
    return Cost(params=2 * channels, macs=2 * channels * map_area)


def conv_cost(part: RealizedPart, map_area: int) -> Cost:
    """Return the cost of a 3x3 convolution."""
    return _convolution(part.channels, part.channels, 9, map_area)


def channel_attention_cost(part: RealizedPart, map_area: int) -> Cost:
    """Return the cost of channel attention."""
    gate = _convolution(part.channels, part.channels, 2, 1) + _batch_norm(part.channels, 1)
    return gate + _batch_norm(part.channels, map_area)


def spatial_attention_cost(part: RealizedPart, map_area: int) -> Cost:
    """Return the cost of spatial attention."""
    return _convolution(part.channels, 1, 1, map_area) + _batch_norm(part.channels, map_area)


def self_attention_cost(part: RealizedPart, map_area: int) -> Cost:
    """Return the cost of self-attention."""
    channels = part.channels
    norm = Cost(params=2 * channels, macs=5 * channels * map_area)
    qkv = _convolution(channels, 3 * channels, 1, map_area)
    scores = Cost(0, map_area**2 * channels, map_area**2 * channels, part.heads * map_area**2)
    values = Cost(0, map_area**2 * channels, map_area**2 * channels, channels * map_area)
    projection = _convolution(channels, channels, 1, map_area) + Cost(params=channels)
    return norm + qkv + scores + values + projection + Cost(params=POSITIONS * part.heads)


def zero_cost(_part: RealizedPart, _map_area: int) -> Cost:
    """Return the cost of pooling and of the identity, which is counted as nothing."""
    return Cost()


def _mlp(block: RealizedBlock, map_area: int) -> Cost:
    expand = _convolution(block.width, block.hidden, 1, map_area)
    project = _convolution(block.hidden, block.width, 1, map_area)
    return expand + _batch_norm(block.hidden, map_area) + project


def _pat_sp(block: RealizedBlock, map_area: int) -> Cost:
    mixed = block.width // 2
    gated = block.width - mixed
    gate = _convolution(gated, 1, 1, map_area) + _batch_norm(gated, map_area)
    return gate + _batch_norm(mixed, map_area) + _convolution(mixed, mixed, 1, map_area)


@lru_cache(maxsize=4096)
def block_cost(block: RealizedBlock, map_area: int) -> Cost:
    """Return the cost of one block on a map of `map_area` positions (height x width).

    Cached, because networks repeat their blocks.
    """
    spatial = _pat_sp(block, map_area) if block.pat_sp else Cost()
    return mixer_cost(block, map_area) + _mlp(block, map_area) + spatial


def mixer_cost(block: RealizedBlock, map_area: int) -> Cost:
    """Return the cost of a block's mixer: its parts, and the predictor of its ratio if any."""
    parts = sum_costs(part_cost(part, map_area) for part in block.parts)
    predicts = block.learning is not None and block.learning.per == "input"
    return parts + _predictor(block.width, map_area) if predicts else parts


def part_cost(part: RealizedPart, map_area: int) -> Cost:
    """Return the cost of one part on a map of `map_area` positions."""
    if not part.channels:
        return Cost()
    cost: Cost = OPERATIONS[part.op].cost_formula(part, map_area)
    return cost


def predictor_width(width: int) -> int:
    """Return the hidden width of the predictor of an input-dependent ratio."""
    return max(width // 4, 4)


def _predictor(width: int, map_area: int) -> Cost:
    hidden = predictor_width(width)
    layers = _convolution(width, hidden, 1, 1) + _convolution(hidden, 1, 1, 1)
    return Cost(macs=width * map_area) + layers


def _head(architecture: Architecture, map_area: int, classes: int) -> Cost:
    channels, features = architecture.widths[-1], architecture.head_width
    pooling = Cost(macs=channels * map_area)
    linear = _convolution(features, classes, 1, 1) + Cost(params=classes)
    return pooling + _convolution(channels, features, 1, 1) + linear


def cost_rows(
    architecture: Architecture, blocks_of: Sequence[Sequence[RealizedBlock]], input_spec: InputSpec
) -> Iterator[BlockCost]:
    """Yield the costs of a network's pieces from input to output, with these blocks as stages."""

    def row(name: str, channels: int, piece: Cost) -> BlockCost:
        counts = (piece.params, piece.macs, piece.macs_core, piece.activations)
        return BlockCost(*counts, name, height, width, channels)

    inputs, kernel, name = input_spec.channels, architecture.stem_stride**2, "stem"
    sizes = architecture.map_sizes(input_spec.height, input_spec.width)
    for stage, (blocks, (height, width)) in enumerate(zip(blocks_of, sizes, strict=True), start=1):
        map_area, channels = height * width, blocks[0].width
        entry = _convolution(inputs, channels, kernel, map_area) + _batch_norm(channels, map_area)
        yield row(name, channels, entry)
        for index, block in enumerate(blocks, start=1):
            yield row(f"stage {stage}, block {index}", channels, block_cost(block, map_area))
        inputs, kernel, name = channels, 4, f"merge {stage}"
    yield row("head", inputs, _head(architecture, map_area, input_spec.classes))
