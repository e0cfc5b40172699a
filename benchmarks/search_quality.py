"""Fronts that samplers find on problems with a known front: `python benchmarks/search_quality.py`.

Our sources run beside Optuna's samplers driven directly, all on the same problems with the same
number of evaluations and the same seeds. Test problems are pymoo's ZDT and DTLZ with two
objectives, each variable on 21 levels; Optuna gets variables and ordered axes as integers, which
tells it more than the labels that a study gives. The tabular space is that of tabular_space.py.
Told is the hypervolume as a share of the true front's, median over seeds [quartiles], and how
often on average an evaluation repeated one made before.
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
_MOST_REPEATS = 20  # in a row, after which a study explores (search.feed)

OURS: tuple[str, ...] = (
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
    """Proposes networks one after another, and is told what each reached."""

    def ask(self) -> Any:
        """The next network."""

    def tell(self, losses: Array) -> None:
        """What it reached."""


class OurSearch:
    """A source as a study drives it: what is known is told again at once, and not evaluated."""

    def __init__(self, sampler: str, problem: Problem, seed: int) -> None:
        spec = SearchSpec(sampler=sampler, seed=seed)
        make = _EVOLUTIONS.get(sampler, OptunaSource)
        self._source: ProposalSource = make(problem.space, spec, problem.objectives)
        self._names = list(problem.objectives)
        self._known: dict[str, ObjectiveValues] = {}
        self._number = 0
        self._digest = ""

    def ask(self) -> Any:
        """The next network that is not known."""
        for repeat in range(10 * _MOST_REPEATS):
            self._number += 1
            if repeat < _MOST_REPEATS:
                proposal = self._source.ask(self._number)
            else:
                proposal = self._source.explore(self._number, self._known)
            if proposal is None:
                return None
            self._digest = proposal.architecture.digest
            if self._digest not in self._known:
                return proposal.architecture
            self._source.tell(self._number, self._known[self._digest])
        return None

    def tell(self, losses: Array) -> None:
        """What it reached."""
        reached = ObjectiveValues(dict(zip(self._names, map(float, losses), strict=True)))
        self._known[self._digest] = reached
        self._source.tell(self._number, reached)


class OptunaSearch:
    """An Optuna sampler driven directly; ordered choices are integers.

    Points that cannot be built cost no evaluation: they are told to be as bad as the reference
    point, so that the sampler leaves them alone.
    """

    def __init__(self, name: str, problem: Problem, seed: int) -> None:
        directions = ["minimize" for _ in problem.objectives]
        self._study = optuna.create_study(directions=directions, sampler=OPTUNA[name](seed))
        self._space = problem.space
        self._worst = [*map(float, problem.reference)]
        self._ordered = {choice.name for choice in problem.space.choices if is_ordinal(choice)}

    def ask(self) -> Any:
        """The next network, whether it is known or not."""
        while True:
            self._trial = self._study.ask()
            point = self._space.suggest(self)
            if self._space.contains(point):
                return self._space.architecture(point)
            self._study.tell(self._trial, self._worst)

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        """One of the choices, as the space asks for it."""
        if name in self._ordered:
            return choices[self._trial.suggest_int(name, 0, len(choices) - 1)]
        return self._trial.suggest_categorical(name, choices)

    def tell(self, losses: Array) -> None:
        """What it reached."""
        self._study.tell(self._trial, list(map(float, losses)))


@dataclass(frozen=True)
class Task:
    """One search: which sampler, on which problem, from which seed, how long."""

    sampler: str
    problem: str
    seed: int
    evaluations: int
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What came of a search: shares of the true hypervolume, and evaluations that repeated one."""

    shares: dict[int, float]
    repeats: int


@cache
def problem_of(name: str, folder: Path) -> Problem:
    table = Tabulated.read(folder) if name == "tabular" else None
    (found,) = problems([name], table)
    return found


def search(task: Task) -> Outcome:
    """One search from its first evaluation to its last; a space that is used up ends it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    problem = problem_of(task.problem, task.folder)
    make = OptunaSearch if task.sampler in OPTUNA else OurSearch
    running: Search = make(task.sampler, problem, task.seed)  # type: ignore[arg-type]
    found: dict[str, Array] = {}
    shares: dict[int, float] = {}
    repeats = 0
    for number in range(1, task.evaluations + 1):
        network = running.ask()
        if network is not None:
            repeats += network.digest in found
            found[network.digest] = problem.judged(network)
            running.tell(problem.losses(network))
        if number in SHOWN or number == task.evaluations:
            shares[number] = problem.share(list(found.values()))
    return Outcome(shares, repeats)


def told(outcomes: Sequence[Outcome], at: int) -> str:
    values = [outcome.shares[at] for outcome in outcomes]
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{median:.3f} [{low:.3f}, {high:.3f}]"


def rows(asked: argparse.Namespace) -> Iterator[str]:
    """The lines of the table, those of a problem as soon as they are known."""
    shown = [at for at in SHOWN if at < asked.evaluations] + [asked.evaluations]
    yield f"| problem | | {' | '.join(asked.samplers)} |"
    yield "|---|---|" + "---|" * len(asked.samplers)
    with ProcessPoolExecutor(asked.processes) as pool:
        for problem in asked.problems:
            tasks = [
                Task(sampler, problem, seed, asked.evaluations, asked.data)
                for sampler in asked.samplers
                for seed in range(asked.seeds)
            ]
            found = [*pool.map(search, tasks)]
            outcomes = [found[at : at + asked.seeds] for at in range(0, len(found), asked.seeds)]
            for at in shown:
                cells = [told(each, at) for each in outcomes]
                yield f"| {problem} | after {at} | {' | '.join(cells)} |"
            repeats = [f"{np.mean([each.repeats for each in alike]):.1f}" for alike in outcomes]
            yield f"| | repeats | {' | '.join(repeats)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    everything = [*TEST_PROBLEMS, "tabular"]
    parser.add_argument("--problems", nargs="+", choices=everything, default=everything)
    parser.add_argument("--samplers", nargs="+", choices=[*OURS, "gp", *OPTUNA])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=SHOWN[-1])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the table")
    parser.add_argument("--quick", action="store_true", help="3 seeds, 50 evaluations")
    asked = parser.parse_args()
    asked.samplers = asked.samplers or [*OURS, *OPTUNA]
    if asked.quick:
        asked.seeds, asked.evaluations = 3, 50
    for line in rows(asked):
        print(line, flush=True)


if __name__ == "__main__":
    main()
