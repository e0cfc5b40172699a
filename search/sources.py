"""Sources: samplers that propose architectures and learn from what came of them."""

import itertools
import random
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import optuna
from optuna.distributions import (
    BaseDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from partialnas.search.study import Direction, SearchSpec
from partialnas.space.architecture import Architecture
from partialnas.space.errors import UserError
from partialnas.space.point import Point
from partialnas.space.space import Space
from partialnas.space.values import digest

_EXPLORATIONS = 100
"""Random points that are looked at for a network that is not known yet."""

_ATTEMPTS = 50
"""Proposals outside the constraints before one is drawn from the space directly."""

_DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}

Values = Mapping[str, float]
"""A candidate's objectives, by name."""


@dataclass(frozen=True)
class Proposal:
    """An architecture that a source proposes.

    Attributes:
        architecture: what to train.
        note: plain JSON data from which the source can rebuild its memory of this proposal.
    """

    architecture: Architecture
    note: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Remembered:
    """A proposal of an earlier sitting, as the ledger knows it.

    Attributes:
        number: the ledger's number of the proposal.
        note: what the source wrote down with it.
        values: its objectives; None where it failed.
        open: whether its trials have not ended yet.
    """

    number: int
    note: dict[str, Any]
    values: Values | None
    open: bool = False


class Source(Protocol):
    """Proposes architectures; is told what became of each; can be rebuilt from the ledger."""

    def ask(self, number: int) -> Proposal | None:
        """The next proposal, to be known by the ledger's `number`; None when there are no more."""
        ...

    def explore(self, number: int, known: Container[str]) -> Proposal | None:
        """A proposal whose digest is not among the known ones; None where none was found."""
        ...

    def tell(self, number: int, values: Values | None) -> None:
        """What the proposal of that number reached; None where it failed."""
        ...

    def rebuild(self, history: Sequence[Remembered]) -> None:
        """Take up the proposals of earlier sittings, in order."""
        ...


class _Knowing(BaseSampler):
    """A sampler that is handed the parameters that all trials so far have in common.

    Optuna's samplers look for them in every trial when they are new, as ours are at every proposal.
    """

    common: IntersectionSearchSpace

    def infer_relative_search_space(
        self,
        study: optuna.Study,
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        found = self.common.calculate(study)
        return {name: each for name, each in found.items() if not each.single()}


class _KnowingTPE(_Knowing, TPESampler):
    pass


class _SteadyNSGAII(_Knowing, NSGAIISampler):
    """NSGA-II whose parents come in one order.

    Optuna hands parents out in the order of selection the first time it is asked for them, and by
    number afterwards, so that a resumed search would draw others.
    """

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        parents = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda trial: trial.number)


def make_sampler(spec: SearchSpec, count: int, common: IntersectionSearchSpace) -> BaseSampler:
    """The sampler of a study, seeded by the study's seed and the number of proposals so far.

    Re-seeding for every proposal makes a resumed search propose what it would have proposed.

    Args:
        spec: which sampler.
        count: proposals so far.
        common: finds the parameters that all trials of the study have in common.
    """
    seed = int(digest([spec.seed, count])[:8], 16)
    if spec.sampler == "random":
        return RandomSampler(seed=seed)
    sampler: _Knowing
    if spec.sampler == "tpe":
        sampler = _KnowingTPE(seed=seed, multivariate=True, constant_liar=True)
    else:
        sampler = _SteadyNSGAII(seed=seed, population_size=spec.population)
    sampler.common = common
    return sampler


class OptunaSource:
    """Optuna's ask and tell over a space; its study lives in memory."""

    def __init__(self, space: Space, spec: SearchSpec, objectives: Mapping[str, Direction]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._spec = spec
        self._objectives = dict(objectives)
        directions = [_DIRECTIONS[direction] for direction in objectives.values()]
        self._study = optuna.create_study(directions=directions, study_name="partialnas")
        self._common = IntersectionSearchSpace()
        self._trials: dict[int, int] = {}

    def ask(self, number: int) -> Proposal:
        """The sampler's next architecture that satisfies the space's constraints."""
        self._study.sampler = make_sampler(self._spec, number, self._common)
        for _ in range(_ATTEMPTS):
            trial = self._study.ask()
            point = self._space.suggest(trial)
            if self._space.contains(point):
                return self._proposal(number, trial, point)
            self._study.tell(trial, state=TrialState.FAIL)
        return self._draw(number, self._space.sample(self._rng(number)))

    def explore(self, number: int, known: Container[str]) -> Proposal | None:
        """A random network that is not known yet; in a small space, any that is left."""
        rng = self._rng(number)
        drawn = (self._space.sample(rng) for _ in range(_EXPLORATIONS))
        for point in itertools.chain(drawn, self._listed()):
            if self._space.architecture(point).digest not in known:
                return self._draw(number, point)
        return None

    def _listed(self) -> Iterator[Point]:
        try:
            yield from self._space.enumerate()
        except UserError:  # too large to list
            return

    def _rng(self, number: int) -> random.Random:
        return random.Random(f"{self._spec.seed}/{number}")

    def _draw(self, number: int, point: Point) -> Proposal:
        self._study.enqueue_trial(self._space.params_of(point))
        trial = self._study.ask()
        return self._proposal(number, trial, self._space.suggest(trial))

    def _proposal(self, number: int, trial: optuna.Trial, point: Point) -> Proposal:
        architecture = self._space.architecture(point)
        self._trials[number] = trial.number
        return Proposal(architecture, _note(self._study.get_trials(deepcopy=False)[trial.number]))

    def tell(self, number: int, values: Values | None) -> None:
        """Complete the trial, or mark it as failed."""
        trial = self._trials.pop(number)
        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, [values[name] for name in self._objectives])

    def rebuild(self, history: Sequence[Remembered]) -> None:
        """Add the proposals of earlier sittings to the study."""
        for remembered in history:
            self._trials[remembered.number] = len(self._study.get_trials(deepcopy=False))
            self._study.add_trial(self._frozen(remembered))
            if not remembered.open:
                del self._trials[remembered.number]

    def _frozen(self, remembered: Remembered) -> FrozenTrial:
        note = remembered.note
        values = remembered.values
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        return create_trial(
            state=TrialState.RUNNING if remembered.open else state,
            values=None if values is None else [values[name] for name in self._objectives],
            params=note["params"],
            distributions={
                name: json_to_distribution(text) for name, text in note["distributions"].items()
            },
            system_attrs=note["system_attrs"],
        )


def _note(trial: FrozenTrial) -> dict[str, Any]:
    distributions = {name: distribution_to_json(d) for name, d in trial.distributions.items()}
    attrs = {k: v for k, v in trial.system_attrs.items() if k != "fixed_params"}
    return {"params": trial.params, "distributions": distributions, "system_attrs": attrs}
