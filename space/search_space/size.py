"""Sizes of spaces: how many ways of choosing there are, and how many distinct networks."""

import math
import random
from dataclasses import dataclass
from decimal import Decimal

from partialnas.space.axes.decoder import Assignment
from partialnas.space.search_space.dynamic_programming import count_points
from partialnas.space.search_space.feasible import FeasibleSet
from partialnas.space.search_space.sampling import repair, sample_assignment

ENUMERATED = 1000
"""Up to so many combinations are enumerated to count distinct networks."""

_DRAWS = 256
_FAILURES = 10


@dataclass(frozen=True)
class SpaceSize:
    """How large a space is.

    Attributes:
        points: ways of choosing that are in the space: buildable, within the constraints.
        combinations: ways of choosing before both are asked.
        networks: distinct networks among them (by digest), where they were enumerated; there are
            never more than `points`.
        exact: whether `points` was counted; else it is an estimate.
        error: relative standard error of an estimate.
    """

    points: int
    combinations: int
    networks: int | None = None
    exact: bool = True
    error: float = 0.0

    def __str__(self) -> str:
        if not self.exact and not self.points:
            return "unknown: none of many random combinations is in the space"
        if not self.exact:
            return f"about {Decimal(self.points):.2g} points (estimated, ±{self.error:.0%})"
        if self.networks is None:
            return f"{_number(self.points)} points, at most as many distinct networks"
        return f"{_number(self.points)} points, {_number(self.networks)} distinct networks"


def _number(count: int) -> str:
    return f"{count:,}" if count < 10**9 else f"{Decimal(count):.3g}"


def space_size(space: FeasibleSet) -> SpaceSize:
    """The size of a space: counted by recursion, enumerated if small, or else estimated."""
    counted = count_points(space.decoder)
    if counted and counted[1] <= ENUMERATED:
        return _enumerated(space, counted[1])
    if counted and not space.constrained:
        return SpaceSize(counted[0], counted[1])
    return _estimated(space, counted)


def _enumerated(space: FeasibleSet, combinations: int) -> SpaceSize:
    digests = [
        architecture.digest
        for chosen in space.choice_tree.enumerate_assignments(lambda choice, _: choice.axis.levels)
        if (architecture := space.feasible_architecture(chosen)) is not None
    ]
    return SpaceSize(len(digests), combinations, len(set(digests)))


def _estimated(space: FeasibleSet, counted: tuple[int, int] | None) -> SpaceSize:
    """From random ways of choosing, each weighed by the ways that it stands for (Knuth 1975).

    Where the buildable ways are counted, only the share of them within the constraints is open;
    its error is that of as many equal draws as these weigh (Kish), a hit and a miss added.
    """
    rng = random.Random(0)
    drawn = (
        _buildable(space, rng)
        if counted
        else [sample_assignment(space.choice_tree, rng) for _ in range(_DRAWS)]
    )
    weights = [math.prod(len(space.decoder.axes[name].levels) for name, _ in one) for one in drawn]
    hits = [w if space.feasible_architecture(one) else 0 for w, one in zip(weights, drawn, strict=True)]
    weight, hit = sum(weights), sum(hits)
    if not hit:
        return SpaceSize(0, counted[1] if counted else weight // _DRAWS, exact=False)
    if counted is None:
        error = math.sqrt(sum((h / hit - 1 / _DRAWS) ** 2 for h in hits))
        return SpaceSize(hit // _DRAWS, weight // _DRAWS, exact=False, error=error)
    share = hit / weight
    effective = weight**2 / sum(w**2 for w in weights)
    cautious = (share * effective + 1) / (effective + 2)
    error = math.sqrt((1 - cautious) / (cautious * effective))
    return SpaceSize(counted[0] * hit // weight, counted[1], exact=False, error=error)


def _buildable(space: FeasibleSet, rng: random.Random) -> list[Assignment]:
    """Random ways of choosing that can be built, fewer of them where these are hard to find."""
    found: list[Assignment] = []
    failures = 0
    while len(found) < _DRAWS and failures < _FAILURES:
        chosen = repair(space.choice_tree, sample_assignment(space.choice_tree, rng), rng)
        if chosen is None:
            failures += 1
        else:
            found.append(chosen)
    return found
