"""Evolutionary samplers: parents, proposals, and their front against brute force."""

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.config.quantities import Direction
from partialnas.search.samplers.base import ObjectiveValues, Proposal, ProposalSource
from partialnas.search.samplers.evolution import (
    AgingEvolution,
    Evolution,
    FrontEvolution,
    Member,
    constrained_ranks,
    crowding_distances,
)
from partialnas.search.samplers.optuna_sampler import OptunaSource
from partialnas.search.study.sections import SearchSpec
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space

EVOLUTIONS = (AgingEvolution, FrontEvolution)
TWO: dict[str, Direction] = {"error": "min", "speed": "max"}


@cache
def space() -> Space:
    """160 networks."""
    data = {
        "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1]},
        "space": {
            "axes": {
                "width": [8, 10, 12, 14, 16, 18, 20, 22, 24, 26],
                "parts": [2, 3],
                "mlp_ratio": [1, 2, 3, 4],
                "pat_sp": [False, True],
            }
        },
    }
    return Space.from_data(data, InputSpec.square(8, 1, 10))


def spec(**changes: Any) -> SearchSpec:
    return SearchSpec.model_validate({"sampler": "evolution", "population": 8, **changes})


def member(number: int, losses: Sequence[float], violation: float = 0.0) -> Member:
    result = ObjectiveValues({}, {"limit": violation})
    return Member(number, tuple(losses), result, Point({}))


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


losses = st.tuples(st.integers(0, 4).map(float), st.integers(0, 4).map(float))


@given(st.lists(st.tuples(losses, st.sampled_from([0.0, 0.0, 0.5, 2.0])), min_size=1, max_size=12))
def test_ranks_follow_non_dominated_sorting_then_violation(
    drawn: list[tuple[tuple[float, float], float]],
) -> None:
    members = [member(i, point, violation) for i, (point, violation) in enumerate(drawn)]
    expected: dict[int, int] = {}
    left, rank = [item for item in members if not item.violation], 0
    while left:
        front = [a for a in left if not any(dominates(b.losses, a.losses) for b in left)]
        expected |= {item.number: rank for item in front}
        left = [item for item in left if item not in front]
        rank += 1
    for violation in sorted({item.violation for item in members} - {0.0}):
        expected |= {item.number: rank for item in members if item.violation == violation}
        rank += 1
    assert constrained_ranks(members) == [expected[item.number] for item in members]


def test_crowding_distance_follows_its_publication() -> None:
    # by hand: extents 4 and 4; the second lies between neighbors 3 and 3 apart, the third too
    points = [(0.0, 4.0), (1.0, 2.0), (3.0, 1.0), (4.0, 0.0)]
    assert crowding_distances(points) == [np.inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf]
    assert crowding_distances([(1.0, 1.0)]) == [np.inf]
    assert crowding_distances([(1.0,)] * 3) == [np.inf, 0.0, np.inf]


def reached(architecture: Architecture) -> ObjectiveValues | None:
    """A smooth objective with a front over all widths; one network in seven fails."""
    width = architecture.widths[0]
    if int(architecture.digest, 16) % 7 == 0:
        return None
    noise = int(architecture.digest[:4], 16) / 0x10000
    return ObjectiveValues({"error": 30.0 / width + noise, "speed": 100.0 / width - noise})


def propose(of: ProposalSource, number: int) -> Proposal:
    proposal = of.ask(number)
    assert proposal is not None
    return proposal


@pytest.mark.parametrize("evolution", EVOLUTIONS)
def test_proposals_are_one_change_away_from_a_parent_with_a_result(
    evolution: type[Evolution],
) -> None:
    of, where, rng = evolution(space(), spec(), TWO), space(), random.Random(0)
    proposals: dict[int, Proposal] = {}
    pending, ended = [], []
    for number in range(1, 61):
        proposal = proposals[number] = propose(of, number)
        parent = proposal.note["parent"]
        if len(ended) < 8:
            assert parent is None
        if parent is not None:
            assert parent in ended
            near = {dict_of(item) for item in where.neighbors(proposals[parent].note["point"])}
            assert dict_of(proposal.note["point"]) in near
            if evolution is AgingEvolution:
                assert parent in sorted(ended)[-8:]
        pending.append(number)
        while len(pending) > 3:
            one = pending.pop(rng.randrange(len(pending)))
            found = reached(proposals[one].architecture)
            of.tell(one, found)
            if found is not None:
                ended.append(one)
    digests = [item.architecture.digest for item in proposals.values()]
    assert len(set(digests)) == len(digests)
    assert sum(item.note["parent"] is not None for item in proposals.values()) > 30


def dict_of(point: Any) -> frozenset[Any]:
    return frozenset(dict(point).items())


def test_a_parent_on_the_front_is_never_dominated() -> None:
    of = FrontEvolution(space(), spec(), TWO)
    found: dict[int, ObjectiveValues] = {}
    for number in range(1, 41):
        proposal = propose(of, number)
        parent = proposal.note["parent"]
        if parent is not None:
            points = [(r.values["error"], -r.values["speed"]) for r in found.values()]
            mine = found[parent].values
            assert not any(dominates(item, (mine["error"], -mine["speed"])) for item in points)
        result = reached(proposal.architecture)
        of.tell(number, result)
        if result is not None:
            found[number] = result


def test_the_best_member_wins_the_tournament() -> None:
    members = [member(number, [float((7 * number) % 31)]) for number in range(1, 31)]
    of = AgingEvolution(space(), spec(population=8, tournament=8), {"error": "min"})
    best = min(members[-8:], key=lambda item: item.losses)
    assert all(next(of.iter_parents(members, random.Random(s))) == best for s in range(20))
    pairs = AgingEvolution(space(), spec(population=8, tournament=2), {"error": "min"})
    winners = [next(pairs.iter_parents(members, random.Random(s))).number for s in range(2000)]
    # with two draws without replacement, the worst of 8 never wins and the best wins with 2/8
    worst = max(members[-8:], key=lambda item: item.losses)
    assert worst.number not in winners
    assert abs(winners.count(best.number) / 2000 - 2 / 8) < 0.04


@pytest.mark.parametrize("evolution", EVOLUTIONS)
def test_infeasible_members_are_parents_only_without_feasible_ones(
    evolution: type[Evolution],
) -> None:
    beyond = [member(number, [0.0, 0.0], violation=number / 10) for number in range(1, 8)]
    of = evolution(space(), spec(tournament=8), TWO)
    for seed in range(10):
        rng = random.Random(seed)
        assert next(of.iter_parents([*beyond, member(8, [9.0, 9.0])], rng)).number == 8
        assert next(of.iter_parents([*beyond, member(8, [9.0, 9.0], 5.0)], rng)).number == 1


@pytest.mark.parametrize("evolution", EVOLUTIONS)
def test_an_evolution_proposes_every_network_once_then_ends(evolution: type[Evolution]) -> None:
    of = evolution(space(), spec(), TWO)
    digests = []
    for number in range(1, 1000):
        if (proposal := of.ask(number)) is None:
            break
        digests.append(proposal.architecture.digest)
        of.tell(number, reached(proposal.architecture))
    assert len(digests) == len(set(digests)) == len(space().enumerate())


def front_of(architectures: Sequence[Architecture]) -> frozenset[str]:
    points = {
        item.digest: (found.values["error"], -found.values["speed"])
        for item in architectures
        if (found := landscape(item)) is not None
    }
    front = [d for d, p in points.items() if not any(dominates(q, p) for q in points.values())]
    return frozenset(front)


@cache
def known_front() -> frozenset[str]:
    wanted = front_of([space().architecture(point) for point in space().enumerate()])
    assert len(wanted) > 5
    return wanted


@cache
def landscape(architecture: Architecture) -> ObjectiveValues:
    """A trade-off between cost and accuracy; parts and attention only add cost."""
    where = space()
    spent = where.cost(architecture)
    width = architecture.widths[0]
    used = 8 * sum(width * 2**stage for stage in range(4)) / spent.params
    return ObjectiveValues({"error": 20.0 / width + 1 - used, "speed": -float(spent.params)})


def trials_until_front(of: ProposalSource, share: float) -> int:
    wanted = known_front()
    missing, allowed = {*wanted}, len(wanted) * (1 - share)
    for number in range(1, 400):
        proposal = propose(of, number)
        missing.discard(proposal.architecture.digest)
        if len(missing) <= allowed:
            return number
        of.tell(number, landscape(proposal.architecture))
    return 400


@pytest.mark.slow
@pytest.mark.parametrize("evolution", EVOLUTIONS)
def test_an_evolution_finds_the_known_front_with_fewer_trials_than_random_draws(
    evolution: type[Evolution],
) -> None:
    evolved = [trials_until_front(evolution(space(), spec(seed=s), TWO), 0.8) for s in range(20)]
    assert np.median(evolved) < 0.8 * np.median(trials_of_random_draws())


@cache
def trials_of_random_draws() -> list[int]:
    draws = (OptunaSource(space(), spec(sampler="random", seed=s), TWO) for s in range(20))
    return [trials_until_front(source, 0.8) for source in draws]
