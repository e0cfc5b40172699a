"""Control networks for learned ratios.

They have the same cost; their ratios are the learned ones, one for all layers, or the learned ones
in another order.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.cost.budget_projection import project_to_budget, uniform_allocation
from partialnas.space.cost.learned_blocks import BlockIndex, LearnedBlock, PartSizes, learned_blocks

ControlKind = Literal["learned", "uniform", "reversed", "shuffled"]
"""The learned ratios unchanged, one for all layers, in reversed order of depth, or shuffled."""

Shares = tuple[float, ...]
"""Share of the width of each learned part of a block."""


def control_sizes(
    kind: ControlKind,
    architecture: Architecture,
    sizes: Mapping[BlockIndex, Sequence[int]],
    input_spec: InputSpec,
    seed: int = 0,
) -> dict[BlockIndex, PartSizes]:
    """Return the sizes of a control network, with nearly the cost of the learned ones, never more.

    Shares of the width move between blocks that learn the same parts; the shares of one block stay
    together. All learned sizes are multiples of the grain, whatever the learning method.

    Args:
        kind: kind of control.
        architecture: architecture with learned ratios.
        sizes: learned channels of every part, by block.
        input_spec: shape of the images, on which costs depend.
        seed: seed of `shuffled`; the new order differs from the learned one if possible.
    """
    blocks = [_with_all_sizes(learned) for learned in learned_blocks(architecture, input_spec)]
    if kind == "learned":
        return {learned.block_index: tuple(sizes[learned.block_index]) for learned in blocks}
    spent = sum(learned.macs(sizes[learned.block_index]) for learned in blocks)
    shares = [_shares(learned, sizes[learned.block_index]) for learned in blocks]
    if kind == "uniform":
        return uniform_allocation(blocks, _mean_shares(blocks, shares), spent)
    reordered = _reorder(blocks, shares, None if kind == "reversed" else random.Random(seed))
    pairs = zip(blocks, reordered, strict=True)
    targets = [[share * learned.block.width for share in parts] for learned, parts in pairs]
    return project_to_budget(blocks, targets, spent)


def _with_all_sizes(learned: LearnedBlock) -> LearnedBlock:
    """Return the block with all multiples of the grain as options, whatever its method."""
    return replace(learned, learning=learned.learning._replace(method="threshold"))


def _shares(learned: LearnedBlock, sizes: Sequence[int]) -> Shares:
    return tuple(size / learned.block.width for size in learned.learned_sizes(sizes))


def _groups(blocks: Sequence[LearnedBlock]) -> Iterator[list[int]]:
    """Yield the positions of blocks that can exchange their shares."""
    for parts in dict.fromkeys(learned.learning.parts for learned in blocks):
        yield [index for index, learned in enumerate(blocks) if learned.learning.parts == parts]


def _mean_shares(blocks: Sequence[LearnedBlock], shares: Sequence[Shares]) -> list[Shares]:
    """Return for each block the mean shares of the blocks that learn the same parts."""
    means = list(shares)
    for group in _groups(blocks):
        columns = zip(*(shares[index] for index in group), strict=True)
        mean = tuple(sum(column) / len(group) for column in columns)
        for index in group:
            means[index] = mean
    return means


def _reorder(
    blocks: Sequence[LearnedBlock], shares: Sequence[Shares], rng: random.Random | None
) -> list[Shares]:
    """Return the shares in random order, or in reversed order without a generator."""
    reordered = list(shares)
    for group in _groups(blocks):
        group_shares = [shares[index] for index in group]
        order = group_shares[::-1] if rng is None else _shuffled(group_shares, rng)
        for index, other in zip(group, order, strict=True):
            reordered[index] = other
    return reordered


def _shuffled(shares: list[Shares], rng: random.Random) -> list[Shares]:
    """Return another order of the shares, if there is one."""
    order = list(shares)
    while order == shares and len(set(shares)) > 1:
        rng.shuffle(order)
    return order
