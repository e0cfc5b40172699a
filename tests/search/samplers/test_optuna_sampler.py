"""Samplers: resuming, equality with Optuna, and cost per proposal."""

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, TPESampler
from optuna.trial import FrozenTrial

from partialnas.runs.config.quantities import Direction
from partialnas.search.samplers import registry
from partialnas.search.samplers.base import ObjectiveValues, PastProposal, Proposal, ProposalSource
from partialnas.search.samplers.evolution import AgingEvolution, FrontEvolution
from partialnas.search.samplers.optuna_sampler import OptunaSource
from partialnas.search.samplers.surrogate_search import SurrogateSearch
from partialnas.search.study.sections import SearchSpec
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space
from partialnas.space.values import digest

SPACE: dict[str, Any] = {
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1]},
    "space": {
        "axes": {
            "width": list(range(8, 40, 2)),
            "parts": [2, 3, 4],
            "ratio": {"values": ["1/8", "1/4", "1/2"], "per": "stage"},
            "mlp_ratio": {"values": [1, 2, 3], "per": "stage"},
            "pat_sp": [False, True],
        }
    },
}
CONSTRAINED = {**SPACE, "space": {**SPACE["space"], "constraints": {"params": {"max": "400k"}}}}
SAMPLERS = tuple(registry.SAMPLERS)
EACH = [pytest.param(s, marks=pytest.mark.slow if s == "gp" else ()) for s in SAMPLERS]
TWO: dict[str, Direction] = {"nll": "min", "speed": "max"}


def space_of(data: Mapping[str, Any] = SPACE) -> Space:
    return Space.from_data(data, InputSpec.square(8, 1, 10))


def source(sampler: str, space: Space | None = None, **spec: Any) -> ProposalSource:
    settings = SearchSpec.model_validate({"sampler": sampler, "population": 4, **spec})
    evolutions = {
        "evolution": AgingEvolution,
        "front-evolution": FrontEvolution,
        "hybrid": SurrogateSearch,
    }
    return evolutions.get(sampler, OptunaSource)(space or space_of(), settings, TWO)


def reached(architecture: Architecture) -> ObjectiveValues | None:
    """Return a network's result; some fail, wide ones violate a limit."""
    width, parts = architecture.widths[0], len(architecture.realized[0][0].parts)
    if width == 12:
        return None
    values = {"nll": abs(width - 21) + parts, "speed": 100.0 / width}
    return ObjectiveValues(values, {"latency": (width - 30) / 30}, {"latency": width})


def proposals_of(of: ProposalSource, numbers: range) -> list[Proposal]:
    proposals = []
    for number in numbers:
        proposal = of.ask(number)
        assert proposal is not None
        proposals.append(proposal)
        of.tell(number, reached(proposal.architecture))
    return proposals


@pytest.mark.parametrize("sampler", EACH)
def test_a_rebuilt_sampler_makes_the_same_proposals(sampler: str) -> None:
    first, second = source(sampler), source(sampler)
    count = 12 if sampler == "gp" else 30
    begun = proposals_of(first, range(1, count + 1))
    second.rebuild(
        [
            PastProposal(number, proposal.note, reached(proposal.architecture), is_open=False)
            for number, proposal in enumerate(begun, start=1)
        ]
    )
    later = range(count + 1, count + (3 if sampler == "gp" else 16))
    digests = [[p.architecture.digest for p in proposals_of(of, later)] for of in (first, second)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) > 1


@pytest.mark.parametrize("sampler", EACH)
def test_a_rebuilt_sampler_receives_results_of_open_proposals(sampler: str) -> None:
    first, second = source(sampler, space_of(CONSTRAINED)), source(sampler, space_of(CONSTRAINED))
    begun = proposals_of(first, range(1, 13))
    last = 14 if sampler == "gp" else 16
    flying = {number: first.ask(number) for number in range(13, last)}
    history = [
        PastProposal(number, proposal.note, reached(proposal.architecture), is_open=False)
        for number, proposal in enumerate(begun, start=1)
    ]
    pending = [PastProposal(n, p.note, None, is_open=True) for n, p in flying.items() if p]
    second.rebuild([*history, *pending])
    assert [proposal.number for proposal in pending] == [*flying]
    for of in (first, second):
        for number, proposal in reversed(flying.items()):
            assert proposal is not None
            of.tell(number, reached(proposal.architecture))
    later = range(last, last + (1 if sampler == "gp" else 3))
    digests = [[p.architecture.digest for p in proposals_of(of, later)] for of in (first, second)]
    assert digests[0] == digests[1]


def directly(make: Any, count: int) -> list[str]:
    """Return the proposals of Optuna itself, with its own constraints."""
    space = space_of()
    study = optuna.create_study(directions=["minimize", "maximize"])
    digests = []
    for number in range(1, count + 1):
        study.sampler = make(number)
        trial = study.ask()
        architecture = space.architecture(space.suggest(trial))
        digests.append(architecture.digest)
        result = reached(architecture)
        if result is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        for key, excess in result.excess.items():
            trial.set_constraint(key, excess)
        study.tell(trial, [result.values["nll"], result.values["speed"]])
    return digests


def seeded(number: int) -> int:
    return int(digest([0, number])[:8], 16)


def tpe(number: int) -> BaseSampler:
    return TPESampler(seed=seeded(number), multivariate=True, constant_liar=True)


class InOrder(NSGAIISampler):
    """NSGA-II with parents by number: Optuna returns them in selection order on the first call."""

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().get_parent_population(study, generation), key=lambda t: t.number)


def nsga2(number: int) -> BaseSampler:
    return InOrder(seed=seeded(number), population_size=4)


def gp(number: int) -> BaseSampler:
    return GPSampler(seed=seeded(number), warn_independent_sampling=False)


@pytest.mark.parametrize(
    ("sampler", "make", "count"),
    [("tpe", tpe, 30), ("nsga2", nsga2, 30), pytest.param("gp", gp, 13, marks=pytest.mark.slow)],
)
def test_proposals_equal_those_of_optuna(sampler: str, make: Any, count: int) -> None:
    ours = proposals_of(source(sampler), range(1, count + 1))
    assert [proposal.architecture.digest for proposal in ours] == directly(make, count)


def test_the_quasi_random_sequence_equals_that_of_optuna() -> None:
    # Optuna's first proposal, from which it learns the parameters, is not in the sequence
    with pytest.warns(ExperimentalWarning):
        sampler = QMCSampler(seed=0, scramble=True, warn_independent_sampling=False)
    ours = [p.architecture.digest for p in proposals_of(source("quasi-random"), range(1, 33))]
    assert ours == directly(lambda _: sampler, 33)[1:]


def test_a_quasi_random_search_is_more_even_than_a_random_one() -> None:
    def imbalance(sampler: str) -> int:
        points = [p.architecture.widths[0] for p in proposals_of(source(sampler), range(1, 65))]
        counts = Counter(points)
        return max(counts[width] for width in range(8, 40, 2)) - min(
            counts[width] for width in range(8, 40, 2)
        )

    assert imbalance("quasi-random") == 0 < imbalance("random")


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6), failing=st.integers(2, 6))
def test_every_proposal_is_in_the_space(sampler: str, seed: int, failing: int) -> None:
    space = space_of(CONSTRAINED)
    of = source(sampler, space, seed=seed)
    rng = random.Random(seed)
    pending: list[int] = []
    for number in range(1, 26):
        proposal = of.ask(number) if number % 7 else of.explore(number, set())
        assert proposal is not None
        assert space.contains(proposal.architecture)
        assert space.cost(proposal.architecture).params <= 400_000
        pending.append(number)
        if len(pending) > 3:
            ended = pending.pop(rng.randrange(len(pending)))
            values, latency = {"nll": rng.random(), "speed": rng.random()}, rng.uniform(-1, 1)
            result = ObjectiveValues(values, {"latency": latency}, {"latency": latency})
            of.tell(ended, None if ended % failing == 0 else result)


@pytest.mark.slow
def test_a_network_explored_by_gp_is_the_network_that_runs() -> None:
    of = source("gp")
    proposals_of(of, range(1, 12))
    explored = of.explore(12, set())
    assert explored is not None
    assert not any(key.startswith("gp:") for key in explored.note["system_attrs"])
    assert explored.architecture == space_of().architecture(Point(explored.note["params"]))


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_late_proposals_copy_and_compare_no_more_trials_than_early_ones(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[str] = Counter()
    equal = CategoricalDistribution.__eq__

    def copying(self: FrozenTrial, protocol: int) -> Any:
        done["copies"] += 1
        return object.__reduce_ex__(self, protocol)

    def comparing(self: CategoricalDistribution, other: Any) -> bool:
        done["comparisons"] += 1
        return equal(self, other)

    monkeypatch.setattr(FrozenTrial, "__reduce_ex__", copying)
    monkeypatch.setattr(CategoricalDistribution, "__eq__", comparing)
    of = source(sampler)
    counts = []
    for start in (21, 61):
        proposals_of(of, range(start - 20, start))
        done.clear()
        proposals_of(of, range(start, start + 20))
        counts.append(done.copy())
    early, late = counts
    for what in ("copies", "comparisons"):
        assert late[what] <= 1.3 * early[what]
