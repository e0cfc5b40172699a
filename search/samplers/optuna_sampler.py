"""Optuna's samplers over a search space, resumable from a ledger."""

import warnings
from collections.abc import Container, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from partialnas.runs.config.quantities import Direction
from partialnas.search.samplers import base
from partialnas.search.samplers.optuna_history import CommonSearchSpace, FrozenTrialFactory
from partialnas.search.samplers.registry import SAMPLERS
from partialnas.search.study.sections import SearchSpec
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space
from partialnas.space.values import digest

_ATTEMPTS = 50
"""Infeasible suggestions before a point is sampled from the space directly."""

_DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}


class _CommonSpaceSampler(BaseSampler):
    """A sampler that is given the parameters that all trials have in common.

    A new Optuna sampler searches all trials for them, which is slow: a sampler is created for every
    proposal here.
    """

    common: CommonSearchSpace

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        if "fixed_params" in trial.system_attrs:  # the point is given
            return {}
        return _without_constants(self.common.calculate(study))


class _TPE(_CommonSpaceSampler, optuna.samplers.TPESampler):
    pass


class _GP(_CommonSpaceSampler, optuna.samplers.GPSampler):
    pass


class _SteadyNSGAII(_CommonSpaceSampler, optuna.samplers.NSGAIISampler):
    """NSGA-II with parents in a fixed order.

    Optuna returns parents in selection order on the first call and by number later, so a resumed
    search would draw other parents.

    Optuna writes the name of this class into the attributes of trials, and so into ledgers: it
    must not change.
    """

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        parents = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda trial: trial.number)

    @classmethod
    def parents_key(cls, generation: int) -> str:
        """Return the study attribute that holds the ids of a generation's parents."""
        return f"{cls._get_parent_cache_key_prefix()}{generation}"

    @classmethod
    def generation(cls, trial: FrozenTrial) -> int:
        """Return the generation of a trial, or 0 for a trial of another sampler."""
        return int(trial.system_attrs.get(cls._get_generation_key(), 0))


class _ResumableQMC(optuna.samplers.QMCSampler):
    """A scrambled Sobol sequence over all parameters of a space, from a given position.

    Optuna takes the parameters from the first trial, which may lack some, and keeps the position in
    its study, which a resumed search does not have.
    """

    search_space: Mapping[str, BaseDistribution]
    position: int

    def infer_relative_search_space(self, *_: object) -> dict[str, BaseDistribution]:
        return dict(self.search_space)

    def _find_sample_id(self, *_: object) -> int:
        self.position += 1
        return self.position - 1


class OptunaSource:
    """Optuna's ask-and-tell interface over a space, with a study in memory.

    A new Optuna sampler is created for every proposal, seeded by the study's seed and the
    proposal's number, so a resumed search makes the same proposals.
    """

    def __init__(self, space: Space, spec: SearchSpec, objectives: Mapping[str, Direction]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._spec = spec
        self._objectives = dict(objectives)
        self._uses_results = SAMPLERS[spec.sampler].uses_results
        self._storage = InMemoryStorage()
        directions = [_DIRECTIONS[direction] for direction in objectives.values()]
        self._study = optuna.create_study(directions=directions, storage=self._storage)
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._distributions = {c.name: CategoricalDistribution(c.labels) for c in space.choices}
        self._common = CommonSearchSpace(self._distributions)
        self._trials: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._excess: dict[int, Mapping[str, float]] = {}
        self._noted_generation = 0
        self._num_asks = 0

    def ask(self, number: int) -> base.Proposal:
        """Return the sampler's next feasible architecture."""
        self._study.sampler = self._sampler(number)
        self._update_constraints()
        for _ in range(_ATTEMPTS):
            trial = self._ask()
            point = self._space.suggest(trial)
            if self._space.contains(point):
                return self._proposal(number, trial, point)
            self._study.tell(trial, state=TrialState.FAIL)
        point = self._space.sample(base.proposal_rng(self._spec.seed, number))
        return self._propose_point(number, point)

    def explore(self, number: int, seen: Container[str]) -> base.Proposal | None:
        """Return an unseen network: a random one, or any that is left in a small space."""
        self._study.sampler = self._sampler(number)
        point = base.sample_unseen(self._space, base.proposal_rng(self._spec.seed, number), seen)
        return None if point is None else self._propose_point(number, point)

    def _ask(self) -> optuna.Trial:
        self._num_asks += 1
        return self._study.ask()

    def _propose_point(self, number: int, point: Point) -> base.Proposal:
        self._study.enqueue_trial(self._space.optuna_params(point))
        trial = self._ask()
        return self._proposal(number, trial, self._space.suggest(trial))

    def _proposal(self, number: int, trial: optuna.Trial, point: Point) -> base.Proposal:
        architecture = self._space.architecture(point)
        self._trials[number] = trial.number
        self._numbers[trial.number] = number
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        note = {**_note(frozen), "asked": self._num_asks, **self._parents(frozen)}
        return base.Proposal(architecture, note)

    def _parents(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the parents of a new generation by the ledger's numbers, for the note.

        With them a resumed search need not select the parents of all earlier generations again.
        """
        generation = _SteadyNSGAII.generation(trial)
        if generation <= self._noted_generation:
            return {}
        self._noted_generation = generation
        attrs = self._storage.get_study_system_attrs(self._study_id)
        parents = attrs.get(_SteadyNSGAII.parents_key(generation), ())
        return {"parents": [self._numbers[parent] for parent in parents]}

    def _sampler(self, number: int) -> BaseSampler:
        """Return a new sampler for a proposal."""
        seed = int(digest([self._spec.seed, number])[:8], 16)
        sampler: _CommonSpaceSampler
        match self._spec.sampler:
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "quasi-random":
                return self._quasi_random()
            case "tpe":
                sampler = _TPE(seed=seed, multivariate=True, constant_liar=True)
            case "nsga2":
                sampler = _SteadyNSGAII(seed=seed, population_size=self._spec.population)
            case "gp":
                sampler = _GP(seed=seed, warn_independent_sampling=False)
            case name:
                raise KeyError(name)
        sampler.common = self._common
        return sampler

    def _quasi_random(self) -> BaseSampler:
        # one sequence for the whole study; only the position differs between proposals
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            seed = self._spec.seed
            sampler = _ResumableQMC(seed=seed, scramble=True, warn_independent_sampling=False)
        sampler.position = self._num_asks
        sampler.search_space = _without_constants(self._distributions)
        return sampler

    def tell(self, number: int, result: base.ObjectiveValues | None) -> None:
        """Complete the trial, or mark it as failed."""
        trial = self._trials.pop(number)
        if result is None:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        self._study.tell(trial, self._objective_list(result))
        self._excess[trial] = result.excess
        self._common.add(self._study.get_trials(deepcopy=False)[trial].params)

    def _update_constraints(self) -> None:
        """Set the constraints of all trials again: limits on speeds change with later timings."""
        if not any(self._excess.values()):
            return
        trials = self._study.get_trials(deepcopy=False)
        for index, excess in self._excess.items():
            values = {_constraint_key(name): value for name, value in excess.items()}
            trials[index].system_attrs.update(values)

    def _objective_list(self, result: base.ObjectiveValues) -> list[float]:
        return [result.values[name] for name in self._objectives]

    def rebuild(self, history: Sequence[base.PastProposal]) -> None:
        """Add the proposals of earlier sessions that the Optuna sampler uses to the study."""
        if not history:
            return
        trials = FrozenTrialFactory(self._distributions)
        is_nsga2 = self._spec.sampler == "nsga2"
        noted = self._last_generations(history) if is_nsga2 else []
        used = self._used_numbers(history, noted)
        index = len(self._study.get_trials(deepcopy=False))
        for past in history:
            if self._uses_results and past.result is not None and not past.is_open:
                self._common.add_note(past.note)
            if past.number not in used and not past.is_open:
                continue
            self._storage.create_new_trial(self._study_id, self._frozen_trial(past, trials))
            self._numbers[index] = past.number
            if past.is_open:
                self._trials[past.number] = index
            elif past.result is not None:
                self._excess[index] = past.result.excess
            index += 1
        self._num_asks = self._count_asks(history)
        if noted:
            self._restore_parents(noted[-1])
        elif is_nsga2:
            self._select_parents()

    def _count_asks(self, history: Sequence[base.PastProposal]) -> int:
        """Return how many times Optuna was asked for a point, as the last note states."""
        count = self._num_asks
        if "asked" in history[-1].note:
            return int(history[-1].note["asked"])
        for past in history:
            # older ledgers do not note it: their samplers had no position in a sequence
            count = past.note.get("asked", count + 1)
        return count

    def _last_generations(self, history: Sequence[base.PastProposal]) -> list[base.PastProposal]:
        """Return the first proposals of the last two generations, which note their parents."""
        with_parents = (past for past in reversed(history) if past.note.get("parents"))
        return [*islice(with_parents, 2)][::-1]

    def _used_numbers(
        self, history: Sequence[base.PastProposal], noted: list[base.PastProposal]
    ) -> Container[int]:
        """Return the numbers of the closed proposals that the sampler uses.

        NSGA-II uses few of the hundred thousand proposals of a long search.
        """
        if not self._uses_results:
            return ()
        first, last = history[0].number, history[-1].number
        if len(noted) < 2:
            return range(first, last + 1)
        return {*noted[-1].note["parents"], *range(noted[0].number, last + 1)}

    def _restore_parents(self, noted: base.PastProposal) -> None:
        """Set the parents of the last generation from their note."""
        trials = self._study.get_trials(deepcopy=False)
        indices = {number: index for index, number in self._numbers.items()}
        parents = [indices[number] for number in noted.note["parents"]]
        self._noted_generation = _SteadyNSGAII.generation(trials[indices[noted.number]])
        key = _SteadyNSGAII.parents_key(self._noted_generation)
        self._storage.set_study_system_attr(self._study_id, key, parents)

    def _select_parents(self) -> None:
        """Select the parents of all generations again, for ledgers of older versions.

        The parents of a generation depend on those before.
        """
        trials = self._study.get_trials(deepcopy=False)
        for generation in range(1, max(map(_SteadyNSGAII.generation, trials), default=0) + 1):
            self._sampler(0).get_parent_population(self._study, generation)  # type: ignore[attr-defined]

    def _frozen_trial(self, past: base.PastProposal, trials: FrozenTrialFactory) -> FrozenTrial:
        result = past.result
        state = TrialState.FAIL if result is None else TrialState.COMPLETE
        return trials.create_trial(
            past.note,
            TrialState.RUNNING if past.is_open else state,
            None if result is None else self._objective_list(result),
        )


@cache
def _constraint_key(name: str) -> str:
    """Return the attribute of a trial in which Optuna keeps the value of a constraint."""
    return next(iter(create_trial(value=0.0, constraints={name: 0.0}).system_attrs))


def _without_constants(space: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    return {name: kind for name, kind in space.items() if not kind.single()}


def _note(trial: FrozenTrial) -> dict[str, Any]:
    attrs = {k: v for k, v in trial.system_attrs.items() if k != "fixed_params"}
    return {"params": trial.params, "system_attrs": attrs}
