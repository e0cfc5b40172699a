"""Build the ledger of a long search: `python benchmarks/large_ledger.py FOLDER --help`.

Its networks are distinct points of one space; their metrics are computed from their MACs without
training. The rows are those that the driver writes, with checksums, curves and measurements, so
that reading the ledger takes as long as after real trainings.
"""

import argparse
import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from partialnas.runs.ledger.checked_rows import write_row
from partialnas.runs.ledger.column_store import archive_rows
from partialnas.runs.ledger.file import LEDGER_FILE, open_writer
from partialnas.runs.ledger.rows import ProposalRow, planned_row, to_json, trial_columns
from partialnas.runs.ledger.schema import transaction
from partialnas.runs.records.job import trial_key
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import subject_data, subject_digest
from partialnas.runs.system.environment import environment, utc_now
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.session.open_ledger import open_ledger
from partialnas.search.session.progress import Progress
from partialnas.search.study.sections import SearchSpec
from partialnas.search.study.study import Study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.formulas import NetworkCost

EPOCHS = 4
SPACE: dict[str, Any] = {
    "width": [8, 12, 16, 20, 24, 28, 32],
    "parts": [1, 2, 3],
    "ratio": {"values": ["1/8", "1/4", "1/2"], "per": "stage"},
    "mlp_ratio": {"values": [1, 2], "per": "stage"},
    "attention": ["none", {"channel": "stages 1-3"}, {"channel": "stages 1-2", "self": "stage 3"}],
    "pat_sp": [False, True],
    "depths": [[1, 1, 1, 1], [1, 1, 2, 1], [1, 2, 3, 1]],
}


def study(sampler: str, records: int) -> Study:
    """Return the search of the ledger, with a budget of one more trial."""
    return Study.model_validate(
        {
            "study": "large",
            "task": {"data": "digits"},
            "base": {"preset": "partialnet_t0", "stem_stride": 1, "width": 16},
            "space": {"axes": SPACE},
            "recipe": {"use": "short", "epochs": EPOCHS},
            "search": {"sampler": sampler},
            "objectives": {"val_nll": "min", "throughput_img_s": "max"},
            "budget": {"trials": records + 1},
            "executor": {"kind": "in-process"},
        }
    )


@dataclass(frozen=True)
class Entry:
    """One training of the ledger."""

    number: int
    point: dict[str, Any]
    network: Architecture
    cost: NetworkCost

    @property
    def nll(self) -> float:
        """Negative log-likelihood: better for larger networks, with noise."""
        noise = random.Random(self.number).gauss(0, 0.02)
        return 3.0 / math.log10(self.cost.macs) + noise

    @property
    def speed(self) -> float:
        """Throughput in images per second: lower for larger networks, with noise."""
        return 1e9 / self.cost.macs * random.Random(-self.number).uniform(0.95, 1.05)


def build(folder: Path, records: int, sampler: str = "nsga2") -> None:
    """Write a study of `records` measured trainings into `folder`."""
    large = study(sampler, records)
    prepared = resolve_study(large, Path())
    open_ledger(prepared, folder, Progress(Console(quiet=True))).close()
    (folder / "study.yaml").write_text(yaml.safe_dump(large.frozen(), sort_keys=False))
    connection = open_writer(folder / LEDGER_FILE)
    with transaction(connection, synced=True):
        for entry in entries(prepared, records):
            for table, columns in rows(entry, prepared, large.search):  # type: ignore[arg-type]
                write_row(connection, table, columns)
        archive_rows(connection)
    connection.close()


def entries(prepared: ResolvedStudy, records: int) -> Iterator[Entry]:
    """Yield distinct networks of the space in one random order."""
    space = prepared.space
    assert space is not None
    free = [choice for choice in space.choices if len(choice.labels) > 1]
    points = [*itertools.product(*(choice.labels for choice in free))]
    random.Random(0).shuffle(points)
    fixed = {choice.name: choice.labels[0] for choice in space.choices}
    digests: set[str] = set()
    for labels in points:
        point = fixed | dict(zip((choice.name for choice in free), labels, strict=True))
        network = space.architecture(point)
        if network.digest not in digests:
            digests.add(network.digest)
            yield Entry(len(digests), point, network, space.cost(network))
        if len(digests) == records:
            return
    raise SystemExit(f"the space has only {len(digests)} networks: choose fewer --records")


def rows(
    entry: Entry, prepared: ResolvedStudy, search: SearchSpec
) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield the rows that the driver writes for a training: table and columns."""
    condition, digest = prepared.conditions[0], subject_digest(entry.network)
    subject = to_json(subject_data(entry.network))
    yield (
        "proposals",
        ProposalRow(entry.number, None, digest, subject, to_json(_note(entry, search)), utc_now()),
    )
    key = trial_key(entry.network, condition.task, condition.recipe, EPOCHS, 0)
    planned = planned_row(entry.number, key, entry.number, digest, digest, 0, EPOCHS)
    metrics = {
        "val_accuracy": 100 * math.exp(-entry.nll),
        "val_nll": entry.nll,
        "train_nll": 0.9 * entry.nll,
        "test_accuracy": 99 * math.exp(-entry.nll),
        "test_nll": 1.01 * entry.nll,
    }
    costs = ("params", "macs", "macs_core", "activations")
    facts: dict[str, Any] = {
        "state": "done",
        "attempts": 1,
        "metrics": metrics,
        "cost": {name: getattr(entry.cost, name) for name in costs},
        "seconds": 1e-6 * entry.cost.macs,
        "device": "cpu",
        "environment": environment(),
        "finished": utc_now(),
    }
    yield "trials", trial_columns(planned._replace(**facts))
    for epoch in range(1, EPOCHS + 1):
        point = {"epoch": epoch, "lr": 0.01, "val_nll": entry.nll + 1 / epoch, "seconds": 0.5}
        yield "curves", (key, epoch, json.dumps(point))
    yield "measurements", _measurement_columns(entry, digest)


def _note(entry: Entry, search: SearchSpec) -> dict[str, Any]:
    """Return the note that the sampler stores with a proposal."""
    if search.sampler in ("evolution", "front-evolution", "hybrid"):
        return {"point": entry.point, "parent": None}
    note = {"params": entry.point, "system_attrs": {}, "asked": entry.number}
    if search.sampler != "nsga2":
        return note
    generation = (entry.number - 1) // search.population
    first = generation * search.population + 1  # as if the last generation were the best
    is_first = entry.number == first > 1
    parents = {"parents": [*range(first - search.population, first)]} if is_first else {}
    return {**note, "system_attrs": {"_SteadyNSGAII:generation": generation}, **parents}


def _measurement_columns(entry: Entry, digest: str) -> tuple[object, ...]:
    m = Measurement(
        digest=digest,
        name=digest,
        device="cpu",
        device_kind="cpu",
        threads=1,
        batch_size=32,
        resolution=8,
        in_chans=1,
        precision="float32",
        form="deploy",
        throughput_img_s=entry.speed,
        latency_ms=32_000 / entry.speed,
        relative_throughput=entry.speed / 1000,
        relative_low=0.99 * entry.speed / 1000,
        relative_high=1.01 * entry.speed / 1000,
        reference_digest="0" * 16,
        reference_name="fasternet_reference",
        reference_form="deploy",
        reference_throughput_img_s=1000.0,
        rounds=8,
        wall_cpu_gap=0.01,
        noisy=False,
        load=0.5,
        environment=environment(),
        taken=utc_now(),
    )
    conditions = (m.device, m.threads, m.batch_size, m.resolution, m.precision)
    kind = (m.form, m.runtime, m.model_dump_json(), m.taken)
    return (entry.number, digest, *conditions, *kind)


def main() -> None:
    """Build a ledger."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=100_000, help="number of trainings")
    parser.add_argument("--sampler", default="nsga2")
    options = parser.parse_args()
    build(options.folder, options.records, options.sampler)
    size = (options.folder / LEDGER_FILE).stat().st_size
    print(f"{options.folder}: {options.records} records, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
