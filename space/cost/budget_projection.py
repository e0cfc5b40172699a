"""Projection of learned sizes onto a budget: the nearest legal sizes that the budget allows.

Distances are squared differences of shares of the width, summed over the learned parts.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partialnas.space.cost.learned_blocks import BlockIndex, LearnedBlock, PartSizes, mac_range
from partialnas.space.errors import UserError

SLACK = 0.02
"""Share of a budget that may stay unspent to keep the sizes nearer to their targets."""

_UNITS = 1000
"""Resolution of costs in the knapsack, in steps per budget."""

_NEAREST = 8
"""Options per block in the first knapsack, besides the cheapest and the most expensive."""

_SHARES, _HALVINGS = 32, 8
"""Number of common shares tried first, and of bisections between the best and the next."""

_MAX_LOG_PRICE = 24.0
"""Largest |log2| of the relative price of a multiply-accumulate."""


_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class _Options(NamedTuple):
    """Distance from the target sizes and cost of each option of a block."""

    distances: _Floats
    macs: _Ints


class _Selections(NamedTuple):
    """Selections of an option for each of the first blocks, with their total distance and cost."""

    distances: _Floats
    macs: _Ints
    indices: _Ints


def project_to_budget(
    blocks: Sequence[LearnedBlock], targets: Sequence[Sequence[float]], allowed: float | None
) -> dict[BlockIndex, PartSizes]:
    """Return the legal sizes that are nearest to target sizes and cost at most a limit.

    Only sizes that spend at least 98 % of the limit are considered. If there are none, return those
    that spend the most.

    Args:
        blocks: the blocks with learned ratios.
        targets: target sizes of the learned parts of each block.
        allowed: limit in multiply-accumulates, or None for no limit.

    Raises:
        UserError: No legal sizes are within the limit.
    """
    pairs = zip(blocks, targets, strict=True)
    options = [_Options(_distances(block, sizes), _arrays(block)[1]) for block, sizes in pairs]
    indices = zip(blocks, _select(options, *mac_range(blocks), allowed), strict=True)
    return {block.block_index: block.options[index] for block, index in indices}


@lru_cache(maxsize=256)
def _arrays(learned: LearnedBlock) -> tuple[_Ints, _Ints]:
    """Return the sizes of the learned parts and the cost of each option."""
    sizes = np.array(learned.options, np.int64)[:, list(learned.learning.parts)]
    return sizes, np.array(list(learned.costs.values()), np.int64)


def _distances(learned: LearnedBlock, targets: Sequence[float] | _Floats) -> _Floats:
    """Return the distance of each option (last axis) from target sizes of the learned parts."""
    offsets = (_arrays(learned)[0] - np.asarray(targets)[..., None, :]) / learned.block.width
    distances: _Floats = np.square(offsets).sum(-1)
    return distances


def _select(blocks: Sequence[_Options], low: int, high: int, allowed: float | None) -> list[int]:
    """Return the index of an option for each block."""
    if allowed is None:
        return [int(options.distances.argmin()) for options in blocks]
    if allowed < low:
        raise UserError(
            f"no sizes of the learned parts cost at most {allowed:,.0f} multiply-accumulates: "
            f"the minimum is {low:,}"
        )
    enough = (1 - SLACK) * allowed
    if high <= enough:
        # the nearest of the most expensive options
        return [int(np.lexsort((options.distances, -options.macs))[0]) for options in blocks]
    price = _price(blocks, allowed)
    candidates = [_best_at_price(options, price) for options in blocks]
    spent, indices = _solve_knapsack(blocks, candidates, allowed)
    if spent < enough:
        candidates = [np.arange(len(options.macs)) for options in blocks]
        spent, indices = max((spent, indices), _solve_knapsack(blocks, candidates, allowed))
    return indices


def _price(blocks: Sequence[_Options], allowed: float) -> float:
    """Return the distance per multiply-accumulate at which the selection just meets the limit.

    This is a Lagrange multiplier; it is negative if the target sizes cost less than the limit.
    """

    def kept(price: float) -> bool:
        picks = ((b.macs, (b.distances + price * b.macs).argmin()) for b in blocks)
        return sum(int(macs[pick]) for macs, pick in picks) <= allowed

    sign = -1 if kept(0.0) else 1
    unit = max(allowed, 1)  # the limit may be 0
    low, high = -_MAX_LOG_PRICE, _MAX_LOG_PRICE
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (low, middle) if kept(sign * 2**middle / unit) == (sign > 0) else (middle, high)
    return float(sign * 2 ** (high if sign > 0 else low) / unit)


def _best_at_price(options: _Options, price: float) -> _Ints:
    """Return the best options at a price, the cheapest one and the most expensive one."""
    ranked = np.argsort(options.distances + price * options.macs, kind="stable")
    return np.unique([*ranked[:_NEAREST], options.macs.argmin(), options.macs.argmax()])


def _solve_knapsack(
    blocks: Sequence[_Options], candidates: Sequence[_Ints], allowed: float
) -> tuple[int, list[int]]:
    """Return the cost and the options of the nearest selection within the limit.

    Of selections with about the same cost, only the nearest is kept.
    """
    cheapest = [int(options.macs.min()) for options in blocks]
    zero = np.zeros(1, np.int64)
    selections = _Selections(np.zeros(1), zero, zero[:, None][:, :0])
    for index, (options, indices) in enumerate(zip(blocks, candidates, strict=True)):
        limit = allowed - sum(cheapest[index + 1 :])
        selections = _extend(selections, options, indices, limit, max(allowed / _UNITS, 1.0))
    enough = np.flatnonzero(selections.macs >= (1 - SLACK) * allowed)
    distances = selections.distances[enough]
    best = enough[distances.argmin()] if len(enough) else selections.macs.argmax()
    return int(selections.macs[best]), selections.indices[best].tolist()


def _extend(
    selections: _Selections, options: _Options, indices: _Ints, allowed: float, unit: float
) -> _Selections:
    """Combine every selection with every candidate option of one more block."""
    macs = np.add.outer(selections.macs, options.macs[indices]).ravel()
    distances = np.add.outer(selections.distances, options.distances[indices]).ravel()
    within = np.flatnonzero(macs <= allowed)
    steps = (macs[within] / unit).astype(np.int64)
    ranked = np.lexsort((macs[within], distances[within], steps))
    first = within[ranked[np.unique(steps[ranked], return_index=True)[1]]]
    before, option = np.divmod(first, len(indices))
    extended = np.column_stack((selections.indices[before], indices[option]))
    return _Selections(distances[first], macs[first], extended)


def uniform_allocation(
    blocks: Sequence[LearnedBlock], proportions: Sequence[Sequence[float]], allowed: float
) -> dict[BlockIndex, PartSizes]:
    """Return legal sizes that spend a limit with one common ratio, up to the grain.

    Args:
        blocks: the blocks with learned ratios.
        proportions: relative sizes of the learned parts of each block.
        allowed: limit in multiply-accumulates.

    Raises:
        UserError: No legal sizes are within the limit.
    """
    fractions = [tuple(part / sum(parts) for part in parts) for parts in proportions]
    pairs = [*zip(blocks, fractions, strict=True)]
    # equal blocks, wherever they are, are evaluated once
    distinct = Counter((replace(learned, block_index=(0, 0)), parts) for learned, parts in pairs)

    def spent(shares: _Floats) -> _Ints:
        total = np.zeros(len(shares), np.int64)
        for (learned, parts), count in distinct.items():
            nearest = _distances(learned, np.outer(shares, parts) * learned.block.width).argmin(-1)
            total += count * _arrays(learned)[1][nearest]
        return total

    share = _largest_share(spent, allowed)
    targets = [[share * part * learned.block.width for part in parts] for learned, parts in pairs]
    return project_to_budget(blocks, targets, allowed)


def _largest_share(spent: Callable[[_Floats], _Ints], allowed: float) -> float:
    """Return the share that spends the most within the limit; costs may not be monotonic."""
    shares = np.linspace(0, 1, _SHARES + 1)
    macs = spent(shares)
    if macs.min() > allowed:
        return float(shares[macs.argmin()])
    low = float(shares[np.where(macs <= allowed, macs, -1).argmax()])
    high = low + 1 / _SHARES
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(np.array([middle]))[0] <= allowed else (low, middle)
    return low
