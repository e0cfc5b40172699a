"""Problems with a known front for benchmarks/search_quality.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
from grid_space import GridSpace, Setting
from numpy.typing import NDArray
from pymoo.problems import get_problem
from tabular import Tabulated
from tabular_space import Table

from partialnas.runs.config.quantities import Direction
from partialnas.space.arch.architecture import Architecture
from partialnas.space.search_space.space import Space

Array = NDArray[np.float64]

LEVELS = 21
_SAMPLES = 1000

BI_OBJECTIVE: dict[str, Direction] = {"first": "min", "second": "min"}

TEST_PROBLEMS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("zdt1", "zdt2", "zdt3", "zdt4", "zdt6")},
    "dtlz2": {"n_var": 11, "n_obj": 2},
    "dtlz7": {"n_var": 11, "n_obj": 2},
}


@dataclass(frozen=True)
class Problem:
    """A search problem with its objectives and its true front.

    Attributes:
        name: name in the table.
        space: a `Space`, or an object with the interface that samplers use.
        objectives: objectives, all minimized.
        losses: losses of an architecture that a search sees.
        judged: losses that a result is judged by, without the noise of a single training.
        reference: reference point of the hypervolume.
        best: hypervolume of the true front.
    """

    name: str
    space: Any
    objectives: dict[str, Direction]
    losses: Callable[[Any], Array]
    judged: Callable[[Any], Array]
    reference: Array
    best: float

    def share(self, losses: list[Array]) -> float:
        """Return the hypervolume of a result as a share of the true front's."""
        return float(moocore.hypervolume(np.array(losses), ref=self.reference)) / self.best


def test_problem(name: str) -> Problem:
    """Return a problem of pymoo, with each variable on a grid that contains the optimum.

    The true front is that of the grid: every level of the first variable, the others at their
    optimum. The reference point is the worst value of each objective in 1,000 random settings.
    """
    problem = get_problem(name, **TEST_PROBLEMS[name])
    low, high = (np.array(bound, dtype=float) for bound in (problem.xl, problem.xu))

    def evaluate(levels: Array) -> Array:
        values: Array = problem.evaluate(low + (high - low) * levels / (LEVELS - 1))
        return values

    optimum = np.zeros((LEVELS, problem.n_var))
    if name in ("dtlz2", "zdt4"):
        optimum[:] = (LEVELS - 1) / 2
    optimum[:, 0] = range(LEVELS)
    front = evaluate(optimum)
    samples = np.random.default_rng(0).integers(0, LEVELS, (_SAMPLES, problem.n_var)).astype(float)
    reference = np.maximum(evaluate(samples).max(axis=0), 1.1 * front.max(axis=0))

    def losses(setting: Setting) -> Array:
        return evaluate(np.array([setting.levels], dtype=float))[0]

    return Problem(
        name=name,
        space=GridSpace(problem.n_var, LEVELS),
        objectives=BI_OBJECTIVE,
        losses=losses,
        judged=losses,
        reference=reference,
        best=float(moocore.hypervolume(front, ref=reference)),
    )


def tabular_problem(table: Tabulated, space: Space, *, epochs: int) -> Problem:
    """Return the problem of the tabular space: negative log-likelihood against speed.

    A search sees the training with the first seed; its result is judged by means over all seeds.
    The reference point is the worst value of each objective in the table.
    """
    seen = table.column("val_nll", table.seeds[0], epochs)
    means = np.mean([table.column("val_nll", seed, epochs) for seed in table.seeds], axis=0)
    times = 1 / table.networks["relative_throughput"].to_numpy(float)
    front = np.stack([means, times], axis=1)
    reference = front.max(axis=0)

    def losses_by(values: Array) -> Callable[[Architecture], Array]:
        return lambda network: np.array(
            [values[index := table.indices[network.digest]], times[index]]
        )

    return Problem(
        name="tabular",
        space=space,
        objectives=BI_OBJECTIVE,
        losses=losses_by(seen),
        judged=losses_by(means),
        reference=reference,
        best=float(moocore.hypervolume(front, ref=reference)),
    )


def problems(names: list[str], table: Tabulated | None) -> list[Problem]:
    """Return the named problems; the tabular one requires a table."""
    selected = [test_problem(name) for name in names if name != "tabular"]
    if "tabular" in names and table is not None:
        space = Table().space
        selected.append(tabular_problem(table, space, epochs=table.fidelities[-1]))
    return selected
