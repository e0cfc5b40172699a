"""Train and time every network of a small space: `python benchmarks/tabular_space.py --help`.

The space, the schedules, fidelities and seeds are in tabular_space.yaml. Each fidelity is a
training of its own with a complete schedule, and keeps its curve. Stopped and started again it goes
on; at the end it writes benchmarks/data/tabular_networks.csv and tabular_trials.csv.
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
from partialnas.runs.training.context import Context
from partialnas.runs.training.trial import run_job
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.choices import Point
from partialnas.space.search_space.space import Space

HERE = Path(__file__).parent
DATA = HERE / "data"
NETWORKS = "tabular_networks.csv"
TRIALS = "tabular_trials.csv"


@dataclass(frozen=True)
class Planned:
    """One training: of the network at `index`, as the entry `training` of the file says."""

    training: int
    seed: int
    epochs: int
    index: int


class Table:
    """What tabular_space.yaml describes.

    Attributes:
        task: what is learned.
        space: whose networks are trained.
        points: one for each distinct network; the index of a network is its place here.
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
        """All trainings, seed by seed, so that an unfinished table is balanced."""
        for training, entry in enumerate(self.data["trainings"]):
            for seed in entry["seeds"]:
                for epochs in entry["fidelities"]:
                    for index in range(len(self.points)):
                        yield Planned(training, seed, epochs, index)

    def recipe(self, training: int) -> Recipe:
        """How an entry of the file trains."""
        changes = {**self.data["recipe"], **self.data["trainings"][training]["recipe"]}
        return Recipe.model_validate({**RECIPES["short"].model_dump(), **changes})

    def job(self, planned: Planned) -> Job:
        """The training as the project runs it."""
        return Job(
            subject=self.space.architecture(self.points[planned.index]),
            task=self.task,
            recipe=self.recipe(planned.training),
            fidelity=planned.epochs,
            seeds=(planned.seed,),
        )


def row(planned: Planned, record: Record) -> dict[str, Any]:
    """One line of the table of trials."""
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
    """What earlier sittings wrote; a line that a crash cut short is left out."""
    found = []
    for file in sorted(folder.glob(pattern)):
        for line in file.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return found


def append(file: Path, values: dict[str, Any]) -> None:
    with file.open("a") as stream:
        stream.write("\n" + json.dumps(values))


def train(folder: Path, worker: int, workers: int) -> None:
    """One process's share of the trainings that are not done yet."""
    keep_freed_memory()
    table = Table()
    splits = load_splits(table.task)
    done = {
        Planned(**{key: known[key] for key in Planned.__annotations__})
        for known in lines(folder, "trials-*.jsonl")
    }
    waiting = [planned for planned in table.planned() if planned not in done]
    for planned in waiting[worker::workers]:
        (record,) = run_job(table.job(planned), Context(splits=splits))
        append(folder / f"trials-{worker}.jsonl", row(planned, record))


def time_networks(folder: Path) -> None:
    """The throughput of each network beside the reference, those that are not timed yet."""
    table = Table()
    done = {known["index"] for known in lines(folder, "networks.jsonl")}
    waiting = [index for index in range(len(table.points)) if index not in done]
    reference = Plan.model_validate(table.data["reference"]).architecture()
    protocol = Protocol.model_validate(table.data["measure"])
    subjects = (table.space.architecture(table.points[index]) for index in waiting)
    for index, taken in zip(
        waiting, measure_many(subjects, table.task, protocol, reference), strict=True
    ):
        values = {
            "index": index,
            "relative_throughput": taken.relative_throughput,
            "relative_low": taken.relative_low,
            "relative_high": taken.relative_high,
            "reference_img_s": taken.reference_throughput_img_s,
            "noisy": taken.noisy,
        }
        append(folder / "networks.jsonl", values)


def write_tables(folder: Path) -> None:
    """The two tables, from what all sittings wrote."""
    table = Table()
    speeds = {known["index"]: known for known in lines(folder, "networks.jsonl")}
    speed = pd.DataFrame(speeds.values()).set_index("index")
    # one scale for all: the median of the reference's throughputs, whatever each minute was like
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
        spent = table.space.cost(architecture)
        yield {
            "index": index,
            **{name: point.get(name, "") for name in names},
            "digest": architecture.digest,
            "params": spent.params,
            "macs": spent.macs,
        }


def spread(folder: Path, workers: int) -> None:
    """Trainings in processes of their own, then the timings in one that is alone."""
    started = [
        subprocess.Popen([*_again(folder), "--step", "train", "--worker", str(k), str(workers)])
        for k in range(workers)
    ]
    _wait(started)
    _wait([subprocess.Popen([*_again(folder), "--step", "time"])])
    write_tables(folder)


def _again(folder: Path) -> list[str]:
    return [sys.executable, __file__, "--out", str(folder)]


def _wait(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.wait():
            sys.exit(f"a process ended with {process.returncode}: start the command again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/tabular"))
    parser.add_argument("--workers", type=int, default=2, help="trainings at once")
    parser.add_argument("--step", choices=["train", "time", "write"], help="this step alone")
    parser.add_argument("--worker", type=int, nargs=2, default=(0, 1), help="which one of how many")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.step == "train":
        train(asked.out, *asked.worker)
    elif asked.step == "time":
        time_networks(asked.out)
    elif asked.step == "write":
        write_tables(asked.out)
    else:
        spread(asked.out, asked.workers)


if __name__ == "__main__":
    main()
