"""Train and time every network of a small space: `python benchmarks/tabular_space.py --help`.

The space, the schedules, fidelities and seeds are in tabular_space.yaml. Each fidelity is a
separate training with a complete schedule and a curve. An interrupted run is resumed by the same
command. At the end it writes benchmarks/data/tabular_networks.csv and tabular_trials.csv.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import Task, resolve_task
from partialnas.runs.measure.measure import measure_many
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record
from partialnas.runs.system.allocator import keep_freed_memory
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space

HERE = Path(__file__).parent
DATA = HERE / "data"
NETWORKS = "tabular_networks.csv"
TRIALS = "tabular_trials.csv"


@dataclass(frozen=True)
class Planned:
    """One training of the network at `index`, by the entry `training` of the file."""

    training: int
    seed: int
    epochs: int
    index: int


class Table:
    """The contents of tabular_space.yaml.

    Attributes:
        task: task of the trainings.
        space: space of the networks.
        points: one point per distinct network, by index of the network.
    """

    def __init__(self) -> None:
        self.data: dict[str, Any] = yaml.safe_load((HERE / "tabular_space.yaml").read_text())
        self.task: Task = resolve_task(**self.data["task"])
        self.space = Space.from_data(
            {key: self.data[key] for key in ("base", "space")},
            self.task.input_spec,
        )
        self.points: tuple[Point, ...] = self.space.enumerate()

    def planned(self) -> Iterator[Planned]:
        """Yield all trainings seed by seed, so that an unfinished table is balanced."""
        for training, entry in enumerate(self.data["trainings"]):
            for seed in entry["seeds"]:
                for epochs in entry["fidelities"]:
                    for index in range(len(self.points)):
                        yield Planned(training, seed, epochs, index)

    def recipe(self, training: int) -> Recipe:
        """Return the recipe of an entry of the file."""
        changes = {**self.data["recipe"], **self.data["trainings"][training]["recipe"]}
        return Recipe.model_validate({**RECIPES["short"].model_dump(), **changes})

    def job(self, planned: Planned) -> Job:
        """Return the job of a training."""
        return Job(
            subject=self.space.architecture(self.points[planned.index]),
            task=self.task,
            recipe=self.recipe(planned.training),
            fidelity=planned.epochs,
            seeds=(planned.seed,),
        )


def row(planned: Planned, record: Record) -> dict[str, Any]:
    """Return one row of the table of trials."""
    assert record.state == "done", f"{planned}: {record.state}: {record.reason}"
    curve = {
        f"{name}_{number}": round(epoch[name], digits)
        for number, epoch in enumerate(record.curve, start=1)
        for name, digits in (("val_nll", 5), ("val_accuracy", 1))
    }
    return {
        **vars(planned),
        "val_nll": round(record.metrics["val_nll"], 5),
        "val_accuracy": round(record.metrics["val_accuracy"], 1),
        "test_accuracy": round(record.metrics["test_accuracy"], 1),
        "seconds": round(sum(epoch["seconds"] for epoch in record.curve), 2),
        **curve,
    }


def lines(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """Return the lines of earlier sessions, without lines that a crash cut short."""
    values = []
    for file in sorted(folder.glob(pattern)):
        for line in file.read_text().splitlines():
            try:
                values.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return values


def append(file: Path, values: dict[str, Any]) -> None:
    with file.open("a") as stream:
        stream.write("\n" + json.dumps(values))


def train(folder: Path, worker: int, workers: int) -> None:
    """Run one worker's share of the remaining trainings."""
    keep_freed_memory()
    table = Table()
    splits = load_splits(table.task)
    done = {
        Planned(**{key: line[key] for key in Planned.__annotations__})
        for line in lines(folder, "trials-*.jsonl")
    }
    remaining = [planned for planned in table.planned() if planned not in done]
    for planned in remaining[worker::workers]:
        (record,) = run_job(table.job(planned), Context(splits=splits))
        append(folder / f"trials-{worker}.jsonl", row(planned, record))


def time_networks(folder: Path) -> None:
    """Measure the throughput of the remaining networks relative to the reference."""
    table = Table()
    done = {line["index"] for line in lines(folder, "networks.jsonl")}
    remaining = [index for index in range(len(table.points)) if index not in done]
    reference = Plan.model_validate(table.data["reference"]).architecture()
    protocol = Protocol.model_validate(table.data["measure"])
    subjects = (table.space.architecture(table.points[index]) for index in remaining)
    for index, measurement in zip(
        remaining, measure_many(subjects, table.task, protocol, reference), strict=True
    ):
        values = {
            "index": index,
            "relative_throughput": measurement.relative_throughput,
            "relative_low": measurement.relative_low,
            "relative_high": measurement.relative_high,
            "reference_img_s": measurement.reference_throughput_img_s,
            "noisy": measurement.noisy,
        }
        append(folder / "networks.jsonl", values)


def write_tables(folder: Path) -> None:
    """Write the two tables from the lines of all sessions."""
    table = Table()
    speeds = {line["index"]: line for line in lines(folder, "networks.jsonl")}
    speed = pd.DataFrame(speeds.values()).set_index("index")
    # one scale for all networks: the median of the reference's throughputs
    scale = float(speed.pop("reference_img_s").median())
    batch = table.data["measure"]["batch_size"]
    speed["latency_ms"] = 1000 * batch / (speed["relative_throughput"] * scale)
    networks = pd.DataFrame(networks_of(table)).set_index("index").join(speed.round(4))
    networks.to_csv(DATA / NETWORKS)
    trials = pd.DataFrame(lines(folder, "trials-*.jsonl")).drop_duplicates(
        [*Planned.__annotations__]
    )
    schedules = [entry["recipe"]["schedule"] for entry in table.data["trainings"]]
    trials.insert(1, "schedule", [schedules[training] for training in trials.pop("training")])
    trials.sort_values(["schedule", "seed", "epochs", "index"]).to_csv(DATA / TRIALS, index=False)
    print(f"{len(networks)} networks, {len(trials)} trials in {DATA}")


def networks_of(table: Table) -> Iterator[dict[str, Any]]:
    names = [choice.name for choice in table.space.choices]
    for index, point in enumerate(table.points):
        architecture = table.space.architecture(point)
        cost = table.space.cost(architecture)
        yield {
            "index": index,
            **{name: point.get(name, "") for name in names},
            "digest": architecture.digest,
            "params": cost.params,
            "macs": cost.macs,
        }


def run_all(folder: Path, workers: int) -> None:
    """Run trainings in parallel processes, then the measurements in a single one."""
    processes = [
        subprocess.Popen([*_command(folder), "--step", "train", "--worker", str(k), str(workers)])
        for k in range(workers)
    ]
    _wait(processes)
    _wait([subprocess.Popen([*_command(folder), "--step", "time"])])
    write_tables(folder)


def _command(folder: Path) -> list[str]:
    return [sys.executable, __file__, "--out", str(folder)]


def _wait(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.wait():
            sys.exit(
                f"a process ended with exit code {process.returncode}: repeat the command to resume"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/tabular"))
    parser.add_argument("--workers", type=int, default=2, help="parallel trainings")
    parser.add_argument("--step", choices=["train", "time", "write"], help="run only this step")
    parser.add_argument(
        "--worker", type=int, nargs=2, default=(0, 1), help="index and number of workers"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.step == "train":
        train(options.out, *options.worker)
    elif options.step == "time":
        time_networks(options.out)
    elif options.step == "write":
        write_tables(options.out)
    else:
        run_all(options.out, options.workers)


if __name__ == "__main__":
    main()
