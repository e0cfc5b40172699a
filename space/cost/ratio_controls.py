"""Controls: what belongs beside learned ratios, so that a study can tell what they are worth.

Networks that cost the same, whose ratios are the learned ones, or the same for all layers, or the
learned ones in another order.
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
"""The learned ratios as they are, one for all layers, in reversed order of depth, in any other."""

Shares = tuple[float, ...]
"""Of each learned part of a block its share of the width."""


def control_sizes(
    kind: ControlKind,
    architecture: Architecture,
    sizes: Mapping[BlockIndex, Sequence[int]],
    input_spec: InputSpec,
    seed: int = 0,
) -> dict[BlockIndex, PartSizes]:
    """The sizes of a control, which cost at most what the learned ones cost, and nearly that.

    Shares of the width move between blocks that learn the same parts; those of one block stay
    together. Nothing but multiples of the grain is chosen, whatever the method of learning.

    Args:
        kind: which control.
        architecture: with the learned ratios.
        sizes: what they have become: the channels of every part.
        input_spec: shape of the input.
        seed: of the order of `shuffled`, which differs from the learned one if any other does.
    """
    found = [_any_size(slot) for slot in learned_blocks(architecture, input_spec)]
    if kind == "learned":
        return {slot.block_index: tuple(sizes[slot.block_index]) for slot in found}
    spent = sum(slot.macs(sizes[slot.block_index]) for slot in found)
    shares = [_shares(slot, sizes[slot.block_index]) for slot in found]
    if kind == "uniform":
        return uniform_allocation(found, _means(found, shares), spent)
    moved = _moved(found, shares, None if kind == "reversed" else random.Random(seed))
    wanted = [
        [share * slot.block.width for share in own] for slot, own in zip(found, moved, strict=True)
    ]
    return project_to_budget(found, wanted, spent)


def _any_size(slot: LearnedBlock) -> LearnedBlock:
    """The layer, free to take sizes that its method could not learn."""
    return replace(slot, learning=slot.learning._replace(method="threshold"))


def _shares(slot: LearnedBlock, sizes: Sequence[int]) -> Shares:
    return tuple(size / slot.block.width for size in slot.learned_sizes(sizes))


def _groups(found: Sequence[LearnedBlock]) -> Iterator[list[int]]:
    """The layers, by their position, that can exchange their shares."""
    for parts in dict.fromkeys(slot.learning.parts for slot in found):
        yield [index for index, slot in enumerate(found) if slot.learning.parts == parts]


def _means(found: Sequence[LearnedBlock], shares: Sequence[Shares]) -> list[Shares]:
    """Of each layer the mean shares of all that learn the same parts."""
    means = list(shares)
    for group in _groups(found):
        columns = zip(*(shares[index] for index in group), strict=True)
        mean = tuple(sum(column) / len(group) for column in columns)
        for index in group:
            means[index] = mean
    return means


def _moved(
    found: Sequence[LearnedBlock], shares: Sequence[Shares], rng: random.Random | None
) -> list[Shares]:
    """The shares in reversed order, or in a random one."""
    moved = list(shares)
    for group in _groups(found):
        own = [shares[index] for index in group]
        order = own[::-1] if rng is None else _shuffled(own, rng)
        for index, other in zip(group, order, strict=True):
            moved[index] = other
    return moved


def _shuffled(shares: list[Shares], rng: random.Random) -> list[Shares]:
    """Another order of the shares, where there is any."""
    order = list(shares)
    while order == shares and len(set(shares)) > 1:
        rng.shuffle(order)
    return order
