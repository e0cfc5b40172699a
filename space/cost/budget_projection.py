"""Settling: the legal sizes of learned parts that are nearest to wanted ones within a budget.

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
"""Share of a budget that may stay unspent where that keeps the ratios nearer to the wanted."""

_UNITS = 1000
"""Steps in which the knapsack tells costs apart."""

_NEAREST = 8
"""Options of a layer that the knapsack weighs first, beside the cheapest and the dearest."""

_SHARES = 32
"""So many common shares are tried first, and the interval of the best is halved so often."""
_HALVINGS = 8

_POWERS = 24.0
"""Powers of two between which the price of a multiply-accumulate is sought."""


class _Layer(NamedTuple):
    """How far each option of a layer is from the wanted sizes, and what it costs."""

    distances: NDArray[np.float64]
    macs: NDArray[np.int64]


class _Ways(NamedTuple):
    """Ways to choose an option for each of the first layers, and what they sum up to."""

    distances: NDArray[np.float64]
    macs: NDArray[np.int64]
    taken: NDArray[np.int64]


def project_to_budget(
    found: Sequence[LearnedBlock], wanted: Sequence[Sequence[float]], allowed: float | None
) -> dict[BlockIndex, PartSizes]:
    """The legal sizes nearest to the wanted ones that cost at most what is allowed.

    Of the sizes that spend all but 2 % of what is allowed the nearest are taken; where there are
    none, those that spend the most.

    Args:
        found: the layers.
        wanted: of each layer the sizes that its learned parts would have.
        allowed: multiply-accumulates; None for no limit.

    Raises:
        UserError: no legal sizes cost so little.
    """
    layers = [
        _Layer(_distances(slot, want), _arrays(slot)[1])
        for slot, want in zip(found, wanted, strict=True)
    ]
    taken = _taken(layers, mac_range(found), allowed)
    return {slot.block_index: slot.options[index] for slot, index in zip(found, taken, strict=True)}


@lru_cache(maxsize=256)
def _arrays(slot: LearnedBlock) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By option the sizes of the parts that learn, and what it costs."""
    sizes = np.array(slot.options, np.int64)[:, list(slot.learning.parts)]
    return sizes, np.array(list(slot.costs.values()), np.int64)


def _distances(
    slot: LearnedBlock, wanted: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """By option (last axis) how far it is from wanted sizes of the learned parts (last axis)."""
    apart = (_arrays(slot)[0] - np.asarray(wanted)[..., None, :]) / slot.block.width
    distances: NDArray[np.float64] = np.square(apart).sum(-1)
    return distances


def _taken(
    layers: Sequence[_Layer], reached: tuple[int, int], allowed: float | None
) -> Sequence[int]:
    """The position of each layer's option."""
    least, most = reached
    if allowed is None:
        return [int(layer.distances.argmin()) for layer in layers]
    if allowed < least:
        raise UserError(
            f"no sizes of the learned parts cost at most {allowed:,.0f} multiply-accumulates: "
            f"the least is {least:,}"
        )
    enough = (1 - SLACK) * allowed
    if most <= enough:
        # of the dearest options the nearest
        return [int(np.lexsort((layer.distances, -layer.macs))[0]) for layer in layers]
    price = _price(layers, allowed)
    spent, taken = _packed(layers, [_promising(layer, price) for layer in layers], allowed)
    if spent < enough:
        everything = [np.arange(len(layer.macs)) for layer in layers]
        spent, taken = max((spent, taken), _packed(layers, everything, allowed))
    return taken


def _price(layers: Sequence[_Layer], allowed: float) -> float:
    """The distance that a multiply-accumulate is worth where the budget is just kept (Lagrange).

    Below 0 where the wanted sizes cost less than what is allowed.
    """

    def kept(price: float) -> bool:
        picks = ((layer, (layer.distances + price * layer.macs).argmin()) for layer in layers)
        return sum(int(layer.macs[pick]) for layer, pick in picks) <= allowed

    sign = -1 if kept(0.0) else 1
    unit = max(allowed, 1)  # nothing at all may be allowed
    low, high = -_POWERS, _POWERS
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (low, middle) if kept(sign * 2**middle / unit) == (sign > 0) else (middle, high)
    return float(sign * 2 ** (high if sign > 0 else low) / unit)


def _promising(layer: _Layer, price: float) -> NDArray[np.int64]:
    """The options that are best at a price, the cheapest and the dearest."""
    ranked = np.argsort(layer.distances + price * layer.macs, kind="stable")
    return np.unique([*ranked[:_NEAREST], layer.macs.argmin(), layer.macs.argmax()])


def _packed(
    layers: Sequence[_Layer], options: Sequence[NDArray[np.int64]], allowed: float
) -> tuple[int, list[int]]:
    """A knapsack over the layers: of ways that cost about the same the nearest is kept."""
    rest = [int(layer.macs.min()) for layer in layers]
    none = np.zeros(1, np.int64)
    ways = _Ways(np.zeros(1), none, none[:, None][:, :0])
    for index, (layer, chosen) in enumerate(zip(layers, options, strict=True)):
        limit = allowed - sum(rest[index + 1 :])
        ways = _extended(ways, layer, chosen, limit, max(allowed / _UNITS, 1.0))
    spending = np.flatnonzero(ways.macs >= (1 - SLACK) * allowed)
    nearest = spending[ways.distances[spending].argmin()] if len(spending) else ways.macs.argmax()
    return int(ways.macs[nearest]), ways.taken[nearest].tolist()


def _extended(
    ways: _Ways, layer: _Layer, chosen: NDArray[np.int64], allowed: float, unit: float
) -> _Ways:
    """Every way so far with every chosen option of one more layer."""
    macs = np.add.outer(ways.macs, layer.macs[chosen]).ravel()
    distances = np.add.outer(ways.distances, layer.distances[chosen]).ravel()
    within = np.flatnonzero(macs <= allowed)
    steps = (macs[within] / unit).astype(np.int64)
    ranked = np.lexsort((macs[within], distances[within], steps))
    first = within[ranked[np.unique(steps[ranked], return_index=True)[1]]]
    before, option = np.divmod(first, len(chosen))
    taken = np.column_stack((ways.taken[before], chosen[option]))
    return _Ways(distances[first], macs[first], taken)


def uniform_allocation(
    found: Sequence[LearnedBlock], proportions: Sequence[Sequence[float]], allowed: float
) -> dict[BlockIndex, PartSizes]:
    """Legal sizes with one common ratio that spend what is allowed, as far as the grain lets.

    Args:
        found: the layers.
        proportions: of each layer how its learned parts compare; they share what all of them get.
        allowed: multiply-accumulates.

    Raises:
        UserError: no legal sizes cost so little.
    """
    parted = [tuple(part / sum(parts) for part in parts) for parts in proportions]
    # layers that are alike, wherever they are, are asked once
    alike = Counter(
        (replace(slot, block_index=(0, 0)), parts) for slot, parts in zip(found, parted, strict=True)
    )

    def spent(shares: NDArray[np.float64]) -> NDArray[np.int64]:
        total = np.zeros(len(shares), np.int64)
        for (slot, parts), count in alike.items():
            nearest = _distances(slot, np.outer(shares, parts) * slot.block.width).argmin(-1)
            total += count * _arrays(slot)[1][nearest]
        return total

    share = _largest(spent, allowed)
    wanted = [
        [share * part * slot.block.width for part in parts]
        for slot, parts in zip(found, parted, strict=True)
    ]
    return project_to_budget(found, wanted, allowed)


def _largest(spent: Callable[[NDArray[np.float64]], NDArray[np.int64]], allowed: float) -> float:
    """The share that spends the most of what is allowed; more may cost less, by a neighbour."""
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
