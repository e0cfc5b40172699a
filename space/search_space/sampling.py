"""Sampling: random choices, and those among them that can be built."""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from partialnas.space.axes.axis import Axis, Level
from partialnas.space.axes.choices import Choice, ChoiceTree
from partialnas.space.axes.decoder import Assignment, Decoder, Scope
from partialnas.space.errors import UserError
from partialnas.space.search_space.dynamic_programming import (
    DynamicProgram,
    StepLimitError,
    WitnessAlgebra,
    count_points,
)
from partialnas.space.search_space.feasible import FeasibleSet

if TYPE_CHECKING:
    import numpy as np

    Rng = random.Random | np.random.Generator

_REPAIRS = 48


def random_index(rng: "Rng", count: int) -> int:
    """A random whole number from 0, below `count`."""
    return rng.randrange(count) if isinstance(rng, random.Random) else int(rng.integers(count))


def _any_level(choice: Choice, rng: "Rng") -> Level:
    return choice.axis.levels[random_index(rng, len(choice.axis.levels))]


def sample_assignment(layout: ChoiceTree, rng: "Rng") -> Assignment:
    """Makes every active choice at random, each level of it equally likely."""
    return layout.walk(lambda choice, _: _any_level(choice, rng))


def repair(layout: ChoiceTree, chosen: Assignment, rng: "Rng") -> Assignment | None:
    """Draws again what is chosen for blocks that cannot be built, the finest choices first.

    Rejecting whole networks instead would be hopeless where blocks are drawn one by one: with 13
    blocks, of which each can be built with probability 1/2, one network in 8000 could.
    """
    ranks = sorted({axis.rank for axis in layout.decoder.axes.values()}, reverse=True)
    for attempt in range(1, _REPAIRS + 1):
        broken = [scope for scope, _ in layout.decoder.invalid_blocks(chosen)]
        if not broken:
            return chosen
        if ranks:
            coarser = 0 if attempt % 2 else 1 if attempt % 16 else 2
            rank = ranks[min(coarser, len(ranks) - 1)]
            chosen = _redraw(layout, chosen, {scope[:rank] for scope in broken}, rng)
    return None


def _redraw(layout: ChoiceTree, chosen: Assignment, scopes: set[Scope], rng: "Rng") -> Assignment:
    """Draws again all that is chosen at these scopes and within them."""
    kept = {
        key: level
        for key, level in chosen.items()
        if not any(key[1][: len(scope)] == scope for scope in scopes)
    }
    return layout.walk(lambda choice, _: kept.get(choice.key) or _any_level(choice, rng))


_DRAWS = 64
_HOPELESS = 5
_LEADS = 3
_EVALUATIONS = 300
_ENUMERATED = 300
_STEPS = 40_000
_WAYS = 8


class _Candidate(NamedTuple):
    """Choices that can be built, and how far they are from satisfying the constraints."""

    excess: float
    chosen: Assignment


def sample_feasible(space: FeasibleSet, rng: "Rng") -> Assignment:
    """Random choices that are in the space.

    Draws at random; where none of many draws satisfies the constraints, walks from the nearest
    ones towards them, one choice at a time, so that rare networks are found too. Small spaces are
    enumerated instead.

    Raises:
        UserError: nothing is in the space, as far as looked; tells the nearest there is.
    """
    candidates, everywhere = _drawn(space, rng, _HOPELESS), False
    if all(candidate.excess for candidate in candidates):
        everywhere = _is_small(space)
        if everywhere:
            walks = space.choice_tree.enumerate_assignments(lambda choice, _: choice.axis.levels)
            candidates = [*_buildable(space, walks)]
        else:
            candidates = candidates or _rare(space, rng) or _drawn(space, rng, _DRAWS)
            candidates = _approach(space, candidates, rng)
    if not candidates:
        raise UserError(_nothing_builds(space, rng))
    least = min(candidate.excess for candidate in candidates)
    nearest = [chosen for excess, chosen in candidates if excess == least]
    if least > 0:
        raise UserError(_out_of_reach(space, nearest[0], everywhere=everywhere))
    return nearest[random_index(rng, len(nearest))]


def _candidate(space: FeasibleSet, chosen: Assignment) -> _Candidate:
    return _Candidate(space.total_violation(space.decoder.architecture(chosen)), chosen)


def _drawn(space: FeasibleSet, rng: "Rng", patience: int) -> list[_Candidate]:
    """Random candidates: the first that satisfies the constraints, or else many that do not.

    Gives up where none of the first `patience` draws can be made one that builds.
    """
    candidates: list[_Candidate] = []
    for attempt in range(_DRAWS):
        chosen = repair(space.choice_tree, sample_assignment(space.choice_tree, rng), rng)
        if chosen is not None:
            candidates.append(_candidate(space, chosen))
            if not candidates[-1].excess:
                return candidates[-1:]
        elif attempt >= patience and not candidates:
            break
    return candidates


class _Buildable(WitnessAlgebra):
    """Admits what can be built, the levels in random order."""

    def __init__(self, scheme: Decoder, rng: "Rng") -> None:
        self._scheme = scheme
        self._rng = rng

    def levels(self, axis: Axis, scope: Scope, chosen: Assignment) -> Sequence[Level]:  # noqa: ARG002
        levels = list(axis.levels)
        self._rng.shuffle(levels)
        return levels

    def admits(self, scope: Scope, chosen: Assignment) -> bool:
        if len(scope) < 2:
            return True
        try:
            self._scheme.block(scope, chosen)
        except ValueError:
            return False
        return True


def _rare(space: FeasibleSet, rng: "Rng") -> list[_Candidate]:
    """What can be built where random choices never can, if it is found in reasonable time."""
    try:
        chosen = DynamicProgram(space.decoder, _Buildable(space.decoder, rng), _STEPS).solve()
    except StepLimitError:
        return []
    if chosen is None or any(space.decoder.invalid_blocks(chosen)):
        return []
    return [_candidate(space, chosen)]


def _is_small(space: FeasibleSet) -> bool:
    counted = count_points(space.decoder, 10 * _ENUMERATED)
    return counted is not None and counted[1] <= _ENUMERATED


def _buildable(space: FeasibleSet, ways: Iterable[Assignment]) -> Iterator[_Candidate]:
    """Those of these choices that can be built."""
    for chosen in ways:
        with suppress(UserError):
            yield _candidate(space, chosen)


def _approach(space: FeasibleSet, candidates: list[_Candidate], rng: "Rng") -> list[_Candidate]:
    """The nearest candidates, each moved closer to the constraints while that is possible."""
    leads = sorted(candidates, key=lambda candidate: candidate.excess)[:_LEADS]
    budget = iter(range(_EVALUATIONS))
    reached: list[_Candidate] = []
    for lead in leads:
        reached.append(_descend(space, lead, budget, rng))
        if not reached[-1].excess:
            break
    return reached


def _descend(space: FeasibleSet, lead: _Candidate, budget: Iterator[int], rng: "Rng") -> _Candidate:
    """Goes through the choices in random order, each set to its best, until none gets better."""
    while True:
        start = lead.excess
        choices = [choice for choice in space.choice_tree.choices if choice.key in lead.chosen]
        for index in range(len(choices), 0, -1):
            choice = choices.pop(random_index(rng, index))
            lead = min([lead, *_moves(space, lead, choice, budget)], key=lambda c: c.excess)
            if not lead.excess:
                return lead
        if lead.excess == start or next(budget, None) is None:
            return lead


def _moves(
    space: FeasibleSet, lead: _Candidate, choice: Choice, budget: Iterator[int]
) -> Iterator[_Candidate]:
    current = lead.chosen.get(choice.key)
    for level in choice.axis.levels if current else ():
        if level != current and next(budget, None) is not None:
            ways = islice(space.choice_tree.variations(lead.chosen, choice, level), _WAYS)
            yield from islice(_buildable(space, ways), 1)


def _nothing_builds(space: FeasibleSet, rng: "Rng") -> str:
    (stage, block), reason = next(space.decoder.invalid_blocks(sample_assignment(space.choice_tree, rng)))
    return (
        "no network of this space can be built, as far as looked; for one, "
        f"stage {stage + 1}, block {block + 1}: {reason}"
    )


def _out_of_reach(space: FeasibleSet, nearest: Assignment, *, everywhere: bool) -> str:
    lines = space.constraints.violations(space.cost(space.decoder.architecture(nearest)))
    where = "of this space" if everywhere else "found in this space"
    return (
        f"constraints: no network {where} satisfies them; the nearest has {'; '.join(lines)}. "
        "Loosen the constraints, or add levels that reach them"
    )
