"""Resuming long searches: samplers read few notes of the ledger, without deep recursion."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import TrialState, create_trial

from partialnas.runs.ledger.rows import to_json
from partialnas.search.driver.scheduler import make_source
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.samplers.base import ObjectiveValues, PastProposal, Proposal, ProposalNote
from partialnas.search.samplers.optuna_history import CommonSearchSpace, FrozenTrialFactory
from partialnas.search.samplers.optuna_sampler import OptunaSource
from partialnas.search.study.study import Study

PLAIN: dict[str, Any] = {
    "study": "plain",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {
        "axes": {
            "width": [8, 12, 16, 20, 24],
            "mlp_ratio": {"values": [1, 2], "per": "stage"},
            "pat_sp": [False, True],
        }
    },
    "search": {"sampler": "nsga2", "population": 2},
    "objectives": {"val_nll": "min", "macs": "min"},
    "budget": {"trials": 1000},
}


def source(sampler: str = "nsga2") -> OptunaSource:
    plain = {**PLAIN, "search": {"sampler": sampler, "population": 2}}
    sampler_source = make_source(resolve_study(Study.model_validate(plain), Path()))
    assert isinstance(sampler_source, OptunaSource)
    return sampler_source


def reached(proposal: Proposal) -> ObjectiveValues:
    width = float(proposal.architecture.widths[0])
    return ObjectiveValues({"val_nll": 1 / width, "macs": width + 0.01 * hash(width) % 1})


def searched(count: int, sampler: str = "nsga2") -> tuple[OptunaSource, list[PastProposal]]:
    searching, history = source(sampler), []
    for number in range(1, count + 1):
        proposal = searching.ask(number)
        searching.tell(number, reached(proposal))
        history.append(PastProposal(number, proposal.note, reached(proposal)))
    return searching, history


@contextmanager
def shallow(depth: int) -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def as_the_ledger_has_it(past: PastProposal) -> PastProposal:
    return past._replace(note=ProposalNote(to_json(past.note)))


@pytest.mark.parametrize("noted", [True, False])
def test_a_resumed_search_of_many_generations_makes_the_same_proposals(noted: bool) -> None:
    going, history = searched(120)
    if not noted:  # as in ledgers of older versions
        notes = [{k: v for k, v in past.note.items() if k != "parents"} for past in history]
        history = [past._replace(note=note) for past, note in zip(history, notes, strict=True)]
    history = [*map(as_the_ledger_has_it, history)]
    resumed = source()
    with shallow(250):
        resumed.rebuild(history)
        for number in range(121, 131):
            after = resumed.ask(number)
            assert after.architecture.digest == going.ask(number).architecture.digest
            for each in (going, resumed):
                each.tell(number, reached(after))


@pytest.mark.parametrize("sampler", ["random", "quasi-random", "nsga2", "tpe"])
def test_a_resumed_search_receives_results_of_open_proposals(sampler: str) -> None:
    going, history = searched(25, sampler)
    waiting, *_ = going.ask(26), going.ask(27)
    history.append(PastProposal(26, waiting.note, None, is_open=True))
    history.append(PastProposal(27, {**waiting.note, "asked": 27}, None))
    resumed = source(sampler)
    resumed.rebuild([*map(as_the_ledger_has_it, history)])
    resumed.tell(26, reached(waiting))
    with pytest.raises(KeyError):
        resumed.tell(27, reached(waiting))
    assert resumed.ask(28).architecture.digest


def test_created_trials_equal_those_of_optuna() -> None:
    kinds = {"a": CategoricalDistribution((1, 2)), "b": CategoricalDistribution(("x", "y"))}
    note = {
        "params": {"a": 1, "b": "y"},
        "system_attrs": {"mark": 7},
    }
    trial_of_note = FrozenTrialFactory({**kinds, "c": CategoricalDistribution((1,))}).create_trial(
        note, TrialState.COMPLETE, [1.0, 2.0]
    )
    theirs = create_trial(
        values=[1.0, 2.0],
        params={"a": 1, "b": "y"},
        distributions=kinds,
        system_attrs={"mark": 7},
    )
    for name in ("params", "distributions", "system_attrs", "values", "state", "user_attrs"):
        assert getattr(trial_of_note, name) == getattr(theirs, name)
    trial_of_note._validate()


def test_the_common_search_space_equals_that_of_optuna() -> None:
    everything = {name: CategoricalDistribution((1, 2)) for name in "abcd"}
    study, ours, remembered = (
        optuna.create_study(),
        CommonSearchSpace(everything),
        CommonSearchSpace(everything),
    )
    names = [("a", "b", "c"), ("b", "a"), ("a", "b", "d"), ("b", "c", "a")]
    for each in names:
        kinds = {name: everything[name] for name in each}
        trial = create_trial(value=0.0, params=dict.fromkeys(each, 1), distributions=dict(kinds))
        study.add_trial(trial)
        ours.add(trial.params)
        remembered.add_note(ProposalNote(to_json({"params": trial.params, "asked": 1})))
        common = IntersectionSearchSpace().calculate(study)
        assert ours.calculate(study) == remembered.calculate(study) == common
