"""Sources by name: Optuna's samplers over a space, and the evolutions."""

import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from partialnas.search.samplers.base import (
    ObjectiveValues,
    PastProposal,
    Proposal,
    proposal_rng,
    sample_unseen,
)
from partialnas.search.samplers.optuna_history import CommonSearchSpace, FrozenTrialFactory
from partialnas.search.samplers.registry import SAMPLERS
from partialnas.search.study.sections import SearchSpec
from partialnas.search.study.study import Direction
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space
from partialnas.space.values import digest

_ATTEMPTS = 50
"""Proposals outside the constraints before one is drawn from the space directly."""

_DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
_STUDY = "partialnas"

class _Knowing(BaseSampler):
    """A sampler that is handed the parameters that all trials so far have in common.

    Optuna's samplers look for them in every trial when they are new, as ours are at every proposal.
    """

    common: CommonSearchSpace

    def infer_relative_search_space(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
    ) -> dict[str, BaseDistribution]:
        if "fixed_params" in trial.system_attrs:  # nothing to sample: the point is given
            return {}
        found = self.common.calculate(study)
        return {name: each for name, each in found.items() if not each.single()}


class _KnowingTPE(_Knowing, TPESampler):
    pass


class _KnowingGP(_Knowing, GPSampler):
    pass


class _SteadyNSGAII(_Knowing, NSGAIISampler):
    """NSGA-II whose parents come in one order.

    Optuna hands parents out in the order of selection the first time it is asked for them, and by
    number afterwards, so that a resumed search would draw others.
    """

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        parents = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda trial: trial.number)

    @classmethod
    def parents_key(cls, generation: int) -> str:
        """Where a study keeps the ids of a generation's parents."""
        return f"{cls._get_parent_cache_key_prefix()}{generation}"

    @classmethod
    def generation(cls, trial: FrozenTrial) -> int:
        """Of a trial; 0 of one that was drawn otherwise."""
        return int(trial.system_attrs.get(cls._get_generation_key(), 0))


class _PlacedQMC(QMCSampler):
    """A scrambled Sobol sequence over all choices of a space, from a place in it that is told.

    Optuna takes the choices from the first trial, which may lack some, and keeps the place in its
    study, which a resumed search does not have.
    """

    everything: Mapping[str, BaseDistribution]
    place: int

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return dict(self.everything)

    def _find_sample_id(
        self,
        study: optuna.Study,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> int:
        self.place += 1
        return self.place - 1


class OptunaSource:
    """Optuna's ask and tell over a space; its study lives in memory.

    The sampler is made anew for every proposal, seeded by the study's seed and the proposal's
    number, so that a resumed search proposes what it would have proposed.
    """

    def __init__(self, space: Space, spec: SearchSpec, objectives: Mapping[str, Direction]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._spec = spec
        self._objectives = dict(objectives)
        directions = [_DIRECTIONS[direction] for direction in objectives.values()]
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(
            directions=directions, study_name=_STUDY, storage=self._storage
        )
        self._kinds = {each.name: CategoricalDistribution(each.labels) for each in space.choices}
        self._common = CommonSearchSpace(self._kinds)
        self._trials: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._noted = 0
        self._asked = 0

    def ask(self, number: int) -> Proposal:
        """The sampler's next architecture that satisfies the space's constraints."""
        self._study.sampler = self._sampler(number)
        for _ in range(_ATTEMPTS):
            trial = self._ask()
            point = self._space.suggest(trial)
            if self._space.contains(point):
                return self._proposal(number, trial, point)
            self._study.tell(trial, state=TrialState.FAIL)
        return self._draw(number, self._space.sample(proposal_rng(self._spec.seed, number)))

    def explore(self, number: int, known: Container[str]) -> Proposal | None:
        """A random network that is not known yet; in a small space, any that is left."""
        self._study.sampler = self._sampler(number)
        point = sample_unseen(self._space, proposal_rng(self._spec.seed, number), known)
        return None if point is None else self._draw(number, point)

    def _ask(self) -> optuna.Trial:
        self._asked += 1
        return self._study.ask()

    def _draw(self, number: int, point: Point) -> Proposal:
        self._study.enqueue_trial(self._space.optuna_params(point))
        trial = self._ask()
        return self._proposal(number, trial, self._space.suggest(trial))

    def _proposal(self, number: int, trial: optuna.Trial, point: Point) -> Proposal:
        architecture = self._space.architecture(point)
        self._trials[number] = trial.number
        self._numbers[trial.number] = number
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        note = {**_note(frozen), "asked": self._asked, **self._parents(frozen)}
        return Proposal(architecture, note)

    def _parents(self, trial: FrozenTrial) -> dict[str, Any]:
        """Who the parents of a generation are, noted once, by the ledger's numbers.

        A resumed search would have to choose those of all generations before otherwise.
        """
        generation = _SteadyNSGAII.generation(trial)
        if generation <= self._noted:
            return {}
        self._noted = generation
        study = self._storage.get_study_id_from_name(_STUDY)
        attrs = self._storage.get_study_system_attrs(study)
        parents = attrs.get(_SteadyNSGAII.parents_key(generation), ())
        return {"parents": [self._numbers[each] for each in parents]}

    def _sampler(self, number: int) -> BaseSampler:
        return _SAMPLERS[self._spec.sampler](self, int(digest([self._spec.seed, number])[:8], 16))

    def _random(self, seed: int) -> BaseSampler:
        return RandomSampler(seed=seed)

    def _tpe(self, seed: int) -> BaseSampler:
        return self._knowing(_KnowingTPE(seed=seed, multivariate=True, constant_liar=True))

    def _nsga2(self, seed: int) -> BaseSampler:
        return self._knowing(_SteadyNSGAII(seed=seed, population_size=self._spec.population))

    def _gp(self, seed: int) -> BaseSampler:
        return self._knowing(_KnowingGP(seed=seed, warn_independent_sampling=False))

    def _knowing(self, sampler: _Knowing) -> BaseSampler:
        sampler.common = self._common
        return sampler

    def _quasi_random(self, seed: int) -> BaseSampler:  # noqa: ARG002
        # one sequence for the whole study: only the place in it differs between proposals
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = _PlacedQMC(
                seed=self._spec.seed, scramble=True, warn_independent_sampling=False
            )
        sampler.place = self._asked
        sampler.everything = {n: kind for n, kind in self._kinds.items() if not kind.single()}
        return sampler

    def tell(self, number: int, reached: ObjectiveValues | None) -> None:
        """Complete the trial, or mark it as failed."""
        trial = self._trials.pop(number)
        if reached is None:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        study = self._storage.get_study_id_from_name(_STUDY)
        identity = self._storage.get_trial_id_from_study_id_trial_number(study, trial)
        # Optuna lets constraints be set on a trial that was asked for, not on one added as running
        for key, value in create_trial(
            value=0.0, constraints={**reached.excess}
        ).system_attrs.items():
            self._storage.set_trial_system_attr(identity, key, value)
        self._study.tell(trial, self._in_order(reached))
        self._common.add(self._study.get_trials(deepcopy=False)[trial].params)

    def _in_order(self, reached: ObjectiveValues) -> list[float]:
        return [reached.values[name] for name in self._objectives]

    def rebuild(self, history: Sequence[PastProposal]) -> None:
        """Add the proposals of earlier sittings to the study: those that its sampler looks at."""
        if not history:
            return
        study, trials = (
            self._storage.get_study_id_from_name(_STUDY),
            FrozenTrialFactory(self._kinds),
        )
        noted = self._noted_generations(history) if self._spec.sampler == "nsga2" else []
        kept, looks = self._looked_at(history, noted), SAMPLERS[self._spec.sampler].uses_results
        number = len(self._study.get_trials(deepcopy=False))
        for remembered in history:
            if looks and remembered.result is not None and not remembered.is_open:
                self._common.add_note(remembered.note)
            if remembered.number not in kept and not remembered.is_open:
                continue
            self._storage.create_new_trial(study, self._frozen(remembered, trials))
            self._numbers[number] = remembered.number
            if remembered.is_open:
                self._trials[remembered.number] = number
            number += 1
        self._asked = self._places(history)
        if noted:
            self._remember_parents(noted[-1])
        elif self._spec.sampler == "nsga2":
            self._choose_parents()

    def _places(self, history: Sequence[PastProposal]) -> int:
        """How often the sampler has been asked, as the last note tells."""
        asked = self._asked
        if "asked" in history[-1].note:
            return int(history[-1].note["asked"])
        for remembered in history:
            # notes of older ledgers do not tell: their samplers needed no place in a sequence
            asked = remembered.note.get("asked", asked + 1)
        return asked

    def _noted_generations(self, history: Sequence[PastProposal]) -> list[PastProposal]:
        """The first of the last two generations, with which their parents are noted."""
        noted = (each for each in reversed(history) if each.note.get("parents"))
        return [*islice(noted, 2)][::-1]

    def _looked_at(
        self, history: Sequence[PastProposal], noted: list[PastProposal]
    ) -> Container[int]:
        """Numbers of the proposals that the sampler looks at, beside those that are open.

        A long search has a hundred thousand others.
        """
        if not SAMPLERS[self._spec.sampler].uses_results:
            return ()
        everyone = [each.number for each in history]
        if len(noted) < 2:
            return range(everyone[0], everyone[-1] + 1)
        return {*noted[-1].note["parents"], *range(noted[0].number, everyone[-1] + 1)}

    def _remember_parents(self, noted: PastProposal) -> None:
        """Has the parents of the last generation at hand, as they were noted."""
        trials = self._study.get_trials(deepcopy=False)
        places = {number: place for place, number in self._numbers.items()}
        parents = [places[number] for number in noted.note["parents"]]
        self._noted = _SteadyNSGAII.generation(trials[places[noted.number]])
        study = self._storage.get_study_id_from_name(_STUDY)
        key = _SteadyNSGAII.parents_key(self._noted)
        self._storage.set_study_system_attr(study, key, parents)

    def _choose_parents(self) -> None:
        """Has parents that older versions did not note chosen anew, from generation to generation.

        Each choice looks at the one before.
        """
        trials = self._study.get_trials(deepcopy=False)
        for generation in range(1, max(map(_SteadyNSGAII.generation, trials), default=0) + 1):
            self._sampler(0).get_parent_population(self._study, generation)  # type: ignore[attr-defined]

    def _frozen(self, remembered: PastProposal, trials: FrozenTrialFactory) -> FrozenTrial:
        reached = remembered.result
        state = TrialState.FAIL if reached is None else TrialState.COMPLETE
        return trials.create_trial(
            remembered.note,
            TrialState.RUNNING if remembered.is_open else state,
            None if reached is None else self._in_order(reached),
            reached.excess if reached else {},
        )


def _note(trial: FrozenTrial) -> dict[str, Any]:
    attrs = {k: v for k, v in trial.system_attrs.items() if k != "fixed_params"}
    return {"params": trial.params, "system_attrs": attrs}


_SAMPLERS: dict[str, Callable[[OptunaSource, int], BaseSampler]] = {
    "random": OptunaSource._random,
    "quasi-random": OptunaSource._quasi_random,
    "tpe": OptunaSource._tpe,
    "nsga2": OptunaSource._nsga2,
    "gp": OptunaSource._gp,
}
