"""Random points of a space: sampling, repair, and search for feasible points."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from partialnas.space.axes.axis import Axis, Level
from partialnas.space.axes.choices import Choice, ChoiceTree
from partialnas.space.axes.decoder import Assignment, Decoder, Scope
from partialnas.space.errors import UserError
from partialnas.space.search_space import dynamic_programming as dp
from partialnas.space.search_space.feasible import FeasibleSet

if TYPE_CHECKING:
    import numpy as np

    Rng = random.Random | np.random.Generator

_REPAIRS = 48
_DRAWS = 64
_EARLY_STOP = 5
_LEADS = 3
_EVALUATIONS = 300
_MAX_ENUMERATED = 300
_STEPS = 40_000
_MAX_VARIATIONS = 8


def random_index(rng: "Rng", count: int) -> int:
    """Return a random integer from 0 to `count - 1`."""
    return rng.randrange(count) if isinstance(rng, random.Random) else int(rng.integers(count))


def _any_level(choice: Choice, rng: "Rng") -> Level:
    return choice.axis.levels[random_index(rng, len(choice.axis.levels))]


def sample_assignment(tree: ChoiceTree, rng: "Rng") -> Assignment:
    """Make every active choice at random, with uniformly drawn levels."""
    return tree.walk(lambda choice, _: _any_level(choice, rng))


def repair(tree: ChoiceTree, chosen: Assignment, rng: "Rng") -> Assignment | None:
    """Redraw the choices of blocks that cannot be built, or return None if that fails.

    The finest choices are redrawn first. Rejecting whole networks would fail for choices per block:
    with 13 blocks that can be built with probability 1/2 each, one network in 8000 can be built.
    """
    ranks = sorted({axis.rank for axis in tree.decoder.axes.values()}, reverse=True)
    for attempt in range(1, _REPAIRS + 1):
        invalid = [scope for scope, _ in tree.decoder.invalid_blocks(chosen)]
        if not invalid:
            return chosen
        if ranks:
            coarser = 0 if attempt % 2 else 1 if attempt % 16 else 2
            rank = ranks[min(coarser, len(ranks) - 1)]
            chosen = _redraw(tree, chosen, {scope[:rank] for scope in invalid}, rng)
    return None


def _redraw(tree: ChoiceTree, chosen: Assignment, scopes: set[Scope], rng: "Rng") -> Assignment:
    """Redraw all choices at and within these scopes."""
    kept = {
        key: level
        for key, level in chosen.items()
        if not any(key[1][: len(scope)] == scope for scope in scopes)
    }
    return tree.walk(lambda choice, _: kept.get(choice.key) or _any_level(choice, rng))


class _Candidate(NamedTuple):
    """A buildable assignment and its violation of the constraints."""

    violation: float
    chosen: Assignment


def sample_feasible(space: FeasibleSet, rng: "Rng") -> Assignment:
    """Return a random feasible assignment.

    If none of the random draws is feasible, improve the nearest ones by changing one choice at a
    time. Small spaces are enumerated instead.

    Raises:
        UserError: No feasible assignment was found; the message describes the nearest one.
    """
    candidates, exhaustive = _draw(space, rng, _EARLY_STOP), False
    if all(candidate.violation for candidate in candidates):
        exhaustive = _is_small(space)
        if exhaustive:
            every = space.choice_tree.enumerate_assignments(lambda choice, _: choice.axis.levels)
            candidates = [*_buildable(space, every)]
        else:
            candidates = candidates or _search_buildable(space, rng) or _draw(space, rng, _DRAWS)
            candidates = _improve(space, candidates, rng)
    if not candidates:
        raise UserError(_explain_unbuildable(space, rng))
    lowest = min(candidate.violation for candidate in candidates)
    nearest = [chosen for violation, chosen in candidates if violation == lowest]
    if lowest > 0:
        raise UserError(_explain_infeasible(space, nearest[0], exhaustive=exhaustive))
    return nearest[random_index(rng, len(nearest))]


def _candidate(space: FeasibleSet, chosen: Assignment) -> _Candidate:
    return _Candidate(space.total_violation(space.decoder.architecture(chosen)), chosen)


def _draw(space: FeasibleSet, rng: "Rng", patience: int) -> list[_Candidate]:
    """Draw candidates; return the first feasible one alone, or else all infeasible ones.

    Stop early if none of the first `patience` draws can be repaired.
    """
    candidates: list[_Candidate] = []
    for attempt in range(_DRAWS):
        chosen = repair(space.choice_tree, sample_assignment(space.choice_tree, rng), rng)
        if chosen is not None:
            candidates.append(_candidate(space, chosen))
            if not candidates[-1].violation:
                return candidates[-1:]
        elif attempt >= patience and not candidates:
            break
    return candidates


class _Buildable(dp.WitnessAlgebra):
    """Admits buildable blocks, with levels in random order."""

    def __init__(self, decoder: Decoder, rng: "Rng") -> None:
        self._decoder = decoder
        self._rng = rng

    def levels(self, axis: Axis, scope: Scope, chosen: Assignment) -> Sequence[Level]:  # noqa: ARG002
        levels = list(axis.levels)
        self._rng.shuffle(levels)
        return levels

    def admits(self, scope: Scope, chosen: Assignment) -> bool:
        if len(scope) < 2:
            return True
        try:
            self._decoder.block(scope, chosen)
        except ValueError:
            return False
        return True


def _search_buildable(space: FeasibleSet, rng: "Rng") -> list[_Candidate]:
    """Search for a buildable assignment within a limited number of steps."""
    try:
        chosen = dp.DynamicProgram(space.decoder, _Buildable(space.decoder, rng), _STEPS).solve()
    except dp.StepLimitError:
        return []
    if chosen is None or any(space.decoder.invalid_blocks(chosen)):
        return []
    return [_candidate(space, chosen)]


def _is_small(space: FeasibleSet) -> bool:
    counted = dp.count_points(space.decoder, 10 * _MAX_ENUMERATED)
    return counted is not None and counted[1] <= _MAX_ENUMERATED


def _buildable(space: FeasibleSet, assignments: Iterable[Assignment]) -> Iterator[_Candidate]:
    """Yield the buildable ones of these assignments."""
    for chosen in assignments:
        with suppress(UserError):
            yield _candidate(space, chosen)


def can_satisfy(
    space: FeasibleSet,
    starts: Iterable[Assignment],
    is_wanted: Callable[[Assignment], bool],
    rng: "Rng",
) -> bool:
    """Return whether a feasible assignment of a kind is found, starting from others of that kind.

    Args:
        space: the space.
        starts: buildable assignments.
        is_wanted: whether an assignment is of that kind.
        rng: generator of the order in which choices are changed.
    """
    candidates = [_candidate(space, chosen) for chosen in starts if is_wanted(chosen)]
    improved = _improve(space, candidates, rng, is_wanted)
    return any(not candidate.violation for candidate in improved)


def _improve(
    space: FeasibleSet,
    candidates: list[_Candidate],
    rng: "Rng",
    is_allowed: Callable[[Assignment], bool] = lambda _: True,
) -> list[_Candidate]:
    """Reduce the violation of the nearest candidates; stop at the first feasible one."""
    leads = sorted(candidates, key=lambda candidate: candidate.violation)[:_LEADS]
    budget = iter(range(_EVALUATIONS))
    improved: list[_Candidate] = []
    for lead in leads:
        improved.append(_descend(space, lead, budget, rng, is_allowed))
        if not improved[-1].violation:
            break
    return improved


def _descend(
    space: FeasibleSet,
    lead: _Candidate,
    budget: Iterator[int],
    rng: "Rng",
    is_allowed: Callable[[Assignment], bool],
) -> _Candidate:
    """Set each choice to its best level, in random order, until none improves."""
    while True:
        start = lead.violation
        choices = [choice for choice in space.choice_tree.choices if choice.key in lead.chosen]
        for index in range(len(choices), 0, -1):
            choice = choices.pop(random_index(rng, index))
            moves = [m for m in _moves(space, lead, choice, budget) if is_allowed(m.chosen)]
            lead = min([lead, *moves], key=lambda c: c.violation)
            if not lead.violation:
                return lead
        if lead.violation == start or next(budget, None) is None:
            return lead


def _moves(
    space: FeasibleSet, lead: _Candidate, choice: Choice, budget: Iterator[int]
) -> Iterator[_Candidate]:
    current = lead.chosen.get(choice.key)
    for level in choice.axis.levels if current else ():
        if level != current and next(budget, None) is not None:
            variations = space.choice_tree.variations(lead.chosen, choice, level)
            yield from islice(_buildable(space, islice(variations, _MAX_VARIATIONS)), 1)


def _explain_unbuildable(space: FeasibleSet, rng: "Rng") -> str:
    chosen = sample_assignment(space.choice_tree, rng)
    (stage, block), reason = next(space.decoder.invalid_blocks(chosen))
    return (
        "no network of this space could be built; for example, "
        f"stage {stage + 1}, block {block + 1}: {reason}"
    )


def _explain_infeasible(space: FeasibleSet, nearest: Assignment, *, exhaustive: bool) -> str:
    lines = space.constraints.violations(space.cost(space.decoder.architecture(nearest)))
    networks = "network of this space" if exhaustive else "sampled network"
    return (
        f"constraints: no {networks} satisfies them; the nearest has {'; '.join(lines)}. "
        "Relax the constraints, or add levels that satisfy them"
    )
