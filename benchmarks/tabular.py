"""Table of trained networks with their curves, and a trial function that looks results up.

A study in this folder with `trial: tabular:lookup` searches the space of tabular_space.yaml in
seconds (see tabular_search.yaml). The table is written by tabular_space.py.
"""

import os
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError

DATA = Path(__file__).parent / "data"
VARIABLE = "PARTIALNAS_TABLE"
"""Environment variable with the folder of another table."""

ONE_CYCLE, TRAPEZOID = "one_cycle", "trapezoid"
METRICS = ("val_nll", "val_accuracy", "test_accuracy")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tabulated:
    """A table of networks and their trainings.

    Attributes:
        networks: by index: axes, `digest`, `params`, `macs`, `relative_throughput`, `latency_ms`.
        trials: `schedule`, `seed`, `epochs`, `index`, final metrics and curve of each training.
    """

    networks: pd.DataFrame
    trials: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> "Tabulated":
        """Read the table in a folder.

        Raises:
            UserError: the folder has no table.
        """
        try:
            networks = pd.read_csv(folder / "tabular_networks.csv", index_col="index")
            return cls(networks, pd.read_csv(folder / "tabular_trials.csv"))
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename} is missing; run python benchmarks/tabular_space.py"
            ) from None

    @cached_property
    def indices(self) -> dict[str, int]:
        """Indices of networks by digest."""
        return {digest: int(index) for index, digest in self.networks["digest"].items()}

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds of the trainings with the one-cycle schedule."""
        return sorted({*self.trials.loc[self.trials["schedule"] == ONE_CYCLE, "seed"]})

    @cached_property
    def fidelities(self) -> list[int]:
        """Numbers of epochs of the trainings in ascending order."""
        return sorted({*self.trials["epochs"]})

    def column(self, name: str, seed: int, epochs: int, schedule: str = ONE_CYCLE) -> Array:
        """Return a column of the trials of one kind by index of the network."""
        rows = self.trials.query("schedule == @schedule and seed == @seed and epochs == @epochs")
        values = rows.set_index("index")[name].reindex(self.networks.index)
        if values.isna().any():
            kind = f"{schedule}, seed {seed}, {epochs} epochs"
            raise UserError(f"the table lacks {name} of {values.isna().sum()} networks ({kind})")
        return values.to_numpy(float, copy=True)

    @cached_property
    def _rows(self) -> dict[tuple[int, int, int], dict[str, float]]:
        cycles = self.trials[self.trials["schedule"] == ONE_CYCLE]
        keys = zip(cycles["index"], cycles["seed"], cycles["epochs"], strict=True)
        values = cycles[[*METRICS]].to_dict("records")
        return {
            (int(index), int(seed), int(epochs)): {str(k): float(v) for k, v in row.items()}
            for (index, seed, epochs), row in zip(keys, values, strict=True)
        }

    def look_up(self, digest: str, seed: int, epochs: int) -> dict[str, float]:
        """Return the final metrics of a training and the network's relative throughput.

        Raises:
            UserError: the table has no such network, seed or number of epochs.
        """
        if digest not in self.indices:
            raise UserError("the network is not in the table: see benchmarks/tabular_space.yaml")
        index = self.indices[digest]
        if (index, seed, epochs) not in self._rows:
            raise UserError(
                f"the table has no seed {seed} with {epochs} epochs; choose from seeds "
                f"{self.seeds} and epochs {self.fidelities}"
            )
        speed = float(self.networks["relative_throughput"].loc[index])
        return {**self._rows[index, seed, epochs], "relative_throughput": speed}


@cache
def table() -> Tabulated:
    """Return the shipped table, or the one in the folder that `VARIABLE` names."""
    return Tabulated.read(Path(os.environ.get(VARIABLE, DATA)))


def lookup(architecture: Architecture, seed: int, epochs: int) -> dict[str, float]:
    """Return the table's metrics in place of a training."""
    return table().look_up(architecture.digest, seed, epochs)
