"""Sampling: random choices, and those among them that can be built."""

import random
from typing import TYPE_CHECKING

from partialnas.space.axes import Level
from partialnas.space.layout import Choice, Layout
from partialnas.space.scheme import Chosen, Scope

if TYPE_CHECKING:
    import numpy as np

    Rng = random.Random | np.random.Generator

_REPAIRS = 48


def below(rng: "Rng", count: int) -> int:
    """A random whole number from 0, below `count`."""
    return rng.randrange(count) if isinstance(rng, random.Random) else int(rng.integers(count))


def _any_level(choice: Choice, rng: "Rng") -> Level:
    return choice.axis.levels[below(rng, len(choice.axis.levels))]


def draw(layout: Layout, rng: "Rng") -> Chosen:
    """Makes every active choice at random, each level of it equally likely."""
    return layout.walk(lambda choice, _: _any_level(choice, rng))


def repair(layout: Layout, chosen: Chosen, rng: "Rng") -> Chosen | None:
    """Draws again what is chosen for blocks that cannot be built, the finest choices first.

    Rejecting whole networks instead would be hopeless where blocks are drawn one by one: with 13
    blocks, of which each can be built with probability 1/2, one network in 8000 could.
    """
    ranks = sorted({axis.rank for axis in layout.scheme.axes.values()}, reverse=True)
    for attempt in range(1, _REPAIRS + 1):
        broken = [scope for scope, _ in layout.scheme.invalid(chosen)]
        if not broken:
            return chosen
        if ranks:
            coarser = 0 if attempt % 2 else 1 if attempt % 16 else 2
            rank = ranks[min(coarser, len(ranks) - 1)]
            chosen = _redraw(layout, chosen, {scope[:rank] for scope in broken}, rng)
    return None


def _redraw(layout: Layout, chosen: Chosen, scopes: set[Scope], rng: "Rng") -> Chosen:
    """Draws again all that is chosen at these scopes and within them."""
    kept = {
        key: level
        for key, level in chosen.items()
        if not any(key[1][: len(scope)] == scope for scope in scopes)
    }
    return layout.walk(lambda choice, _: kept.get(choice.key) or _any_level(choice, rng))
