"""Blocks with learned ratios, and the cost of each division of their channels.

All costs are multiply-accumulates for one image; see `cost` for the conventions.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.parts import legal_sizes
from partialnas.space.arch.ratio import LearningSettings
from partialnas.space.cost.formulas import mixer_cost, part_cost

BlockIndex = tuple[int, int]
"""Stage and block, both counted from 0."""

PartSizes = tuple[int, ...]
"""Channels of each part of a block."""


@dataclass(frozen=True)
class LearnedBlock:
    """A block with learned ratios, on the map that it has for the network's input.

    Attributes:
        block_index: stage and block.
        block: the block as it is built.
        learning: how its ratios are learned.
        map_area: positions of its map (height x width).
    """

    block_index: BlockIndex
    block: RealizedBlock
    learning: LearningSettings
    map_area: int

    @property
    def options(self) -> tuple[PartSizes, ...]:
        """Divisions of its channels that learning may end with."""
        return legal_sizes(self.block.parts, self.learning)

    @property
    def costs(self) -> Mapping[PartSizes, int]:
        """Cost of its mixer by division, in the order of `options`."""
        return _costs(self.block, self.learning, self.map_area)

    @property
    def start(self) -> PartSizes:
        """Sizes that learning starts from."""
        return tuple(part.channels for part in self.block.parts)

    @property
    def dense_macs(self) -> int:
        """Cost of a 3x3 convolution over all channels."""
        return 9 * self.block.width**2 * self.map_area

    def macs(self, sizes: Sequence[int]) -> int:
        """Return the cost of its mixer with these channels for each part."""
        return mixer_cost(resized(self.block, sizes), self.map_area).macs

    def learned_sizes(self, sizes: Sequence[float]) -> tuple[float, ...]:
        """Return the sizes of the learned parts, given those of all parts."""
        return tuple(sizes[position] for position in self.learning.parts)


@lru_cache(maxsize=256)
def _costs(block: RealizedBlock, learning: LearningSettings, area: int) -> Mapping[PartSizes, int]:
    """Return the cost of each option; every size of a part is counted once."""
    options = legal_sizes(block.parts, learning)
    base = mixer_cost(resized(block, [0] * len(block.parts)), area).macs
    tables = [
        {size: part_cost(part._replace(channels=size), area).macs for size in {*column}}
        for part, column in zip(block.parts, zip(*options, strict=True), strict=True)
    ]
    rows = (zip(tables, sizes, strict=True) for sizes in options)
    costs = (base + sum(table[size] for table, size in row) for row in rows)
    return MappingProxyType(dict(zip(options, costs, strict=True)))


def resized(block: RealizedBlock, sizes: Sequence[int]) -> RealizedBlock:
    """Return the block with these channels for each part, keeping parts without channels."""
    parts = (part._replace(channels=size) for part, size in zip(block.parts, sizes, strict=True))
    return block._replace(parts=tuple(parts))


def blocks_with_sizes(
    architecture: Architecture, sizes: Mapping[BlockIndex, Sequence[int]]
) -> list[list[RealizedBlock]]:
    """Return the blocks of each stage; those in `sizes` are resized."""
    return [
        [
            resized(block, sizes[stage, index]) if (stage, index) in sizes else block
            for index, block in enumerate(blocks)
        ]
        for stage, blocks in enumerate(architecture.realized)
    ]


def learned_blocks(architecture: Architecture, input_spec: InputSpec) -> tuple[LearnedBlock, ...]:
    """Return the blocks with learned ratios, from input to output."""
    if architecture.learned is None:
        return ()
    sizes = architecture.map_sizes(input_spec.height, input_spec.width)
    return tuple(
        LearnedBlock((stage, index), block, block.learning, math.prod(sizes[stage]))
        for stage, blocks in enumerate(architecture.realized)
        for index, block in enumerate(blocks)
        if block.learning is not None
    )


def mac_range(blocks: Iterable[LearnedBlock]) -> tuple[int, int]:
    """Return the lowest and the highest total cost of the mixers of these blocks."""
    costs = [learned.costs.values() for learned in blocks]
    return sum(map(min, costs)), sum(map(max, costs))
