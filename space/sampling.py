"""Sampling: random choices that can be built and satisfy the constraints, or why there are none."""

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from partialnas.space.axes import Axis, Level
from partialnas.space.census import count
from partialnas.space.errors import UserError
from partialnas.space.fold import Fold, TooLargeError, Witness
from partialnas.space.layout import Choice, Layout
from partialnas.space.scheme import Chosen, Scheme, Scope

if TYPE_CHECKING:
    import numpy as np

    from partialnas.space.space import Space

    Rng = random.Random | np.random.Generator

_DRAWS = 64
_HOPELESS = 5
_REPAIRS = 60
_LEADS = 3
_EVALUATIONS = 300
_ENUMERATED = 300
_STEPS = 40_000
_WAYS = 8


class Candidate(NamedTuple):
    """Choices that can be built, and how far they are from satisfying the constraints."""

    excess: float
    chosen: Chosen


def draw(layout: Layout, rng: "Rng") -> Chosen:
    """Makes every active choice at random, each level of it equally likely."""
    return layout.walk(lambda choice, _: _any_level(choice, rng))


def _any_level(choice: Choice, rng: "Rng") -> Level:
    return choice.axis.levels[_below(rng, len(choice.axis.levels))]


def _below(rng: "Rng", count: int) -> int:
    return rng.randrange(count) if isinstance(rng, random.Random) else int(rng.integers(count))


def repair(layout: Layout, chosen: Chosen, rng: "Rng") -> Chosen | None:
    """Draws again what is chosen for blocks that cannot be built, the finest choices most often.

    Rejecting whole networks instead would be hopeless where blocks are drawn one by one: with 13
    blocks, of which each can be built with probability 1/2, one network in 8000 could.
    """
    ranks = sorted({axis.rank for axis in layout.scheme.axes.values()}, reverse=True)
    for attempt in range(1, _REPAIRS + 1):
        broken = [scope for scope, _ in layout.scheme.invalid(chosen)]
        if not broken:
            return chosen
        if ranks:
            coarser = 0 if attempt % 4 else 1 if attempt % 16 else 2
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
    levels = draw(layout, rng)
    return layout.walk(
        lambda choice, _: (
            kept.get(choice.key)
            or levels.get(choice.key)
            or choice.axis.levels[_below(rng, len(choice.axis.levels))]
        )
    )


def find(space: "Space", rng: "Rng") -> Chosen:
    """Random choices that are in the space.

    Draws at random; where none of many draws satisfies the constraints, walks from the nearest
    ones towards them, one choice at a time, so that rare networks are found too.

    Raises:
        UserError: nothing is in the space, as far as looked; tells the nearest there is.
    """
    candidates: list[Candidate] = []
    for attempt in range(_DRAWS):
        chosen = repair(space.layout, draw(space.layout, rng), rng)
        if chosen is not None:
            candidates.append(_candidate(space, chosen))
            if not candidates[-1].excess:
                return chosen
        elif attempt >= _HOPELESS and not candidates:
            candidates = _rare(space, rng)
            break
    if small := _enumerable(space):
        candidates = [_candidate(space, chosen) for chosen in _buildable(space)]
    elif candidates:
        candidates = _approach(space, candidates, rng)
    if not candidates:
        raise UserError(_nothing_builds(space, rng))
    least = min(candidate.excess for candidate in candidates)
    nearest = [chosen for excess, chosen in candidates if excess == least]
    if least > 0:
        raise UserError(_out_of_reach(space, nearest[0], everywhere=small))
    return nearest[_below(rng, len(nearest))]


def _candidate(space: "Space", chosen: Chosen) -> Candidate:
    cost = space.cost(space.scheme.architecture(chosen))
    return Candidate(space.constraints.excess(cost), chosen)


class _Buildable(Witness):
    """Admits what can be built, the levels in random order."""

    def __init__(self, scheme: Scheme, rng: "Rng") -> None:
        self._scheme = scheme
        self._rng = rng

    def levels(self, axis: Axis, scope: Scope, chosen: Chosen) -> Sequence[Level]:  # noqa: ARG002
        levels = list(axis.levels)
        self._rng.shuffle(levels)
        return levels

    def admits(self, scope: Scope, chosen: Chosen) -> bool:
        if len(scope) < 2:
            return True
        try:
            self._scheme.block(scope, chosen)
        except ValueError:
            return False
        return True


def _rare(space: "Space", rng: "Rng") -> list[Candidate]:
    """What can be built where random choices never can, if it is found in reasonable time."""
    try:
        chosen = Fold(space.scheme, _Buildable(space.scheme, rng), _STEPS).total()
    except TooLargeError:
        return []
    return [] if chosen is None else [_candidate(space, chosen)]


def _enumerable(space: "Space") -> bool:
    counted = count(space.scheme, 10 * _ENUMERATED)
    return counted is not None and counted[1] <= _ENUMERATED


def _buildable(space: "Space") -> Iterator[Chosen]:
    for chosen in space.layout.walks(lambda choice, _: choice.axis.levels):
        if not any(space.scheme.invalid(chosen)):
            yield chosen


def _approach(space: "Space", candidates: list[Candidate], rng: "Rng") -> list[Candidate]:
    """The nearest candidates, each moved closer to the constraints while that is possible."""
    leads = sorted(candidates, key=lambda candidate: candidate.excess)[:_LEADS]
    budget = iter(range(_EVALUATIONS))
    reached: list[Candidate] = []
    for lead in leads:
        reached.append(_descend(space, lead, budget, rng))
        if not reached[-1].excess:
            break
    return reached


def _descend(space: "Space", lead: Candidate, budget: Iterator[int], rng: "Rng") -> Candidate:
    """Goes through the choices in random order, each set to its best, until none gets better."""
    while True:
        start = lead.excess
        choices = [choice for choice in space.layout.choices if choice.key in lead.chosen]
        for index in range(len(choices), 0, -1):
            choice = choices.pop(_below(rng, index))
            lead = min([lead, *_moves(space, lead, choice, budget)], key=lambda c: c.excess)
            if not lead.excess:
                return lead
        if lead.excess == start or next(budget, None) is None:
            return lead


def _moves(
    space: "Space", lead: Candidate, choice: Choice, budget: Iterator[int]
) -> Iterator[Candidate]:
    current = lead.chosen.get(choice.key)
    for level in choice.axis.levels if current else ():
        if level != current and next(budget, None) is not None:
            ways = islice(space.layout.changes(lead.chosen, choice, level), _WAYS)
            built = next((way for way in ways if not any(space.scheme.invalid(way))), None)
            if built is not None:
                yield _candidate(space, built)


def _nothing_builds(space: "Space", rng: "Rng") -> str:
    (stage, block), reason = next(space.scheme.invalid(draw(space.layout, rng)))
    return (
        "no network of this space can be built, as far as looked; for one, "
        f"stage {stage + 1}, block {block + 1}: {reason}"
    )


def _out_of_reach(space: "Space", nearest: Chosen, *, everywhere: bool) -> str:
    lines = space.constraints.violations(space.cost(space.scheme.architecture(nearest)))
    where = "of this space" if everywhere else "found in this space"
    return (
        f"constraints: no network {where} satisfies them; the nearest has {'; '.join(lines)}. "
        "Loosen the constraints, or add levels that reach them"
    )
