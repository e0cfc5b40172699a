"""Slots: the blocks of a network that learn their ratios, and what each way to divide them costs.

All counts are multiply-accumulates for one image, as fvcore counts them (see `formulas`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.parts import LearningSettings, legal_sizes
from partialnas.space.cost.formulas import mixer_cost, part_cost

BlockIndex = tuple[int, int]
"""A stage and a block in it, both from 0."""

PartSizes = tuple[int, ...]
"""The channels of each part of a block."""


@dataclass(frozen=True)
class LearnedBlock:
    """A block that learns its ratios, on the map of a network's input.

    Attributes:
        block_index: where it is.
        block: as it is built.
        learning: how it learns.
        map_area: positions of its map (height x width).
    """

    block_index: BlockIndex
    block: RealizedBlock
    learning: LearningSettings
    map_area: int

    @property
    def options(self) -> tuple[PartSizes, ...]:
        """Every way to divide its channels that learning may end with."""
        return legal_sizes(self.block.parts, self.learning)

    @property
    def costs(self) -> Mapping[PartSizes, int]:
        """What its mixer costs with each of them, in the order of `options`."""
        return _costs(self.block, self.learning, self.map_area)

    @property
    def start(self) -> PartSizes:
        """The sizes that learning starts from."""
        return tuple(part.channels for part in self.block.parts)

    @property
    def dense_macs(self) -> int:
        """What a 3x3 convolution over all channels costs."""
        return 9 * self.block.width**2 * self.map_area

    def macs(self, sizes: Sequence[int]) -> int:
        """What its mixer costs with these channels for each part."""
        return mixer_cost(resized(self.block, sizes), self.map_area).macs

    def learned_sizes(self, sizes: Sequence[float]) -> tuple[float, ...]:
        """The sizes of the parts that learn, out of those of all parts."""
        return tuple(sizes[position] for position in self.learning.parts)


@lru_cache(maxsize=256)
def _costs(
    block: RealizedBlock, learning: LearningSettings, places: int
) -> Mapping[PartSizes, int]:
    """The sum over the parts, each of which is counted once for every size that it has."""
    options = legal_sizes(block.parts, learning)
    beside = mixer_cost(resized(block, [0] * len(block.parts)), places).macs
    tables = [
        {size: part_cost(part._replace(channels=size), places).macs for size in {*column}}
        for part, column in zip(block.parts, zip(*options, strict=True), strict=True)
    ]
    return MappingProxyType(
        {
            sizes: beside + sum(table[size] for table, size in zip(tables, sizes, strict=True))
            for sizes in options
        }
    )


def resized(block: RealizedBlock, sizes: Sequence[int]) -> RealizedBlock:
    """The block with these channels for each part; parts without channels are kept."""
    parts = (part._replace(channels=size) for part, size in zip(block.parts, sizes, strict=True))
    return block._replace(parts=tuple(parts))


def blocks_with_sizes(
    architecture: Architecture, sizes: Mapping[BlockIndex, Sequence[int]]
) -> list[list[RealizedBlock]]:
    """The blocks of each stage, those with sizes of their own resized."""
    return [
        [
            resized(block, sizes[stage, index]) if (stage, index) in sizes else block
            for index, block in enumerate(blocks)
        ]
        for stage, blocks in enumerate(architecture.realized)
    ]


def learned_blocks(architecture: Architecture, input_spec: InputSpec) -> tuple[LearnedBlock, ...]:
    """The blocks that learn their ratios, from input to output."""
    if architecture.learned is None:
        return ()
    sizes = architecture.map_sizes(input_spec.height, input_spec.width)
    return tuple(
        LearnedBlock((stage, index), block, block.learning, height * width)
        for stage, (blocks, (height, width)) in enumerate(
            zip(architecture.realized, sizes, strict=True)
        )
        for index, block in enumerate(blocks)
        if block.learning is not None
    )


def mac_range(slots: Iterable[LearnedBlock]) -> tuple[int, int]:
    """The least and the most that the mixers with learned ratios can cost together."""
    costs = [slot.costs.values() for slot in slots]
    return sum(map(min, costs)), sum(map(max, costs))
