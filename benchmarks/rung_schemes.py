"""Agreement of short training runs with full ones: `python benchmarks/rung_schemes.py`.

From the table of tabular_space.py, for three kinds of short training: a complete schedule of its
own, the curve of the long training at the same epoch, and a constant rate with a cool-down.
First prints Kendall's tau between the short training and the full one with another seed, with that
of two full trainings (an upper bound in practice) and that of MACs; intervals are bootstrapped over
networks. Then prints the result of successive halving with each of them: the hypervolume of its
fully trained networks as a share of the best, after a share of the time that training all networks
in full would take. The time of a network is its epochs divided by its relative throughput.
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
        name: name in the tables.
        schedule: learning-rate schedule of its trainings.
        short: returns a quantity of all networks after the short training with a seed.
        first: epochs of the short training.
        rest: further epochs of the full training.
        seeds: seeds in the table.
    """

    name: str
    schedule: str
    short: Callable[[str, int], Array]
    first: float
    rest: float
    seeds: tuple[int, ...]


def schemes_of(table: Tabulated) -> list[Scheme]:
    """Return the kinds of short training in the table."""
    few, many = table.fidelities[0], table.fidelities[-1]
    seeds = tuple(table.seeds)
    schemes = [
        Scheme("own schedule", ONE_CYCLE, lambda q, s: table.column(q, s, few), few, many, seeds),
        Scheme(
            "curve of the full training",
            ONE_CYCLE,
            lambda q, s: table.column(f"{q}_{few}", s, many),
            few,
            many - few,
            seeds,
        ),
    ]
    constant = table.trials[table.trials["schedule"] == TRAPEZOID]
    if len(constant):
        schemes.append(
            Scheme(
                "constant, cool-down",
                TRAPEZOID,
                lambda q, s: table.column(q, s, few, TRAPEZOID),
                few,
                many - Recipe(schedule="trapezoid", cool_down=COOL_DOWN).trunk_epochs(few),
                tuple(sorted({*constant["seed"]})),
            )
        )
    return schemes


def agreement(
    table: Tabulated, proxies: dict[int, Array], quantity: str, subset: Array | None = None
) -> float:
    """Return the mean tau of proxies with full trainings of all other seeds."""
    rows = slice(None) if subset is None else subset
    taus = [
        kendalltau(proxy[rows], table.column(quantity, other, table.fidelities[-1])[rows]).statistic
        for seed, proxy in proxies.items()
        for other in table.seeds
        if other != seed
    ]
    return float(np.mean(taus))


def tau_rows(table: Tabulated, repeats: int) -> Iterator[str]:
    """Yield the table of rank agreement."""
    yield "| short training | tau of val_nll | tau of val_accuracy |"
    yield "|---|---|---|"
    few, many = table.fidelities[0], table.fidelities[-1]
    macs = table.networks["macs"].to_numpy(float)
    for name, proxies in (
        *((f"{s.name}, {few} of {many} epochs", _proxies(s)) for s in schemes_of(table)),
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
    samples = [
        agreement(table, proxies, quantity, rng.integers(0, count, count)) for _ in range(repeats)
    ]
    low, high = np.percentile(samples, [2.5, 97.5])
    return f"{agreement(table, proxies, quantity):.2f} [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True)
class Halving:
    """Losses and costs of successive halving by index of the network.

    Attributes:
        short: loss after the short training, or None to train every network in full.
        times: time of an epoch, which is also the second loss.
        first: epochs of the short training.
        rest: further epochs of the full training.
    """

    short: Array | None
    times: Array
    first: float
    rest: float

    def run(self, order: Sequence[int], budget: float) -> Iterator[tuple[float, int]]:
        """Yield the time spent so far and each network that has been trained in full."""
        spent = 0.0
        seen: list[int] = []
        promoted: set[int] = set()
        for network in order:
            if self.short is None:
                spent += self.rest * self.times[network]
                yield spent, network
            else:
                spent += self.first * self.times[network]
                seen.append(network)
                for good in self._best(seen):
                    if good not in promoted:
                        promoted.add(good)
                        spent += self.rest * self.times[good]
                        yield spent, good
            if spent > budget:
                return

    def _best(self, seen: list[int]) -> list[int]:
        """Return the networks to promote, by rank of domination and order of appearance."""
        if len(seen) < ETA:
            return []
        assert self.short is not None
        points = np.stack([self.short[seen], self.times[seen]], axis=1)
        ranks = moocore.pareto_rank(points)
        order = np.lexsort((np.arange(len(seen)), ranks))
        return [seen[index] for index in order[: len(seen) // ETA]]


def halving_rows(table: Tabulated, orders: int) -> Iterator[str]:
    """Yield the table of results of successive halving."""
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
        for s in schemes_of(table)
    ]
    yield f"| short training | {' | '.join(f'after {share:.0%}' for share in SHARES)} |"
    yield "|---|" + "---|" * len(SHARES)
    for name, halvings in runs:
        shares = np.array(
            [
                _hypervolumes(halving, truth, reference, total, number) / best
                for halving in halvings
                for number in range(orders)
            ]
        )
        cells = [
            "{1:.3f} [{0:.3f}, {2:.3f}]".format(*np.percentile(column, [25, 50, 75]))
            for column in shares.T
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def _hypervolumes(
    halving: Halving, truth: Array, reference: Array, total: float, number: int
) -> Array:
    """Return the hypervolume after each share of the total time, for a random order of networks."""
    order = np.random.default_rng(number).permutation(len(truth))
    trained = list(halving.run([int(index) for index in order], SHARES[-1] * total))
    hypervolumes = []
    for share in SHARES:
        done = [network for spent, network in trained if spent <= share * total]
        hypervolumes.append(moocore.hypervolume(truth[done], ref=reference) if done else 0.0)
    return np.array(hypervolumes, dtype=float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the table")
    parser.add_argument("--repeats", type=int, default=500, help="bootstrap samples")
    parser.add_argument("--orders", type=int, default=100, help="random orders of the networks")
    options = parser.parse_args()
    table = Tabulated.read(options.data)
    for line in (*tau_rows(table, options.repeats), "", *halving_rows(table, options.orders)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
