"""The hybrid: an even start, then the networks near the front that a model expects most of."""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import qmc

from partialnas.analysis.stats.dominance import non_dominated
from partialnas.analysis.stats.gaussian_process import (
    ChoiceEncoder,
    Hyperparameters,
    Posterior,
    fit_hyperparameters,
    nonzero_std,
)
from partialnas.search.samplers.base import ObjectiveValues, Proposal, proposal_rng
from partialnas.search.samplers.evolution import FrontEvolution, Member, constrained_ranks
from partialnas.search.samplers.hypervolume_improvement import hypervolume_improvement
from partialnas.search.study.sections import SearchSpec
from partialnas.search.study.study import Direction
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space

Array = NDArray[np.float64]
Hope = Callable[[Sequence[Point]], Array]
Value = Callable[[Member], float]

_START = 10
"""Networks that are told before the model is asked; fewer where a population is smaller."""

_MUTATE_EVERY = 4
"""Of so many proposals one is a neighbour of the front that no model has chosen."""

_NEAR, _FAR = 64, 8
"""Neighbours of the front, and random networks, of which the model says what it expects."""

_CLIMBS, _BEST, _AROUND = 3, 2, 20
"""So often at most, as drawn for each proposal, neighbours of the best so far are looked at too:
steps lead far where the model is right, and none stays near the front where it is not."""

_FEWEST = 5
"""Networks whose neighbours are looked at, however short the front is."""

_MARGINS = 0.1, 3.0
"""How far beyond the front's ends a network still improves it, at least and at most, in extents of
the front: drawn for each proposal, so that gaps of the front and what lies beyond it both count."""

_HOPEFUL, _OPTIMISM = 0.5, 0.5
"""The share of proposals that hope for more than the model expects, and for how many of its
deviations more: so many times a normal draw. The others take it at its word."""

_GROWTH = 1.2
"""The model's scales are fitted anew when so many times as many networks are known."""

_MOST_KNOWN = 300
"""Networks that the model learns from: the best, by rank."""


class SurrogateSearch(FrontEvolution):
    """Proposes what a model of the networks told so far expects to improve the front most.

    The first proposals are spread evenly over the choices (a scrambled Sobol sequence). Then one
    Gaussian process for each objective says what neighbours of the front and some random networks
    may reach; every other proposal, by chance, hopes for more. Proposed is the one that would
    enlarge the hypervolume most, after some steps from neighbour to neighbour; every fourth time a
    neighbour of the front by chance, as a model may be wrong. What is being trained counts as
    reaching what the model expects, what has failed as the worst known. Limits count by the
    probability that a network is within them all. No network is proposed twice; where the model has
    none to propose, a neighbour of the front is (see `FrontEvolution`).
    """

    def __init__(self, space: Space, spec: SearchSpec, objectives: Mapping[str, Direction]) -> None:
        super().__init__(space, spec, objectives)
        self._embed = ChoiceEncoder(space.choices)
        self._failed: dict[int, Point] = {}
        self._excess: dict[int, Mapping[str, float]] = {}
        self._codes: dict[Point, tuple[float, ...]] = {}
        self._scales: dict[str, tuple[tuple[int, ...], Hyperparameters]] = {}

    def ask(self, number: int) -> Proposal | None:
        """The next of an even start, or what the model expects most of."""
        rng = proposal_rng(self._spec.seed, number)
        told = [self._told[each] for each in sorted(self._told)]
        if len(told) < min(_START, self._spec.population):
            return self._even(number, rng)
        if number % _MUTATE_EVERY == 0:
            return super().ask(number)
        points = self._near(told, rng)
        hope = self._hope(told, rng)
        hopes = hope(points)
        for _ in range(rng.randint(0, _CLIMBS)):
            best = [points[each] for each in np.argsort(-hopes, kind="stable")[:_BEST]]
            further = self._around(best, points, rng)
            if not further:
                break
            points += further
            hopes = np.append(hopes, hope(further))
        for each in np.argsort(-hopes, kind="stable"):
            if self._is_new(points[each]):
                return self._proposal(number, points[each], None)
        return super().ask(number)

    def tell(self, number: int, reached: ObjectiveValues | None) -> None:
        """What a proposal reached; also of one that failed the model learns."""
        if reached is None:
            self._failed[number] = self._points[number]
        else:
            self._excess[number] = reached.excess
        super().tell(number, reached)

    def _even(self, number: int, rng: random.Random) -> Proposal | None:
        """The point of a Sobol sequence; a random one where that is not in the space, or known."""
        choices = self._space.choices
        sequence = qmc.Sobol(len(choices), rng=self._spec.seed).fast_forward(number)
        shares = sequence.random()[0]
        levels = [len(choice.labels) for choice in choices]
        code = [int(share * of) for share, of in zip(shares, levels, strict=True)]
        point = self._space.decode(code)
        if self._space.contains(point) and self._is_new(point):
            return self._proposal(number, point, None)
        return self._random(number, rng, self._proposed)

    def _is_new(self, point: Point) -> bool:
        return self._space.architecture(point).digest not in self._proposed

    # Where the model looks.

    def _near(self, told: Sequence[Member], rng: random.Random) -> list[Point]:
        """Neighbours of the best networks, as many of each, and random points."""
        front = min(max(constrained_ranks(told).count(0), _FEWEST), _NEAR // 2)
        parents = [*islice(self.iter_parents(told, rng), front)]
        share = _NEAR // len(parents)
        found: dict[Point, None] = {}
        for member in parents:
            found |= dict.fromkeys(islice(self._space.neighbors(member.point, rng), share))
        return [*found | dict.fromkeys(self._space.sample(rng) for _ in range(_FAR))]

    def _around(
        self, best: Sequence[Point], known: Sequence[Point], rng: random.Random
    ) -> list[Point]:
        """Neighbours of the best points that are not known."""
        seen = dict.fromkeys(known)
        found = (islice(self._space.neighbors(point, rng), _AROUND) for point in best)
        return [*dict.fromkeys(p for points in found for p in points if p not in seen)]

    # What the model expects.

    def _hope(self, told: Sequence[Member], rng: random.Random) -> Hope:
        """By how much points may improve the front, in extents of the front."""
        drawn = _OPTIMISM * abs(rng.gauss(0, 1))
        optimism = drawn if rng.random() < _HOPEFUL else 0.0
        models = [
            self._model(name, told, partial(_loss, at), fails=True)
            for at, name in enumerate(self._objectives)
        ]
        limits = self._limits(told)
        losses = np.array([member.losses for member in told])
        within = np.array([member.violation == 0 for member in told])
        front = losses[within] if within.any() else losses
        front = front[non_dominated(front, keep_duplicates=False)]
        low, high = front.min(axis=0), front.max(axis=0)
        extent = np.where(high > low, high - low, nonzero_std(losses))
        least, most = _MARGINS
        reference = (high - low) / extent + least * (most / least) ** rng.random()

        def hope(points: Sequence[Point]) -> Array:
            features = self._features(points)
            expected = [model.predict(features) for model in models]
            best = np.stack([mean - optimism * deviation for mean, deviation in expected], axis=1)
            scaled, steps = (best - low) / extent, (front - low) / extent
            gains = hypervolume_improvement(steps, scaled, reference) if within.any() else 1.0
            chance = np.ones(len(points))
            for limit in limits:
                excess, deviation = limit.predict(features)
                chance *= ndtr(-excess / deviation)
            # where nothing is gained, what comes nearest to the front goes first
            short = (scaled[:, None] - steps).max(axis=2).min(axis=1)
            value: Array = gains * chance - 1e-3 * np.maximum(short, 0.0)
            return value

        return hope

    def _limits(self, told: Sequence[Member]) -> list[Posterior]:
        """A model of the excess of each limit that some network is beyond."""
        names = dict.fromkeys(name for m in told for name in self._excess[m.number])
        return [
            self._model(f"limit {name}", told, partial(self._beyond, name), fails=False)
            for name in names
            if any(self._beyond(name, member) > 0 for member in told)
        ]

    def _beyond(self, name: str, member: Member) -> float:
        return self._excess[member.number][name]

    def _model(self, name: str, told: Sequence[Member], value: Value, *, fails: bool) -> Posterior:
        """The model of one quantity; what is being trained has what it expects."""
        known = _best(told)
        failed = [self._failed[each] for each in sorted(self._failed)] if fails else []
        features = self._features([*(member.point for member in known), *failed])
        values = np.array([value(member) for member in known])
        values = np.append(values, np.full(len(failed), values.max()))
        scales, owners = self._fitted(name, told, value), self._embed.choice_of_feature
        model = Posterior(features, owners, values, scales)
        if not self._points:
            return model
        waiting = self._features([self._points[each] for each in sorted(self._points)])
        believed = np.append(values, model.predict(waiting)[0])
        return Posterior(np.vstack([features, waiting]), owners, believed, scales)

    def _fitted(self, name: str, told: Sequence[Member], value: Value) -> Hyperparameters:
        """The scales of a quantity, from as many networks as there were at the last fit."""
        first = told[: _last_fit(len(told))]
        numbers = tuple(member.number for member in first)
        if name not in self._scales or self._scales[name][0] != numbers:
            known = _best(first)
            features = self._features([member.point for member in known])
            values = np.array([value(member) for member in known])
            self._scales[name] = numbers, fit_hyperparameters(features, self._embed.choice_of_feature, values)
        return self._scales[name][1]

    def _features(self, points: Sequence[Point]) -> Array:
        return self._embed([self._code(point) for point in points])

    def _code(self, point: Point) -> tuple[float, ...]:
        if point not in self._codes:
            self._codes[point] = self._space.encode(point)
        return self._codes[point]


def _loss(at: int, member: Member) -> float:
    return member.losses[at]


def _last_fit(count: int) -> int:
    """The largest size, not above `count`, at which the model is fitted."""
    size = 2.0
    while size * _GROWTH <= count:
        size *= _GROWTH
    return int(size)


def _best(told: Sequence[Member]) -> list[Member]:
    """What the model learns from: all that were told, or the best of them; by number."""
    if len(told) <= _MOST_KNOWN:
        return list(told)
    ranks = constrained_ranks(told)
    order = sorted(range(len(told)), key=lambda each: (ranks[each], -each))
    return [told[each] for each in sorted(order[:_MOST_KNOWN])]
