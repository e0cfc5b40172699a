"""Size of a space: number of points, combinations and distinct networks."""

import math
import random
from dataclasses import dataclass, replace
from decimal import Decimal

from partialnas.space.axes.decoder import Assignment
from partialnas.space.search_space.dynamic_programming import count_points
from partialnas.space.search_space.feasible import FeasibleSet
from partialnas.space.search_space.sampling import repair, sample_assignment

MAX_ENUMERATED = 1000
"""Largest number of combinations that are enumerated to count distinct networks."""

_DRAWS = 256
_MAX_FAILURES = 10


@dataclass(frozen=True)
class SpaceSize:
    """Size of a space.

    Attributes:
        points: number of feasible points.
        combinations: number of combinations of levels, infeasible ones included.
        networks: number of distinct networks (by digest), or None if they were not enumerated.
        exact: whether `points` is a count rather than an estimate.
        error: relative standard error of an estimate.
        unconstrained: number of points without the stated constraints, or None if none are stated
            or they cannot be counted.
    """

    points: int
    combinations: int
    networks: int | None = None
    exact: bool = True
    error: float = 0.0
    unconstrained: int | None = None

    def text(self, constraints: str) -> str:
        """Return the size as text, with the number of points that the constraints leave.

        Args:
            constraints: the constraints as text.
        """
        if self.unconstrained is None or not (self.exact or self.points):
            return str(self)
        points, _, networks = str(self).partition(" points")
        return f"{_number(self.unconstrained)} points, {points} within {constraints}{networks}"

    def __str__(self) -> str:
        if not self.exact and not self.points:
            return "unknown: none of the sampled combinations is in the space"
        if not self.exact:
            return f"about {Decimal(self.points):.2g} points (estimated, ±{self.error:.0%})"
        if self.networks is None:
            return f"{_number(self.points)} points, at most as many distinct networks"
        return f"{_number(self.points)} points, {_number(self.networks)} distinct networks"


def _number(count: int) -> str:
    return f"{count:,}" if count < 10**9 else f"{Decimal(count):.3g}"


def space_size(space: FeasibleSet) -> SpaceSize:
    """Return the size of a space: counted, enumerated if small, or else estimated."""
    counted = count_points(space.decoder)
    if counted and not space.constrained and counted[1] > MAX_ENUMERATED:
        return SpaceSize(counted[0], counted[1])
    is_small = counted is not None and counted[1] <= MAX_ENUMERATED
    size = _enumerated(space, counted[1]) if counted and is_small else _estimated(space, counted)
    if counted and any(space.constraints.stated()):
        return replace(size, unconstrained=counted[0])
    return size


def _enumerated(space: FeasibleSet, combinations: int) -> SpaceSize:
    digests = [
        architecture.digest
        for chosen in space.choice_tree.enumerate_assignments(lambda choice, _: choice.axis.levels)
        if (architecture := space.feasible_architecture(chosen)) is not None
    ]
    return SpaceSize(len(digests), combinations, len(set(digests)))


def _estimated(space: FeasibleSet, counted: tuple[int, int] | None) -> SpaceSize:
    """Estimate the size from random combinations, weighted by inverse probability (Knuth 1975).

    If the buildable combinations are counted, only the feasible share of them is estimated; its
    error uses Kish's effective sample size, with one hit and one miss added.
    """
    rng = random.Random(0)
    draws = (sample_assignment(space.choice_tree, rng) for _ in range(_DRAWS))
    sample = _sample_buildable(space, rng) if counted else [*draws]
    weights = [math.prod(len(space.decoder.axes[name].levels) for name, _ in one) for one in sample]
    pairs = zip(weights, sample, strict=True)
    hits = [weight if space.feasible_architecture(one) else 0 for weight, one in pairs]
    total, hit = sum(weights), sum(hits)
    if not hit:
        return SpaceSize(0, counted[1] if counted else total // _DRAWS, exact=False)
    if counted is None:
        error = math.sqrt(sum((h / hit - 1 / _DRAWS) ** 2 for h in hits))
        return SpaceSize(hit // _DRAWS, total // _DRAWS, exact=False, error=error)
    share = hit / total
    effective = total**2 / sum(w**2 for w in weights)
    cautious = (share * effective + 1) / (effective + 2)
    error = math.sqrt((1 - cautious) / (cautious * effective))
    return SpaceSize(counted[0] * hit // total, counted[1], exact=False, error=error)


def _sample_buildable(space: FeasibleSet, rng: random.Random) -> list[Assignment]:
    """Return random buildable combinations, fewer of them if these are hard to find."""
    buildable: list[Assignment] = []
    failures = 0
    while len(buildable) < _DRAWS and failures < _MAX_FAILURES:
        chosen = repair(space.choice_tree, sample_assignment(space.choice_tree, rng), rng)
        if chosen is None:
            failures += 1
        else:
            buildable.append(chosen)
    return buildable
