"""Surrogate-assisted search: a quasi-random start, then proposals by a Gaussian process model."""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import qmc

from partialnas.analysis.stats import gaussian_process as gp
from partialnas.analysis.stats.dominance import (
    dominated_hypervolume,
    non_dominated,
    non_dominated_ranks,
)
from partialnas.runs.config.quantities import Direction
from partialnas.search.samplers.base import ObjectiveValues, Proposal, proposal_rng
from partialnas.search.samplers.evolution import FrontEvolution, Member, constrained_ranks
from partialnas.search.samplers.registry import SAMPLERS
from partialnas.search.study.sections import SearchSpec
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space

Array = NDArray[np.float64]
Integers = NDArray[np.intp]
Acquisition = Callable[[Sequence[Point]], Array]
Quantity = Mapping[int, float]
"""Values of one quantity, by the number of the proposal."""

_MUTATE_EVERY = 4
"""Every n-th proposal is a neighbor of the front, chosen without the model."""

_NUM_NEIGHBORS, _NUM_RANDOM = 64, 8
"""Candidates per proposal: neighbors of the front, and random points."""

_MAX_STEPS, _STEP_PARENTS, _STEP_NEIGHBORS = 3, 2, 20
"""Local search: maximum number of steps (drawn for each proposal), points to expand per step, and
neighbors of each. Many steps help where the model is right; no step stays near the front where it
is wrong."""

_MIN_PARENTS = 5
"""Minimum number of parents: networks that provide neighbors as candidates."""

_MARGINS = 0.1, 3.0
"""Range of the distance between the front and the reference point, in extents of the front. The
distance is drawn for each proposal, so that both gaps and ends of the front are improved."""

_OPTIMISTIC_SHARE, _OPTIMISM = 0.5, 0.5
"""Share of optimistic proposals, and their optimism: standard deviations of the model per unit of a
half-normal draw. Other proposals use the posterior mean."""

_REFIT_GROWTH = 1.2
"""Hyperparameters are fitted again when the number of results has grown by this factor."""

_SMALLEST_EXTENT = 1e-100
"""Smaller differences between objective values are none: dividing by them would overflow."""

_MAX_TRAINING_POINTS = 300
"""Networks that the model is fitted to: the best, by rank."""


class SurrogateSearch(FrontEvolution):
    """Propose the network that a surrogate model expects to improve the front most.

    The first proposals are a scrambled Sobol sequence over the choices. Then one Gaussian process
    per objective predicts neighbors of the front and some random networks; half of the proposals,
    at random, use an optimistic bound. The proposal is the candidate with the largest hypervolume
    improvement after a few steps of local search. Every fourth proposal is a random neighbor of the
    front, because the model may be wrong. Proposals in training count with their predicted values,
    failed ones with the worst known value. The improvement is multiplied by the probability that
    all limits are satisfied. No network is proposed twice; if the model has no new candidate, a
    neighbor of the front is proposed (see `FrontEvolution`).
    """

    def __init__(self, space: Space, spec: SearchSpec, objectives: Mapping[str, Direction]) -> None:
        super().__init__(space, spec, objectives)
        self._embed = gp.ChoiceEncoder(space.choices)
        self._failed: dict[int, Point] = {}
        self._codes: dict[Point, tuple[float, ...]] = {}
        self._scales: dict[str, tuple[tuple[int, ...], gp.Hyperparameters]] = {}

    def ask(self, number: int) -> Proposal | None:
        """Return the next point of the Sobol sequence, or the model's best candidate."""
        rng = proposal_rng(self._spec.seed, number)
        members = self.members
        if len(members) < SAMPLERS["hybrid"].initial_networks(self._spec.population):
            return self._sobol_point(number, rng)
        if number % _MUTATE_EVERY == 0:
            return super().ask(number)
        points = self._initial_candidates(members, rng)
        acquisition = self._acquisition(members, rng)
        values = acquisition(points)
        for _ in range(rng.randint(0, _MAX_STEPS)):
            best = [points[index] for index in np.argsort(-values, kind="stable")[:_STEP_PARENTS]]
            further = self._new_neighbors(best, points, rng)
            if not further:
                break
            points += further
            values = np.append(values, acquisition(further))
        for index in np.argsort(-values, kind="stable"):
            if self._is_new(points[index]):
                return self._proposal(number, points[index], None)
        return super().ask(number)

    def tell(self, number: int, result: ObjectiveValues | None) -> None:
        """Add the result of a proposal; the model also learns from failures."""
        if result is None:
            self._failed[number] = self._points[number]
        super().tell(number, result)

    def _sobol_point(self, number: int, rng: random.Random) -> Proposal | None:
        """Return a point of a Sobol sequence, or a random one if it is infeasible or not new."""
        choices = self._space.choices
        sequence = qmc.Sobol(len(choices), rng=self._spec.seed).fast_forward(number)
        shares = sequence.random()[0]
        counts = [len(choice.labels) for choice in choices]
        code = [int(share * count) for share, count in zip(shares, counts, strict=True)]
        point = self._space.decode(code)
        if self._space.contains(point) and self._is_new(point):
            return self._proposal(number, point, None)
        return self._random(number, rng, self._proposed)

    def _is_new(self, point: Point) -> bool:
        return self._space.architecture(point).digest not in self._proposed

    # Candidates.

    def _initial_candidates(self, members: Sequence[Member], rng: random.Random) -> list[Point]:
        """Return neighbors of the best networks, equally many of each, and random points."""
        front_size = constrained_ranks(members).count(0)
        num_parents = min(max(front_size, _MIN_PARENTS), _NUM_NEIGHBORS // 2)
        parents = [*islice(self.iter_parents(members, rng), num_parents)]
        share = _NUM_NEIGHBORS // len(parents)
        points: dict[Point, None] = {}
        for member in parents:
            points |= dict.fromkeys(islice(self._space.neighbors(member.point, rng), share))
        return [*points | dict.fromkeys(self._space.sample(rng) for _ in range(_NUM_RANDOM))]

    def _new_neighbors(
        self, parents: Sequence[Point], points: Sequence[Point], rng: random.Random
    ) -> list[Point]:
        """Return neighbors of the parents that are not among the points."""
        seen = dict.fromkeys(points)
        neighbors = (islice(self._space.neighbors(p, rng), _STEP_NEIGHBORS) for p in parents)
        return [*dict.fromkeys(p for group in neighbors for p in group if p not in seen)]

    # The model.

    def _acquisition(self, members: Sequence[Member], rng: random.Random) -> Acquisition:
        """Return the acquisition function of one proposal.

        It is the expected hypervolume improvement, in extents of the front.
        """
        draw = _OPTIMISM * abs(rng.gauss(0, 1))
        optimism = draw if rng.random() < _OPTIMISTIC_SHARE else 0.0
        models = []
        for column, name in enumerate(self._objectives):
            values = {m.number: m.losses[column] for m in members}
            scales = self._fit(name, members, values)
            models.append(self._model(members, values, scales, fails=True))
        limits = self._limit_models(members)
        losses = np.array([member.losses for member in members])
        feasible = np.array([member.violation == 0 for member in members])
        front = losses[feasible] if feasible.any() else losses
        front = front[non_dominated(front, keep_duplicates=False)]
        low, high = front.min(axis=0), front.max(axis=0)
        extent = np.where(high > low, high - low, gp.nonzero_std(losses))
        extent = np.maximum(extent, _SMALLEST_EXTENT)
        nearest, farthest = _MARGINS
        reference = (high - low) / extent + nearest * (farthest / nearest) ** rng.random()

        def acquisition(points: Sequence[Point]) -> Array:
            features = self._features(points)
            predictions = [model.predict(features) for model in models]
            bounds = np.stack([mean - optimism * std for mean, std in predictions], axis=1)
            scaled, scaled_front = (bounds - low) / extent, (front - low) / extent
            gains: Array | float = 1.0
            if feasible.any():
                gains = hypervolume_improvement(scaled_front, scaled, reference)
            probability = np.ones(len(points))
            for limit in limits:
                excess, std = limit.predict(features)
                probability *= ndtr(-excess / std)
            # among points without a gain, the nearest to the front comes first
            distance = (scaled[:, None] - scaled_front).max(axis=2).min(axis=1)
            value: Array = gains * probability - 1e-3 * np.maximum(distance, 0.0)
            return value

        return acquisition

    def _limit_models(self, members: Sequence[Member]) -> list[gp.Posterior]:
        """Return a model of the excess of each limit that at least one network violates."""
        excess = {member.number: dict(member.result.excess.items()) for member in members}
        models = []
        for name in members[0].result.excess:
            values = {number: of[name] for number, of in excess.items()}
            if any(value > 0 for value in values.values()):
                # the excess changes with later timings, but the shape of the fit must not
                limited = {m.number: m.result.limited[name] for m in members}
                scales = self._fit(f"limit {name}", members, limited)
                models.append(self._model(members, values, scales, fails=False))
        return models

    def _model(
        self,
        members: Sequence[Member],
        quantity: Quantity,
        scales: gp.Hyperparameters,
        *,
        fails: bool,
    ) -> gp.Posterior:
        """Return the model of one quantity; pending proposals count with predicted values."""
        best = _best(members, constrained_ranks(members))
        failed = [self._failed[number] for number in sorted(self._failed)] if fails else []
        features = self._features([*(member.point for member in best), *failed])
        values = np.array([quantity[member.number] for member in best])
        values = np.append(values, np.full(len(failed), values.max()))
        owners = self._embed.choice_of_feature
        model = gp.Posterior(features, owners, values, scales)
        if not self._points:
            return model
        pending = self._features([self._points[number] for number in sorted(self._points)])
        predicted = np.append(values, model.predict(pending)[0])
        return gp.Posterior(np.vstack([features, pending]), owners, predicted, scales)

    def _fit(self, name: str, members: Sequence[Member], quantity: Quantity) -> gp.Hyperparameters:
        """Return the hyperparameters of a quantity, fitted to the members at the last refit.

        Args:
            name: name of the quantity.
            members: all proposals with results, by number.
            quantity: its values, which no later measurement changes.
        """
        first = members[: _last_refit(len(members))]
        numbers = tuple(member.number for member in first)
        if name not in self._scales or self._scales[name][0] != numbers:
            # without the limits, which change: a resumed search must fit to the same networks
            best = _best(first, non_dominated_ranks(np.array([m.losses for m in first])))
            features = self._features([member.point for member in best])
            values = np.array([quantity[member.number] for member in best])
            owners = self._embed.choice_of_feature
            self._scales[name] = numbers, gp.fit_hyperparameters(features, owners, values)
        return self._scales[name][1]

    def _features(self, points: Sequence[Point]) -> Array:
        return self._embed([self._code(point) for point in points])

    def _code(self, point: Point) -> tuple[float, ...]:
        if point not in self._codes:
            self._codes[point] = self._space.encode(point)
        return self._codes[point]


def _last_refit(count: int) -> int:
    """Return the largest number of results, at most `count`, at which the model is fitted."""
    size = 2.0
    while size * _REFIT_GROWTH <= count:
        size *= _REFIT_GROWTH
    return int(size)


def _best(members: Sequence[Member], ranks: Sequence[int] | Integers) -> list[Member]:
    """Return the members that the model is fitted to: those of the best ranks, by number."""
    if len(members) <= _MAX_TRAINING_POINTS:
        return list(members)
    order = sorted(range(len(members)), key=lambda index: (ranks[index], -index))
    return [members[index] for index in sorted(order[:_MAX_TRAINING_POINTS])]


def hypervolume_improvement(front: Array, points: Array, reference: Array) -> Array:
    """Return by how much each point alone would increase the hypervolume of a front.

    All objectives are minimized.

    Args:
        front: non-dominated points, one per row.
        points: points to evaluate, one per row.
        reference: reference point; volume beyond it does not count.
    """
    if front.shape[1] == 1:
        gain: Array = np.maximum(front.min() - points[:, 0], 0.0)
        return gain
    if front.shape[1] == 2:
        return _improvement_2d(front, points, reference)
    gains = np.zeros(len(points))
    before = dominated_hypervolume(front, reference)
    for row, point in enumerate(points):
        if (point < reference).all() and not (front <= point).all(axis=1).any():
            gains[row] = dominated_hypervolume(np.vstack([front, point]), reference) - before
    return gains


def _improvement_2d(front: Array, points: Array, reference: Array) -> Array:
    """Return the improvement for two objectives, as a sum over vertical strips between points."""
    steps = front[np.argsort(front[:, 0])]
    left = np.append(-np.inf, steps[:, 0])
    right = np.append(steps[:, 0], reference[0])
    ceiling = np.append(reference[1], steps[:, 1])
    widths = np.maximum(right - np.maximum(left, points[:, :1]), 0.0)
    heights = np.maximum(ceiling - points[:, 1:], 0.0)
    gains: Array = (widths * heights).sum(axis=1)
    return gains
