"""Surrogate search: its start, model, limits, failures, repeats and acquisition."""

from collections import Counter
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.config.quantities import Direction
from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.samplers.base import ObjectiveValues, ProposalSource
from partialnas.search.samplers.optuna_sampler import OptunaSource
from partialnas.search.samplers.surrogate_search import SurrogateSearch, hypervolume_improvement
from partialnas.search.session.run_study import run_study
from partialnas.search.study.sections import SearchSpec
from partialnas.search.study.study import Study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.search_space.space import Space

TWO: dict[str, Direction] = {"error": "min", "speed": "max"}
DATA: dict[str, Any] = {
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {
        "axes": {
            "width": list(range(8, 32, 2)),
            "parts": [2, 3],
            "mlp_ratio": {"values": [1, 2, 3], "per": "stage"},
            "pat_sp": [False, True],
        }
    },
}


def space() -> Space:
    return Space.from_data(DATA, InputSpec.square(8, 1, 10))


def hybrid(over: Space | None = None, **spec: Any) -> SurrogateSearch:
    return SurrogateSearch(
        over or space(), SearchSpec.model_validate({"sampler": "hybrid", **spec}), TWO
    )


def values(architecture: Architecture) -> dict[str, float]:
    """Wide networks have less error and are slow; MLPs cost time in all stages but help in two."""
    width = architecture.widths[0]
    hidden = [
        blocks[0].hidden / w
        for blocks, w in zip(architecture.realized, architecture.widths, strict=True)
    ]
    error = 3 - 0.08 * width - 0.1 * (hidden[0] + hidden[2])
    return {"error": error, "speed": 100 / (width + 4 * sum(hidden))}


def searched(of: ProposalSource, count: int, most_ms: float = 1e9) -> list[Architecture]:
    networks = []
    for number in range(1, count + 1):
        proposal = of.ask(number)
        assert proposal is not None
        networks.append(proposal.architecture)
        metrics = values(proposal.architecture)
        ms = 100 / metrics["speed"]
        of.tell(number, ObjectiveValues(metrics, {"ms": ms - most_ms}, {"ms": ms}))
    return networks


def hypervolume(networks: list[Architecture]) -> float:
    points = [[metrics["error"], -metrics["speed"]] for metrics in map(values, networks)]
    return float(moocore.hypervolume(np.array(points), ref=[3.0, 0.0]))


def test_its_front_is_better_than_those_of_optuna_samplers() -> None:
    theirs = [
        hypervolume(
            searched(OptunaSource(space(), SearchSpec(sampler=sampler, seed=seed), TWO), 30)
        )
        for sampler in ("random", "nsga2", "tpe")
        for seed in range(2)
    ]
    ours = [hypervolume(searched(hybrid(seed=seed), 30)) for seed in range(2)]
    assert min(ours) > max(theirs)


def test_no_network_is_proposed_twice_until_the_space_is_exhausted() -> None:
    small = {
        **DATA,
        "space": {"axes": {"width": [8, 10, 12, 14], "parts": [2, 3], "pat_sp": [0, 1]}},
    }
    small["space"]["axes"]["pat_sp"] = [False, True]
    over = Space.from_data(small, InputSpec.square(8, 1, 10))
    of = hybrid(over, population=4)
    digests = {network.digest for network in searched(of, 16)}
    assert len(digests) == 16 == over.size().networks
    assert of.ask(17) is None


def test_its_start_is_more_even_than_random_sampling() -> None:
    networks = []
    of = hybrid(population=10)
    for number in range(1, 11):  # no results: all proposals belong to the start
        proposal = of.ask(number)
        assert proposal is not None
        networks.append(proposal.architecture)
    widths = Counter(network.widths[0] // 6 for network in networks)
    assert max(widths.values()) - min(widths.values()) <= 2
    assert 4 <= sum(network.realized[0][0].pat_sp for network in networks) <= 6


def test_networks_that_violate_a_limit_are_avoided() -> None:
    networks = searched(hybrid(seed=1), 40, most_ms=45.0)
    beyond = [100 / values(network)["speed"] > 45.0 for network in networks]
    start, later = np.mean(beyond[:10]), np.mean(beyond[-16:])
    assert start > 0.3
    assert later < start / 2


def test_a_failing_region_is_avoided() -> None:
    of = hybrid(seed=2)
    fails = []
    for number in range(1, 41):
        proposal = of.ask(number)
        assert proposal is not None
        fails.append(proposal.architecture.widths[0] >= 22)
        result = ObjectiveValues(values(proposal.architecture))
        of.tell(number, None if fails[-1] else result)
    assert sum(fails[:12]) >= 3
    assert np.mean(fails[-16:]) < np.mean(fails[:12])


def test_pending_proposals_are_all_different() -> None:
    of = hybrid(seed=3)
    searched(of, 12)
    flying = [of.ask(number) for number in range(13, 21)]
    assert len({network.architecture.digest for network in flying if network}) == 8


@pytest.mark.parametrize("objectives", [{"error": "min"}, {**TWO, "params": "min"}])
def test_it_works_with_one_and_three_objectives(objectives: dict[str, Direction]) -> None:
    over = space()
    of = SurrogateSearch(over, SearchSpec(sampler="hybrid"), objectives)
    best = np.inf
    for number in range(1, 25):
        proposal = of.ask(number)
        assert proposal is not None
        metrics = values(proposal.architecture)
        metrics["params"] = float(over.cost(proposal.architecture).params)
        best = min(best, metrics["error"])
        of.tell(number, ObjectiveValues(metrics))
    widest = values(over.architecture(over.point({"width": 30, "mlp_ratio": 3, "parts": 2})))
    assert best == pytest.approx(widest["error"], abs=0.05 if len(objectives) == 1 else 1)


def test_a_study_trains_no_network_twice_and_answers_repeats_from_its_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: Counter[tuple[str, int]] = Counter()
    (tmp_path / "counting.py").write_text(
        "import os\n"
        "def trial(architecture, seed, epochs):\n"
        "    with open(os.environ['COUNTED'], 'a') as log:\n"
        "        log.write(f'{architecture.digest} {seed}\\n')\n"
        "    return {'val_nll': 1 / architecture.widths[0], 'width_macs': architecture.widths[0]}\n"
    )
    monkeypatch.setenv("COUNTED", str(tmp_path / "log"))
    axes = {"width": [8, 12, 16, 20, 24, 28], "mlp_ratio": [1, 2]}
    for sampler in ("hybrid", "nsga2", "random"):
        (tmp_path / "log").write_text("")
        plain = {
            "study": "counted",
            "task": {"data": "digits"},
            "base": DATA["base"],
            "space": {"axes": axes},
            "search": {"sampler": sampler, "population": 4},
            "trial": "counting:trial",
            "seeds": 2,
            "objectives": {"val_nll": "min", "width_macs": "min"},
            "budget": {"trials": 20},
            "executor": {"kind": "in-process"},
        }
        run_study(Study.model_validate(plain), tmp_path / sampler, base_dir=tmp_path)
        trained = Counter(
            (digest, int(seed))
            for digest, seed in map(str.split, (tmp_path / "log").read_text().splitlines())
        )
        assert set(trained.values()) == {1}
        assert len(trained) == 20
        with Ledger.open(tmp_path / sampler) as ledger:
            counts = Counter(row.digest for row in ledger.proposals())
            assert len(counts) == 10
            assert ledger.count_repeated_proposals() == sum(counts.values()) - 10
            assert sampler != "hybrid" or max(counts.values()) == 1


@given(
    objectives=st.integers(2, 4),
    size=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    grid=st.booleans(),
)
def test_the_improvement_is_the_difference_of_two_hypervolumes(
    objectives: int, size: int, seed: int, grid: bool
) -> None:
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0, 1, (size + 10, objectives))
    drawn = np.round(drawn * 4) / 4 if grid else drawn
    front, points = drawn[:size], drawn[size:] * 1.3 - 0.1
    front = front[moocore.is_nondominated(front)]
    reference = np.full(objectives, 1.05)
    before = moocore.hypervolume(front, ref=reference)
    expected = [
        moocore.hypervolume(np.vstack([front, point]), ref=reference) - before for point in points
    ]
    assert hypervolume_improvement(front, points, reference) == pytest.approx(expected, abs=1e-9)


def test_the_improvement_for_one_objective_is_the_difference() -> None:
    gains = hypervolume_improvement(
        np.array([[2.0]]), np.array([[1.5], [2.0], [3.0]]), np.array([5.0])
    )
    assert gains.tolist() == [0.5, 0.0, 0.0]
