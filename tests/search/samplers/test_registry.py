"""The table of samplers, and a sampler registered from outside the package."""

import random
import subprocess
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from partialnas.runs.config.quantities import Direction
from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.samplers.base import ObjectiveValues, PastProposal, Proposal, proposal_rng
from partialnas.search.samplers.registry import SAMPLERS, register_sampler
from partialnas.search.session.run_study import run_study
from partialnas.search.study.sections import SearchSpec
from partialnas.search.study.study import Study
from partialnas.space.search_space.space import Space

HERE = Path(__file__).parents[1]


class ToySampler:
    """A random sampler that stores the numbers of its results."""

    def __init__(
        self, space: Space, settings: SearchSpec, objectives: Mapping[str, Direction]
    ) -> None:
        self.space, self.seed, self.objectives = space, settings.seed, objectives
        self.results: list[int] = []

    def ask(self, number: int) -> Proposal | None:
        rng: random.Random = proposal_rng(self.seed, number)
        return Proposal(self.space.architecture(self.space.sample(rng)))

    def explore(self, number: int, seen: Container[str]) -> Proposal | None:  # noqa: ARG002
        return None

    def tell(self, number: int, result: ObjectiveValues | None) -> None:  # noqa: ARG002
        self.results.append(number)

    def rebuild(self, history: Sequence[PastProposal]) -> None:
        self.results += [past.number for past in history]


@pytest.fixture
def toy() -> Iterator[list[ToySampler]]:
    created: list[ToySampler] = []

    def create(space: Space, settings: Any, objectives: Mapping[str, Direction]) -> ToySampler:
        created.append(ToySampler(space, settings, objectives))
        return created[-1]

    register_sampler("toy", create, uses_results=False)
    yield created
    del SAMPLERS["toy"]


def study(sampler: str, **changes: Any) -> Study:
    plain: dict[str, Any] = {
        "study": "toy",
        "task": {"data": "digits"},
        "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
        "space": {"axes": {"width": [8, 16, 24, 32, 40]}},
        "search": {"sampler": sampler},
        "objectives": {"val_nll": "min"},
        "budget": {"trials": 3},
        "executor": {"kind": "in-process"},
        "trial": "simulated:plain",
    }
    return Study.model_validate({**plain, **changes})


def test_a_registered_sampler_runs_a_study(toy: list[ToySampler], tmp_path: Path) -> None:
    run_study(study("toy"), tmp_path, base_dir=HERE, console=Console(quiet=True))
    with Ledger.open(tmp_path) as ledger:
        assert ledger.state_counts()["done"] == 3
    (sampler,) = toy
    assert len(sampler.results) >= 3
    assert sampler.objectives == {"val_nll": "min"}


def test_study_validation_knows_whether_a_registered_sampler_uses_results(
    toy: list[ToySampler],  # noqa: ARG001
) -> None:
    changes = {"objectives": {"latency_ms": "min"}, "measure": {"when": "after"}, "trial": None}
    assert study("toy", **changes).search is not None
    with pytest.raises(ValueError, match="latency_ms"):
        study("nsga2", **changes)


def test_an_unknown_sampler_is_refused_with_the_names_of_the_table() -> None:
    with pytest.raises(ValueError, match=r"'hybrid', 'random', .* or 'front-evolution'"):
        study("toy")
    with pytest.raises(ValueError, match="'hybrid'"):
        SearchSpec.model_validate({"sampler": 3})


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'tpe' is registered already"):
        register_sampler("tpe", ToySampler)


def test_options_are_settings_of_the_search_section() -> None:
    options = {option for entry in SAMPLERS.values() for option in entry.options}
    assert options <= SearchSpec.model_fields.keys()


def test_reading_a_study_imports_no_sampler() -> None:
    code = "import partialnas.search.study.study, sys; print('optuna' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "False", process.stderr
