"""Simulated studies with known means, used by benchmarks/coverage_study.py in place of training.

Residuals are normal, or drawn from a pool of real ones, benchmarks/data/seed_pool.csv, written by

    partialnas run search/studies/seed-pool.yaml --out results/seed-pool
    partialnas export results/seed-pool -o results/seed-pool/trials.csv
    python benchmarks/simulated_arms.py results/seed-pool/trials.csv
"""

import csv
import json
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

import numpy as np

from partialnas.analysis.stats import multiple_comparisons as contrasts
from partialnas.analysis.stats.multiple_comparisons import detectable

POOL = Path(__file__).parent / "data" / "seed_pool.csv"
VARIABLE = "PARTIALNAS_COVERAGE"

Noise = Literal["normal", "unequal", "val_accuracy", "val_nll"]
Numbers = dict[str, dict[int, float]]


@dataclass(frozen=True)
class Simulated:
    """Studies with known means.

    Attributes:
        noise: distribution of residuals: normal, normal with one arm three times as wide, or
            resampled from the pool's column of that name.
        arms: number of arms, including the baseline.
        seeds: number of seeds of every arm.
        check: significance level of the check of equal variances.
    """

    noise: Noise
    arms: int
    seeds: int
    check: float = contrasts.UNEQUAL_BELOW

    @property
    def deviation(self) -> float:
        """True standard deviation between seeds."""
        return 0.4 if self.noise in ("normal", "unequal") else stdev(pool(self.noise))

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of every other arm and the baseline."""
        return [(name(arm), name(0)) for arm in range(1, self.arms)]

    @cached_property
    def truths(self) -> list[float]:
        """True differences of the pairs: detectable ones of both signs alternate with zeros."""
        step = detectable(self.deviation, self.arms - 1, self.arms, self.seeds)
        return [(step, 0.0, -step, 0.0)[i % 4] for i in range(self.arms - 1)]

    def value(self, number: int, arm: int, seed: int) -> float:
        """Return the value of an arm with a seed in a study."""
        stream = (number, self.arms, self.seeds, seed)
        block = 2 * self.deviation * np.random.default_rng([*stream, 0]).normal()
        truth = [0.0, *self.truths][arm]
        return 90 + truth + block + self._residual(np.random.default_rng([*stream, 1 + arm]), arm)

    def _residual(self, draw: np.random.Generator, arm: int) -> float:
        if self.noise in ("normal", "unequal"):
            factor = 3 if self.noise == "unequal" and arm == self.arms - 1 else 1
            return factor * self.deviation * float(draw.normal())
        return float(draw.choice(pool(self.noise)))

    def numbers(self, number: int, seeds: Iterable[int] | None = None) -> Numbers:
        """Return all values of a study by arm and seed."""
        seeds = list(range(self.seeds) if seeds is None else seeds)
        return {name(a): {s: self.value(number, a, s) for s in seeds} for a in range(self.arms)}


@lru_cache
def pool(column: str) -> tuple[float, ...]:
    """Return the residuals of the pool, scaled so that their variance is unbiased."""
    with POOL.open() as file:
        values = [float(row[column]) for row in csv.DictReader(file)]
    scale = math.sqrt(len(values) / (len(values) - 1))
    return tuple(scale * (value - fmean(values)) for value in values)


def name(arm: int) -> str:
    return f"arm-{arm}"


def trial(architecture: object, seed: int, epochs: int) -> dict[str, float]:  # noqa: ARG001
    """Return the simulated value; the width gives the arm, the environment the study."""
    settings = json.loads(os.environ[VARIABLE])
    number = settings.pop("number")
    arm = architecture.widths[0] // 4 - 1  # type: ignore[attr-defined]
    return {"val_accuracy": Simulated(**settings).value(number, arm, seed)}


COLUMNS = ("data", "name", "digest", "fidelity", "trained_on", "seed", "val_accuracy", "val_nll")
COLUMNS += ("test_accuracy", "test_nll")


def write_pool(exported: Path) -> None:
    """Write the needed columns of a study's exported trials as the pool."""
    with exported.open() as file, POOL.open("w", newline="") as output:
        writer = csv.DictWriter(output, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(csv.DictReader(file), key=lambda row: int(row["seed"])))


if __name__ == "__main__":
    write_pool(Path(sys.argv[1]))
