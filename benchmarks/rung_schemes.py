"""How well short trainings say which networks are good: `python benchmarks/rung_schemes.py`.

From the table of tabular_space.py, for three kinds of short training: a complete schedule of its
own, the long training's curve read at the same epoch, and a constant rate with a cool-down.
First Kendall's tau between the short training and the full one with another seed, beside that of
two full trainings (nothing can be much above it) and that of MACs alone; the intervals are of a
bootstrap over networks. Then what successive halving finds with each of them: the hypervolume of
its fully trained networks as a share of the best, after a share of the time that training all
networks in full would take. A network's time is its epochs over its relative throughput.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau
from tabular import DATA, ONE_CYCLE, TRAPEZOID, Tabulated

from partialnas.runs.config.recipe import Recipe

Array = NDArray[np.float64]

COOL_DOWN = 0.25
SHARES = (0.05, 0.1, 0.2, 0.4)
ETA = 3


@dataclass(frozen=True)
class Scheme:
    """One kind of short training.

    Attributes:
        name: as the tables say it.
        schedule: of the trainings that it needs.
        short: the quantity of all networks after the short training, by quantity and seed.
        first: epochs that the short training costs.
        rest: epochs that going on to the full training costs.
        seeds: with which the table has it.
    """

    name: str
    schedule: str
    short: Callable[[str, int], Array]
    first: float
    rest: float
    seeds: tuple[int, ...]


def schemes(table: Tabulated) -> list[Scheme]:
    """The kinds of short training that the table has."""
    few, many = table.fidelities[0], table.fidelities[-1]
    seeds = tuple(table.seeds)
    found = [
        Scheme("own schedule", ONE_CYCLE, lambda q, s: table.column(q, s, few), few, many, seeds),
        Scheme(
            "read off the long one",
            ONE_CYCLE,
            lambda q, s: table.column(f"{q}_{few}", s, many),
            few,
            many - few,
            seeds,
        ),
    ]
    constant = table.trials[table.trials["schedule"] == TRAPEZOID]
    if len(constant):
        found.append(
            Scheme(
                "constant, cool-down",
                TRAPEZOID,
                lambda q, s: table.column(q, s, few, TRAPEZOID),
                few,
                many - Recipe(schedule="trapezoid", cool_down=COOL_DOWN).trunk_epochs(few),
                tuple(sorted({*constant["seed"]})),
            )
        )
    return found


def agreement(
    table: Tabulated, proxies: dict[int, Array], quantity: str, picked: Array | None = None
) -> float:
    """Mean tau of proxies with the full trainings of all other seeds, over the picked networks."""
    rows = slice(None) if picked is None else picked
    taus = [
        kendalltau(proxy[rows], table.column(quantity, other, table.fidelities[-1])[rows]).statistic
        for seed, proxy in proxies.items()
        for other in table.seeds
        if other != seed
    ]
    return float(np.mean(taus))


def tau_rows(table: Tabulated, repeats: int) -> Iterator[str]:
    """The table of rank agreement."""
    yield "| short training | tau of val_nll | tau of val_accuracy |"
    yield "|---|---|---|"
    few, many = table.fidelities[0], table.fidelities[-1]
    macs = table.networks["macs"].to_numpy(float)
    for name, proxies in (
        *((f"{s.name}, {few} of {many} epochs", _proxies(s)) for s in schemes(table)),
        (
            f"another seed, {many} epochs",
            lambda q: {s: table.column(q, s, many) for s in table.seeds},
        ),
        ("MACs alone", lambda q: {-1: -macs if q == "val_nll" else macs}),
    ):
        cells = [
            _with_interval(table, proxies(quantity), quantity, repeats)
            for quantity in ("val_nll", "val_accuracy")
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def _proxies(scheme: Scheme) -> Callable[[str], dict[int, Array]]:
    return lambda quantity: {seed: scheme.short(quantity, seed) for seed in scheme.seeds}


def _with_interval(table: Tabulated, proxies: dict[int, Array], quantity: str, repeats: int) -> str:
    rng = np.random.default_rng(0)
    count = len(table.networks)
    drawn = [
        agreement(table, proxies, quantity, rng.integers(0, count, count)) for _ in range(repeats)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{agreement(table, proxies, quantity):.2f} [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True)
class Halving:
    """What successive halving sees and pays, by index of the network.

    Attributes:
        short: loss after the short training; none where every network is trained in full.
        times: loss of speed, and what an epoch costs.
        first: epochs of the short training.
        rest: epochs from there to the full training.
    """

    short: Array | None
    times: Array
    first: float
    rest: float

    def run(self, order: Sequence[int], budget: float) -> Iterator[tuple[float, int]]:
        """Spent so far, and the network that has been trained in full."""
        spent = 0.0
        seen: list[int] = []
        gone: set[int] = set()
        for network in order:
            if self.short is None:
                spent += self.rest * self.times[network]
                yield spent, network
            else:
                spent += self.first * self.times[network]
                seen.append(network)
                for good in self._best(seen):
                    if good not in gone:
                        gone.add(good)
                        spent += self.rest * self.times[good]
                        yield spent, good
            if spent > budget:
                return

    def _best(self, seen: list[int]) -> list[int]:
        """The share of the networks that goes on: by domination, the first seen first."""
        if len(seen) < ETA:
            return []
        assert self.short is not None
        points = np.stack([self.short[seen], self.times[seen]], axis=1)
        ranks = moocore.pareto_rank(points)
        order = np.lexsort((np.arange(len(seen)), ranks))
        return [seen[each] for each in order[: len(seen) // ETA]]


def halving_rows(table: Tabulated, orders: int) -> Iterator[str]:
    """The table of what successive halving finds."""
    many = table.fidelities[-1]
    times = 1 / table.networks["relative_throughput"].to_numpy(float)
    means = np.mean([table.column("val_nll", seed, many) for seed in table.seeds], axis=0)
    truth = np.stack([means, times], axis=1)
    reference = truth.max(axis=0)
    best = float(moocore.hypervolume(truth, ref=reference))
    total = many * float(times.sum())
    runs: list[tuple[str, list[Halving]]] = [("all in full", [Halving(None, times, 0, many)])]
    runs += [
        (s.name, [Halving(s.short("val_nll", seed), times, s.first, s.rest) for seed in s.seeds])
        for s in schemes(table)
    ]
    yield f"| short training | {' | '.join(f'after {share:.0%}' for share in SHARES)} |"
    yield "|---|" + "---|" * len(SHARES)
    for name, halvings in runs:
        found = np.array(
            [
                _shares(halving, truth, reference, total, number) / best
                for halving in halvings
                for number in range(orders)
            ]
        )
        cells = [
            "{1:.3f} [{0:.3f}, {2:.3f}]".format(*np.percentile(column, [25, 50, 75]))
            for column in found.T
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def _shares(halving: Halving, truth: Array, reference: Array, total: float, number: int) -> Array:
    """Hypervolume after each share of the total time; networks come in a random order."""
    order = np.random.default_rng(number).permutation(len(truth))
    trained = list(halving.run([int(each) for each in order], SHARES[-1] * total))
    reached = []
    for share in SHARES:
        done = [network for spent, network in trained if spent <= share * total]
        reached.append(moocore.hypervolume(truth[done], ref=reference) if done else 0.0)
    return np.array(reached, dtype=float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the table")
    parser.add_argument("--repeats", type=int, default=500, help="of the bootstrap")
    parser.add_argument("--orders", type=int, default=100, help="random orders of the networks")
    asked = parser.parse_args()
    table = Tabulated.read(asked.data)
    for line in (*tau_rows(table, asked.repeats), "", *halving_rows(table, asked.orders)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
