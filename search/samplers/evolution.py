"""Evolutionary samplers: propose neighbors of good networks."""

import random
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from partialnas.analysis.stats.dominance import non_dominated_ranks
from partialnas.runs.config.quantities import Direction
from partialnas.search.samplers import base
from partialnas.search.study.sections import SearchSpec
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space


@dataclass(frozen=True)
class Rankable:
    """The result of a proposal as `constrained_ranks` sees it.

    Attributes:
        number: the ledger's number of the proposal.
        losses: objective values with all directions turned to minimization.
        result: the result.
    """

    number: int
    losses: tuple[float, ...]
    result: base.ObjectiveValues

    @property
    def violation(self) -> float:
        """Sum of all violations of limits at present; 0 if it satisfies them."""
        return self.result.violation


@dataclass(frozen=True)
class Member(Rankable):
    """A proposal with a result.

    Attributes:
        point: the proposal's point in the space.
    """

    point: Point


def to_losses(
    result: base.ObjectiveValues, objectives: Mapping[str, Direction]
) -> tuple[float, ...]:
    """Return objective values with all directions turned to minimization."""
    return tuple(
        result.values[name] if direction == "min" else -result.values[name]
        for name, direction in objectives.items()
    )


def constrained_ranks(members: Sequence[Rankable]) -> list[int]:
    """Return the rank of each member, 0 for the best.

    Feasible members are ranked by non-dominated sorting. Infeasible ones follow, ranked by their
    violation (constrained domination, Deb et al. 2002).
    """
    violations = np.array([member.violation for member in members], dtype=float)
    losses = np.array([member.losses for member in members], dtype=float)
    feasible = violations == 0
    ranks = np.zeros(len(members), dtype=int)
    num_feasible_ranks = 0
    if feasible.any():
        ranks[feasible] = non_dominated_ranks(losses[feasible])
        num_feasible_ranks = int(ranks[feasible].max()) + 1
    if not feasible.all():
        order = np.unique(violations[~feasible], return_inverse=True)[1]
        ranks[~feasible] = num_feasible_ranks + order
    return [int(rank) for rank in ranks]


def crowding_distances(losses: Sequence[tuple[float, ...]]) -> list[float]:
    """Return the crowding distance of each point of one front (NSGA-II, Deb et al. 2002).

    It is the sum over objectives of the distance between the two adjacent points, relative to the
    front's extent, and infinite at the ends of the front.
    """
    points = np.array(losses, dtype=float)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if extent > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return [float(d) for d in distance]


class Evolution(ABC):
    """Propose mutations: each proposal is one change away from a network with a result.

    Proposals are random until as many as a population have results. Proposals in training do not
    count yet. No network is proposed twice: other neighbors of the parent are tried first, then
    neighbors of other parents, then a random network. The search ends when the space has no unseen
    network.

    Parents are chosen by proposal number and not by the time of the result, so a resumed search
    makes the same proposals.
    """

    def __init__(self, space: Space, spec: SearchSpec, objectives: Mapping[str, Direction]) -> None:
        self._space = space
        self._spec = spec
        self._objectives = dict(objectives)
        self._points: dict[int, Point] = {}
        self._proposed: set[str] = set()
        self._members: dict[int, Member] = {}
        self._exhausted: set[int] = set()

    @abstractmethod
    def iter_parents(self, members: Sequence[Member], rng: random.Random) -> Iterator[Member]:
        """Yield parents in the order in which their neighbors are tried.

        Args:
            members: all proposals with results, by number; at least a population.
            rng: random generator of this proposal.
        """

    def ask(self, number: int) -> base.Proposal | None:
        """Return a neighbor of a parent, or a random network while the population is small."""
        rng = base.proposal_rng(self._spec.seed, number)
        members = self.members
        if len(members) >= self._spec.population:
            for parent in self.iter_parents(members, rng):
                if (point := self._child(parent, number)) is not None:
                    return self._proposal(number, point, parent.number)
        return self._random(number, rng, self._proposed)

    @property
    def members(self) -> list[Member]:
        """All proposals with results, by number."""
        return [self._members[number] for number in sorted(self._members)]

    def _child(self, parent: Member, number: int) -> Point | None:
        """Return an unseen neighbor of a parent, or None if there is none."""
        if parent.number in self._exhausted:
            return None
        # a generator per parent: skipping one parent does not change the neighbors of others
        rng = base.proposal_rng(self._spec.seed, number, parent.number)
        for point in self._space.neighbors(parent.point, rng):
            if self._space.architecture(point).digest not in self._proposed:
                return point
        self._exhausted.add(parent.number)
        return None

    def explore(self, number: int, seen: Container[str]) -> base.Proposal | None:
        """Return an unseen network: a random one, or any that is left in a small space."""
        return self._random(number, base.proposal_rng(self._spec.seed, number), seen)

    def _random(
        self, number: int, rng: random.Random, seen: Container[str]
    ) -> base.Proposal | None:
        point = base.sample_unseen(self._space, rng, seen)
        return None if point is None else self._proposal(number, point, None)

    def _proposal(self, number: int, point: Point, parent: int | None) -> base.Proposal:
        architecture = self._space.architecture(point)
        self._points[number] = point
        self._proposed.add(architecture.digest)
        return base.Proposal(architecture, {"point": dict(point), "parent": parent})

    def tell(self, number: int, result: base.ObjectiveValues | None) -> None:
        """Add a proposal with a result to the possible parents; drop a failed one."""
        point = self._points.pop(number)
        if result is None:
            return
        losses = to_losses(result, self._objectives)
        self._members[number] = Member(number, losses, result, point)

    def rebuild(self, history: Sequence[base.PastProposal]) -> None:
        """Restore the proposals of earlier sessions."""
        for past in history:
            point = Point(past.note["point"])
            self._points[past.number] = point
            self._proposed.add(past.digest or self._space.architecture(point).digest)
            if not past.is_open:
                self.tell(past.number, past.result)


class AgingEvolution(Evolution):
    """Regularized evolution (Real et al. 2019): tournaments in an aging population.

    The population consists of the latest proposals with results. A neighbor of the winner of a
    random tournament is proposed. The winner has the lowest rank in the population (see
    `constrained_ranks`); ties are broken by crowding distance, then at random.
    """

    def iter_parents(self, members: Sequence[Member], rng: random.Random) -> Iterator[Member]:
        """Yield the members of a tournament, best first, then the other members at random."""
        population = list(members[-self._spec.population :])
        places = rank_and_crowding(population)
        rng.shuffle(population)
        tournament = population[: self._spec.tournament_size]
        yield from sorted(tournament, key=lambda member: places[member.number])
        yield from population[self._spec.tournament_size :]


class FrontEvolution(Evolution):
    """Evolution of the front: propose a neighbor of any non-dominated network.

    If all neighbors of the front are known, neighbors of the next fronts follow (see
    `constrained_ranks`).
    """

    def iter_parents(self, members: Sequence[Member], rng: random.Random) -> Iterator[Member]:
        """Yield the members of the front in random order, then those of the next fronts."""
        pairs = zip(members, constrained_ranks(members), strict=True)
        ranks = {member.number: rank for member, rank in pairs}
        shuffled = rng.sample(list(members), len(members))
        yield from sorted(shuffled, key=lambda member: ranks[member.number])


def rank_and_crowding(population: Sequence[Rankable]) -> dict[int, tuple[int, float]]:
    """Return rank and negative crowding distance by member number; lower is better."""
    fronts: dict[int, list[Rankable]] = {}
    for member, rank in zip(population, constrained_ranks(population), strict=True):
        fronts.setdefault(rank, []).append(member)
    places = {}
    for rank, front in fronts.items():
        distances = crowding_distances([member.losses for member in front])
        for member, distance in zip(front, distances, strict=True):
            places[member.number] = rank, -distance
    return places
