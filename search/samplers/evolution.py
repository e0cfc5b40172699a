"""Evolution: sources that propose a neighbour of a network that has done well."""

import random
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from partialnas.analysis.stats.dominance import non_dominated_ranks
from partialnas.search.samplers.base import (
    ObjectiveValues,
    PastProposal,
    Proposal,
    proposal_rng,
    sample_unseen,
)
from partialnas.search.study.sections import SearchSpec
from partialnas.search.study.study import Direction
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space


class Rankable(Protocol):
    """What networks are ranked by; see `Member`."""

    @property
    def number(self) -> int:
        """Of the proposal."""

    @property
    def losses(self) -> tuple[float, ...]:
        """Objectives, each so that less is better."""

    @property
    def violation(self) -> float:
        """How far it is beyond the study's limits."""


@dataclass(frozen=True)
class Member:
    """A proposal that has been told, and did not fail.

    Attributes:
        number: the ledger's number of the proposal.
        point: where in the space it is.
        losses: its objectives, each so that less is better.
        violation: how far it is beyond the study's limits; 0 where it satisfies them.
    """

    number: int
    point: Point
    losses: tuple[float, ...]
    violation: float


def to_losses(reached: ObjectiveValues, objectives: Mapping[str, Direction]) -> tuple[float, ...]:
    """What a network has reached in each objective, so that less is better."""
    return tuple(
        reached.values[name] if direction == "min" else -reached.values[name]
        for name, direction in objectives.items()
    )


def constrained_ranks(members: Sequence[Rankable]) -> list[int]:
    """The rank of each member, 0 for the best: by domination, and behind all of these by excess.

    Members that satisfy the limits come in fronts, as non-dominated sorting peels them off; the
    others come after, by how far they are beyond the limits (Deb's rules of feasibility).
    """
    within = np.array([member.violation == 0 for member in members], dtype=bool)
    losses = np.array([member.losses for member in members], dtype=float)
    ranks = np.zeros(len(members), dtype=int)
    last = -1
    if within.any():
        ranks[within] = non_dominated_ranks(losses[within])
        last = int(ranks[within].max())
    beyond = sorted({member.violation for member in members} - {0.0})
    for place, violation in enumerate(beyond, start=last + 1):
        ranks[[member.violation == violation for member in members]] = place
    return [int(rank) for rank in ranks]


def crowding_distances(losses: Sequence[tuple[float, ...]]) -> list[float]:
    """How far the neighbours of each point of one front are apart, infinite at its ends.

    The crowding distance of NSGA-II (Deb et al. 2002): over the objectives, the sum of the
    distances between the next points to either side, as shares of the front's extent.
    """
    points = np.array(losses, dtype=float)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if extent > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return [float(each) for each in distance]


class Evolution(ABC):
    """Mutates parents: each proposal is one change away from a network that has been told.

    Random networks come first, until as many as a population have been told without failing.
    Proposals that are still being trained do not count yet, neither as parents nor as told. A
    network that has been proposed is not proposed again: other neighbours of the parent are tried
    first, then those of other parents, then a random network; there are no more proposals when
    the space has no other.

    Who is a parent is decided by the numbers of what has been told, not by when it was told, so
    that a resumed search proposes what it would have proposed.
    """

    def __init__(self, space: Space, spec: SearchSpec, objectives: Mapping[str, Direction]) -> None:
        self._space = space
        self._spec = spec
        self._objectives = dict(objectives)
        self._points: dict[int, Point] = {}
        self._proposed: set[str] = set()
        self._told: dict[int, Member] = {}
        self._exhausted: set[int] = set()

    @abstractmethod
    def iter_parents(self, told: Sequence[Member], rng: random.Random) -> Iterator[Member]:
        """Whose neighbours are proposed, in the order in which they are tried.

        Args:
            told: by number, all that have been told; at least a population.
            rng: the randomness of this proposal.
        """

    def ask(self, number: int) -> Proposal | None:
        """A neighbour of a parent, or a random network while there are few to choose from."""
        rng = proposal_rng(self._spec.seed, number)
        told = [self._told[each] for each in sorted(self._told)]
        if len(told) >= self._spec.population:
            for parent in self.iter_parents(told, rng):
                point = self._child(parent, number)
                if point is not None:
                    return self._proposal(number, point, parent.number)
        return self._random(number, rng, self._proposed)

    def _child(self, parent: Member, number: int) -> Point | None:
        """A neighbour of a parent that has not been proposed yet; None where there is none."""
        if parent.number in self._exhausted:
            return None
        # its own randomness, so that which parents are passed over leaves the others as they are
        rng = proposal_rng(self._spec.seed, number, parent.number)
        for point in self._space.neighbors(parent.point, rng):
            if self._space.architecture(point).digest not in self._proposed:
                return point
        self._exhausted.add(parent.number)
        return None

    def explore(self, number: int, known: Container[str]) -> Proposal | None:
        """A random network that is not known yet; in a small space, any that is left."""
        return self._random(number, proposal_rng(self._spec.seed, number), known)

    def _random(self, number: int, rng: random.Random, known: Container[str]) -> Proposal | None:
        point = sample_unseen(self._space, rng, known)
        return None if point is None else self._proposal(number, point, None)

    def _proposal(self, number: int, point: Point, parent: int | None) -> Proposal:
        architecture = self._space.architecture(point)
        self._points[number] = point
        self._proposed.add(architecture.digest)
        return Proposal(architecture, {"point": dict(point), "parent": parent})

    def tell(self, number: int, reached: ObjectiveValues | None) -> None:
        """What a proposal reached makes it a possible parent; one that failed never is."""
        point = self._points.pop(number)
        if reached is None:
            return
        losses = to_losses(reached, self._objectives)
        self._told[number] = Member(number, point, losses, reached.violation)

    def rebuild(self, history: Sequence[PastProposal]) -> None:
        """Take up the proposals of earlier sittings."""
        for each in history:
            point = Point(each.note["point"])
            self._points[each.number] = point
            self._proposed.add(each.digest or self._space.architecture(point).digest)
            if not each.is_open:
                self.tell(each.number, each.result)


class AgingEvolution(Evolution):
    """Regularised evolution (Real et al. 2019): the best of a few from a population that ages.

    The population are the latest proposals that have been told. Some of them, drawn at random,
    meet in a tournament, and a neighbour of its winner is proposed. The winner is the one of the
    lowest rank in the population (see `ranked`), among equals the one that stands most alone on
    its front, then a random one.
    """

    def iter_parents(self, told: Sequence[Member], rng: random.Random) -> Iterator[Member]:
        """The winners of a tournament, from the first to the last, then the rest at random."""
        population = list(told[-self._spec.population :])
        place = rank_and_crowding(population)
        rng.shuffle(population)
        entrants = population[: self._spec.tournament_size]
        yield from sorted(entrants, key=lambda member: place[member.number])
        yield from population[self._spec.tournament_size :]


class FrontEvolution(Evolution):
    """Evolution of the front: a neighbour of any network that no other has surpassed so far.

    Where all neighbours of the front are known, those of what lies behind it are proposed, front by
    front (see `ranked`).
    """

    def iter_parents(self, told: Sequence[Member], rng: random.Random) -> Iterator[Member]:
        """The members of the front in random order, then those of the front behind it."""
        ranks = {
            member.number: rank for member, rank in zip(told, constrained_ranks(told), strict=True)
        }
        shuffled = rng.sample(list(told), len(told))
        yield from sorted(shuffled, key=lambda member: ranks[member.number])


def rank_and_crowding(population: Sequence[Rankable]) -> dict[int, tuple[int, float]]:
    """By number of each member its rank, then how crowded it is on its front; lower is better."""
    fronts: dict[int, list[Rankable]] = {}
    for member, rank in zip(population, constrained_ranks(population), strict=True):
        fronts.setdefault(rank, []).append(member)
    return {
        member.number: (rank, -distance)
        for rank, front in fronts.items()
        for member, distance in zip(
            front, crowding_distances([m.losses for m in front]), strict=True
        )
    }
