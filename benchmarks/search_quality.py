"""Quality of samplers on problems with a known front: `python benchmarks/search_quality.py`.

The package's samplers are compared with Optuna's samplers used directly, on the same problems with
the same number of evaluations and the same seeds. Test problems are pymoo's ZDT and DTLZ with two
objectives and 21 levels per variable; Optuna gets variables and ordered axes as integers, which is
more information than the labels of a study. The tabular space is that of tabular_space.py. Prints
the hypervolume as a share of the true front's, median over seeds [quartiles], and the mean number
of evaluations that repeated an earlier one.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from quality_problems import TEST_PROBLEMS, Problem, problems
from tabular import DATA, Tabulated

from partialnas.analysis.stats.gaussian_process import is_ordinal
from partialnas.search.samplers.base import ObjectiveValues, ProposalSource
from partialnas.search.samplers.evolution import AgingEvolution, FrontEvolution
from partialnas.search.samplers.optuna_sampler import OptunaSource
from partialnas.search.samplers.surrogate_search import SurrogateSearch
from partialnas.search.study.sections import SearchSpec

Array = NDArray[np.float64]

SHOWN = (100, 200)
_MAX_REPEATS = 20  # in a row, after which a study explores (see search.driver.scheduler)

SAMPLERS: tuple[str, ...] = (
    "hybrid",
    "front-evolution",
    "evolution",
    "nsga2",
    "tpe",
    "quasi-random",
    "random",
)
_EVOLUTIONS = {
    "evolution": AgingEvolution,
    "front-evolution": FrontEvolution,
    "hybrid": SurrogateSearch,
}

OPTUNA: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "Optuna random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "Optuna TPE": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "Optuna NSGA-II": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
}


class Search(Protocol):
    """A sampler with one proposal at a time."""

    def ask(self) -> Any:
        """Return the next network."""

    def tell(self, losses: Array) -> None:
        """Report the losses of the proposed network."""


class PackageSearch:
    """A sampler as used by a study: repeated networks are not evaluated again."""

    def __init__(self, sampler: str, problem: Problem, seed: int) -> None:
        spec = SearchSpec(sampler=sampler, seed=seed)
        make = _EVOLUTIONS.get(sampler, OptunaSource)
        self._source: ProposalSource = make(problem.space, spec, problem.objectives)
        self._names = list(problem.objectives)
        self._evaluated: dict[str, ObjectiveValues] = {}
        self._number = 0
        self._digest = ""

    def ask(self) -> Any:
        """Return the next network that was not evaluated before, or None."""
        for repeat in range(10 * _MAX_REPEATS):
            self._number += 1
            if repeat < _MAX_REPEATS:
                proposal = self._source.ask(self._number)
            else:
                proposal = self._source.explore(self._number, self._evaluated)
            if proposal is None:
                return None
            self._digest = proposal.architecture.digest
            if self._digest not in self._evaluated:
                return proposal.architecture
            self._source.tell(self._number, self._evaluated[self._digest])
        return None

    def tell(self, losses: Array) -> None:
        """Report the losses of the proposed network."""
        values = ObjectiveValues(dict(zip(self._names, map(float, losses), strict=True)))
        self._evaluated[self._digest] = values
        self._source.tell(self._number, values)


class OptunaSearch:
    """An Optuna sampler used directly; ordered choices are integers.

    Points that cannot be built cost no evaluation: their losses are those of the reference point,
    so that the sampler avoids them.
    """

    def __init__(self, name: str, problem: Problem, seed: int) -> None:
        directions = ["minimize" for _ in problem.objectives]
        self._study = optuna.create_study(directions=directions, sampler=OPTUNA[name](seed))
        self._space = problem.space
        self._worst = [*map(float, problem.reference)]
        self._ordered = {choice.name for choice in problem.space.choices if is_ordinal(choice)}

    def ask(self) -> Any:
        """Return the next network, which may repeat an earlier one."""
        while True:
            self._trial = self._study.ask()
            point = self._space.suggest(self)
            if self._space.contains(point):
                return self._space.architecture(point)
            self._study.tell(self._trial, self._worst)

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        """Suggest one of the choices for the space."""
        if name in self._ordered:
            return choices[self._trial.suggest_int(name, 0, len(choices) - 1)]
        return self._trial.suggest_categorical(name, choices)

    def tell(self, losses: Array) -> None:
        """Report the losses of the proposed network."""
        self._study.tell(self._trial, list(map(float, losses)))


@dataclass(frozen=True)
class SearchRun:
    """One search."""

    sampler: str
    problem: str
    seed: int
    evaluations: int
    folder: Path


@dataclass(frozen=True)
class SearchResult:
    """Result of a search: shares of the true hypervolume, and number of repeated evaluations."""

    shares: dict[int, float]
    repeats: int


@cache
def problem_of(name: str, folder: Path) -> Problem:
    table = Tabulated.read(folder) if name == "tabular" else None
    (problem,) = problems([name], table)
    return problem


def search(run: SearchRun) -> SearchResult:
    """Run one search; an exhausted space adds no further networks."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    problem = problem_of(run.problem, run.folder)
    make = OptunaSearch if run.sampler in OPTUNA else PackageSearch
    searching: Search = make(run.sampler, problem, run.seed)  # type: ignore[arg-type]
    judged: dict[str, Array] = {}
    shares: dict[int, float] = {}
    repeats = 0
    for number in range(1, run.evaluations + 1):
        network = searching.ask()
        if network is not None:
            repeats += network.digest in judged
            judged[network.digest] = problem.judged(network)
            searching.tell(problem.losses(network))
        if number in SHOWN or number == run.evaluations:
            shares[number] = problem.share(list(judged.values()))
    return SearchResult(shares, repeats)


def summary(results: Sequence[SearchResult], at: int) -> str:
    values = [result.shares[at] for result in results]
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{median:.3f} [{low:.3f}, {high:.3f}]"


def rows(options: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table problem by problem."""
    shown = [at for at in SHOWN if at < options.evaluations] + [options.evaluations]
    yield f"| problem | | {' | '.join(options.samplers)} |"
    yield "|---|---|" + "---|" * len(options.samplers)
    with ProcessPoolExecutor(options.processes) as pool:
        for problem in options.problems:
            runs = [
                SearchRun(sampler, problem, seed, options.evaluations, options.data)
                for sampler in options.samplers
                for seed in range(options.seeds)
            ]
            results = [*pool.map(search, runs)]
            groups = [
                results[at : at + options.seeds] for at in range(0, len(results), options.seeds)
            ]
            for at in shown:
                cells = [summary(group, at) for group in groups]
                yield f"| {problem} | after {at} | {' | '.join(cells)} |"
            repeats = [f"{np.mean([result.repeats for result in group]):.1f}" for group in groups]
            yield f"| | repeats | {' | '.join(repeats)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    everything = [*TEST_PROBLEMS, "tabular"]
    parser.add_argument("--problems", nargs="+", choices=everything, default=everything)
    parser.add_argument("--samplers", nargs="+", choices=[*SAMPLERS, "gp", *OPTUNA])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=SHOWN[-1])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the table")
    parser.add_argument("--quick", action="store_true", help="3 seeds, 50 evaluations")
    options = parser.parse_args()
    options.samplers = options.samplers or [*SAMPLERS, *OPTUNA]
    if options.quick:
        options.seeds, options.evaluations = 3, 50
    for line in rows(options):
        print(line, flush=True)


if __name__ == "__main__":
    main()
