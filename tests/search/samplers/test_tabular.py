"""The table of trained networks: lookups, a search over it, and printed comparisons."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from partialnas.space.errors import UserError

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
NETWORKS = 12


@pytest.fixture
def tabular(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import tabular

    yield tabular
    for name in ("tabular", "tabular_space", "rung_schemes"):
        sys.modules.pop(name, None)


def trial(schedule: str, seed: int, epochs: int, index: int) -> dict[str, Any]:
    nll = index * (-1 if epochs == 1 and schedule == "trapezoid" else 1) + 10 * seed + 100 / epochs
    row = {"schedule": schedule, "seed": seed, "epochs": epochs, "index": index}
    reached = {"val_nll": nll, "val_accuracy": -nll, "test_accuracy": -nll - 1}
    return {**row, **reached, "val_nll_1": (index * 5) % NETWORKS, "val_accuracy_1": index % 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Losses ordered by index; the curve of the long training has another order."""
    networks = pd.DataFrame(
        {
            "index": range(NETWORKS),
            "digest": [f"d{index}" for index in range(NETWORKS)],
            "macs": [100 - index for index in range(NETWORKS)],
            "relative_throughput": [1 + index / 10 for index in range(NETWORKS)],
        }
    )
    networks.to_csv(tmp_path / "tabular_networks.csv", index=False)
    kinds = [("one_cycle", 0), ("one_cycle", 1), ("trapezoid", 0)]
    rows = [
        trial(schedule, seed, epochs, index)
        for schedule, seed in kinds
        for epochs in (1, 3)
        for index in range(NETWORKS)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "tabular_trials.csv", index=False)
    return tmp_path


def test_a_lookup_returns_the_row_of_network_seed_and_epochs(
    tabular: ModuleType, folder: Path
) -> None:
    table = tabular.Tabulated.read(folder)
    assert table.look_up("d3", 1, 3) == {
        "val_nll": pytest.approx(3 + 10 + 100 / 3),
        "val_accuracy": pytest.approx(-13 - 100 / 3),
        "test_accuracy": pytest.approx(-14 - 100 / 3),
        "relative_throughput": pytest.approx(1.3),
    }
    assert table.look_up("d3", 1, 1)["val_nll"] == 113


@pytest.mark.parametrize(
    ("digest", "seed", "epochs", "message"),
    [("other", 0, 1, "not in the table"), ("d1", 7, 1, "seed 7"), ("d1", 0, 2, r"2 epochs.*1, 3")],
)
def test_missing_rows_are_reported(
    tabular: ModuleType, folder: Path, digest: str, seed: int, epochs: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        tabular.Tabulated.read(folder).look_up(digest, seed, epochs)


def test_the_error_for_a_missing_table_names_the_command_that_creates_it(
    tabular: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"tabular_space\.py"):
        tabular.Tabulated.read(tmp_path)


def test_agreement_is_the_mean_tau_with_other_seeds(tabular: ModuleType, folder: Path) -> None:
    import rung_schemes

    table = tabular.Tabulated.read(folder)
    trained, read_off, constant = rung_schemes.schemes_of(table)
    taus = {
        scheme.name: rung_schemes.agreement(
            table, {s: scheme.short("val_nll", s) for s in scheme.seeds}, "val_nll"
        )
        for scheme in (trained, read_off, constant)
    }
    index = np.arange(NETWORKS)
    expected = kendalltau((index * 5) % NETWORKS, index).statistic
    assert taus == pytest.approx({trained.name: 1.0, read_off.name: expected, constant.name: -1.0})
    assert (trained.rest, read_off.rest) == (3, 2)
    assert constant.rest == 3  # its learning rate falls from the start


@pytest.mark.usefixtures("tabular")
def test_halving_pays_for_short_and_full_trainings_and_promotes_the_best() -> None:
    import rung_schemes

    short = np.array([5.0, 1.0, 4.0, 3.0, 0.0, 2.0])
    times = np.ones(6)
    order = [0, 1, 2, 3, 4, 5]
    trained = list(rung_schemes.Halving(short, times, first=1, rest=3).run(order, 100))
    # after three results the best one is promoted; of six, the two best, the fifth among them
    assert trained == [(6.0, 1), (11.0, 4)]
    everything = list(rung_schemes.Halving(None, times, first=0, rest=3).run(order, 7))
    assert everything == [(3.0, 0), (6.0, 1), (9.0, 2)]


def test_the_shipped_table_holds_every_network_of_its_space(tabular: ModuleType) -> None:
    import tabular_space

    described = tabular_space.Table()
    shipped = tabular.Tabulated.read(tabular.DATA)
    digests = [described.space.architecture(point).digest for point in described.points]
    assert [*shipped.networks["digest"]] == digests
    assert len(digests) >= 300
    found = {*shipped.trials[["seed", "epochs", "index", "schedule"]].itertuples(index=False)}
    assert found == {
        (each.seed, each.epochs, each.index, described.recipe(each.training).schedule)
        for each in described.planned()
    }
    assert len(found) == len(shipped.trials)
    for seed in shipped.seeds:
        for epochs in (1, 3):
            metrics = shipped.look_up(digests[7], seed, epochs)
            assert 0 < metrics["val_nll"] < 3
