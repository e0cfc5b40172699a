"""Budgets of learned ratios: what they allow, what is in reach, and which sizes meet them.

All counts are multiply-accumulates for one image, as fvcore counts them (see `formulas`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from partialnas.space.architecture import Architecture, RealisedBlock
from partialnas.space.errors import UserError
from partialnas.space.formulas import mixer_cost, rows, total
from partialnas.space.parts import Learning, RealisedPart, legal_sizes

Place = tuple[int, int]
"""A stage and a block in it, both from 0."""

Sizes = tuple[int, ...]
"""The channels of each part of a block."""

_UNITS = 1000
"""Steps in which the knapsack tells costs apart."""

_NEAREST = 12
"""Options of a layer that the knapsack weighs, beside the cheapest."""

_SLACK = 0.02
"""Share of a budget that may stay unspent where that keeps the ratios nearer to the learned."""


@dataclass(frozen=True)
class Slot:
    """A block that learns its ratios, on the map of a network's input.

    Attributes:
        place: where it is.
        block: as it is built.
        learning: how it learns.
        places: positions of its map (height x width).
    """

    place: Place
    block: RealisedBlock
    learning: Learning
    places: int

    @cached_property
    def options(self) -> tuple[Sizes, ...]:
        """Every way to divide its channels that learning may end with."""
        return legal_sizes(self.block.parts, self.learning)

    @cached_property
    def costs(self) -> dict[Sizes, int]:
        """What its mixer costs with each of them."""
        return {sizes: self.macs(sizes) for sizes in self.options}

    @property
    def start(self) -> Sizes:
        """The sizes that learning starts from."""
        return tuple(part.channels for part in self.block.parts)

    @property
    def dense(self) -> int:
        """What a 3x3 convolution over all channels costs."""
        return 9 * self.block.width**2 * self.places

    def macs(self, sizes: Sequence[int]) -> int:
        """What its mixer costs with these channels for each part."""
        return mixer_cost(resized(self.block, sizes), self.places).macs

    def learned(self, sizes: Sequence[float]) -> tuple[float, ...]:
        """The sizes of the parts that learn, out of those of all parts."""
        return tuple(sizes[position] for position in self.learning.parts)


def resized(block: RealisedBlock, sizes: Sequence[int]) -> RealisedBlock:
    """The block with these channels for each part; parts without channels are kept."""
    parts: Iterable[RealisedPart] = (
        part._replace(channels=size) for part, size in zip(block.parts, sizes, strict=True)
    )
    return block._replace(parts=tuple(parts))


def with_sizes(
    architecture: Architecture, sizes: Mapping[Place, Sequence[int]]
) -> list[list[RealisedBlock]]:
    """The blocks of each stage, those with sizes of their own resized."""
    return [
        [
            resized(block, sizes[stage, index]) if (stage, index) in sizes else block
            for index, block in enumerate(blocks)
        ]
        for stage, blocks in enumerate(architecture.realised)
    ]


def slots(architecture: Architecture, resolution: int | tuple[int, int]) -> tuple[Slot, ...]:
    """The blocks that learn their ratios, from input to output."""
    return tuple(
        Slot((stage, index), block, block.learning, height * width)
        for stage, (blocks, (height, width)) in enumerate(
            zip(architecture.realised, architecture.map_sizes(resolution), strict=True)
        )
        for index, block in enumerate(blocks)
        if block.learning is not None
    )


def reach(slots: Iterable[Slot]) -> tuple[int, int]:
    """The least and the most that the mixers with learned ratios can cost together."""
    costs = [slot.costs.values() for slot in slots]
    return sum(map(min, costs)), sum(map(max, costs))


def allowance(
    architecture: Architecture,
    resolution: int | tuple[int, int],
    in_chans: int = 3,
    num_classes: int = 1000,
) -> int | None:
    """What the mixers with learned ratios may cost together; None without a budget.

    Raises:
        UserError: the budget is out of reach; tells the range that is not.
    """
    found = slots(architecture, resolution)
    if not found or found[0].learning.budget is None:
        return None
    budget = found[0].learning.limit
    dense, start = sum(slot.dense for slot in found), sum(slot.macs(slot.start) for slot in found)
    if budget == "static":
        return start
    least, most = reach(found)
    if isinstance(budget, Fraction):
        allowed, told = int(budget * dense), f"between {_up(least / dense)} and 1"
    else:
        everything = total(
            rows(architecture, architecture.realised, resolution, in_chans, num_classes)
        ).macs
        fixed = everything - start
        allowed = int(str(budget)) - fixed
        told = f"from {fixed + least:,} to {fixed + most:,} multiply-accumulates"
    if allowed < least or (not isinstance(budget, Fraction) and allowed > most):
        raise UserError(f"budget {budget} of the learned ratios is out of reach: expected {told}")
    return allowed


def _up(share: float) -> str:
    """A share rounded up to three decimals, so that what is said to work does."""
    return f"{-(-share * 1000 // 1) / 1000:.3f}"


def uniform_sizes(
    architecture: Architecture,
    resolution: int | tuple[int, int],
    in_chans: int = 3,
    num_classes: int = 1000,
) -> dict[Place, Sizes]:
    """The sizes that spend the budget with the same ratio in all layers, as far as the grain lets.

    Without a budget, or with a static one, those that learning starts from.

    Raises:
        UserError: the budget is out of reach.
    """
    found = slots(architecture, resolution)
    allowed = allowance(architecture, resolution, in_chans, num_classes)
    if allowed is None or found[0].learning.budget == "static":
        return {slot.place: slot.start for slot in found}
    return settle(found, [_shared(slot, _even(found, allowed)) for slot in found], allowed)


def _even(found: Sequence[Slot], allowed: int) -> float:
    """The share of the channels that, learned by all layers alike, spends what is allowed."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        spent = sum(slot.costs[_next(slot, middle)] for slot in found)
        low, high = (low, middle) if spent > allowed else (middle, high)
    return low


def _shared(slot: Slot, share: float) -> tuple[float, ...]:
    return tuple(share * slot.block.width / len(slot.learning.parts) for _ in slot.learning.parts)


def _next(slot: Slot, share: float) -> Sizes:
    wanted = _shared(slot, share)
    return min(slot.options, key=lambda sizes: _distance(slot, sizes, wanted))


def _distance(slot: Slot, sizes: Sequence[int], wanted: Sequence[float]) -> float:
    """How far sizes are from the wanted ones, in shares of the width, squared."""
    width = slot.block.width
    pairs = zip(slot.learned(sizes), wanted, strict=True)
    return sum(((size - want) / width) ** 2 for size, want in pairs)


def settle(
    found: Sequence[Slot], wanted: Sequence[Sequence[float]], allowed: float | None
) -> dict[Place, Sizes]:
    """The legal sizes nearest to the wanted ones that cost at most what is allowed.

    A knapsack over the layers. Of the sizes that spend all but 2 % of what is allowed the nearest
    are taken; where there are none, those that spend the most.

    Args:
        found: the layers.
        wanted: of each layer the sizes that its learned parts would have.
        allowed: multiply-accumulates; None for no limit.

    Raises:
        UserError: no legal sizes cost so little.
    """
    if allowed is None:
        nearest = (
            min(slot.options, key=lambda s, w=want, of=slot: _distance(of, s, w))  # type: ignore[misc]
            for slot, want in zip(found, wanted, strict=True)
        )
        return {slot.place: sizes for slot, sizes in zip(found, nearest, strict=True)}
    least = [min(slot.costs.values()) for slot in found]
    unit = max(allowed / _UNITS, 1.0)
    best: dict[int, tuple[float, int, tuple[Sizes, ...]]] = {0: (0.0, 0, ())}
    for index, (slot, want) in enumerate(zip(found, wanted, strict=True)):
        rest = sum(least[index + 1 :])
        best = _extended(best, slot, want, allowed - rest, unit)
    if not best:
        raise UserError(f"no sizes of the learned parts cost at most {allowed:,.0f}")
    spending = [way for way in best.values() if way[1] >= (1 - _SLACK) * allowed]
    chosen = min(spending) if spending else max(best.values(), key=lambda way: way[1])
    return {slot.place: sizes for slot, sizes in zip(found, chosen[2], strict=True)}


def _near(slot: Slot, want: Sequence[float]) -> list[tuple[float, int, Sizes]]:
    """Distance, cost and sizes of the options nearest to what is wanted, and of the cheapest."""
    options = [(_distance(slot, sizes, want), macs, sizes) for sizes, macs in slot.costs.items()]
    near = sorted(options)[:_NEAREST]
    cheapest = min(options, key=lambda option: option[1])
    return near if cheapest in near else [*near, cheapest]


def _extended(
    best: dict[int, tuple[float, int, tuple[Sizes, ...]]],
    slot: Slot,
    want: Sequence[float],
    allowed: float,
    unit: float,
) -> dict[int, tuple[float, int, tuple[Sizes, ...]]]:
    """Every way so far with every size of one more layer: of equal cost the nearest one."""
    further: dict[int, tuple[float, int, tuple[Sizes, ...]]] = {}
    options = _near(slot, want)
    for distance, spent, taken in best.values():
        for more, macs, sizes in options:
            cost = spent + macs
            if cost > allowed:
                continue
            way = distance + more
            known = further.get(int(cost / unit))
            if known is None or (way, cost) < known[:2]:
                further[int(cost / unit)] = (way, cost, (*taken, sizes))
    return further
