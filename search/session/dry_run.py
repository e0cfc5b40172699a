"""Dry runs: run a whole study in seconds with simulated results.

Training and measuring are replaced by formulas of a network's cost, plus differences between
networks and seeds that are drawn from their digests: the same study gives the same dry run. As in
real studies, larger networks are better and slower, with diminishing returns. The numbers have no
other meaning.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.file import LEDGER_FILE
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import dry_run_name, is_dry_run
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import RatioEpoch, Record, ratio_metrics
from partialnas.runs.records.subject import Subject, subject_digest, subject_name
from partialnas.runs.system.environment import environment, utc_now
from partialnas.runs.trials.build import subject_cost
from partialnas.search.executors.base import ItemResult
from partialnas.search.executors.tasks import Item, ReferenceCheck, TimingJob
from partialnas.search.session.dry_run_ratios import simulate_ratios
from partialnas.search.study.study import Study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError
from partialnas.space.values import digest

DEVICE = "rehearsal"
"""Name of the device in simulated records and measurements."""

_MACS_PER_S = 2e9
_STEPS_MACS = 3  # a backward pass costs about two forward passes


def as_dry_run(study: Study) -> Study:
    """Return the study with the name of its dry run and the in-process executor."""
    executor = study.executor.model_copy(update={"kind": "in-process", "isolate": False})
    changes = {"study": dry_run_name(study.study), "executor": executor}
    return study.model_copy(update=changes)


def check_folder(study: Study, folder: Path, *, dry_run: bool) -> None:
    """Refuse a dry run in the folder of a real study, and the other way round.

    Raises:
        UserError: the folder holds the other kind, or a real study has the name of a dry run.
    """
    if not dry_run and is_dry_run(study.study):
        raise UserError(
            f"study: the name {study.study!r} is reserved for dry runs (--rehearse); choose another"
        )
    if not (folder / LEDGER_FILE).exists():
        return
    with Ledger.open(folder) as ledger:
        holds_dry_run = is_dry_run(ledger.study.name)
    if holds_dry_run and not dry_run:
        raise UserError(
            f"{folder} holds a dry run with simulated results; choose another folder with --out, "
            "or delete this one"
        )
    if dry_run and not holds_dry_run:
        raise UserError(f"{folder} holds a real study; choose another folder with --out")


@dataclass(frozen=True)
class DryRunWorker:
    """Simulate the items of a study, in place of `TaskRunner`.

    Attributes:
        reference: network that throughput is relative to.
        required_metrics: further metrics that trials must have.
    """

    reference: Subject
    required_metrics: tuple[str, ...] = ()

    def __call__(self, item: Item | ReferenceCheck) -> ItemResult:
        """Return the simulated result of an item."""
        if isinstance(item, TimingJob):
            return ItemResult(measurement=self._measurement(item))
        if isinstance(item, ReferenceCheck):
            return ItemResult()
        return ItemResult(records=tuple(self._record(item, seed) for seed in item.seeds))

    def _record(self, job: Job, seed: int) -> Record:
        cost = subject_cost(job.subject, job.task)
        curve = _curve(job, seed, cost)
        subject, last = job.subject, curve[-1]
        metrics = {key: last[key] for key in ("val_accuracy", "val_nll", "train_nll")}
        noise = _normal("test", job.trial_keys[seed])
        metrics["test_nll"] = metrics["val_nll"] * (1.02 + 0.01 * noise)
        metrics["test_accuracy"] = _accuracy(metrics["test_nll"])
        metrics |= {name: _simulated_metric(name, job, seed) for name in self.required_metrics}
        ratios: tuple[RatioEpoch, ...] = ()
        if isinstance(subject, Architecture) and subject.learned is not None:
            ratios = simulate_ratios(subject, job.task, job.fidelity, int(job.trial_keys[seed], 16))
            metrics |= ratio_metrics(ratios)
        return Record(
            key=job.trial_keys[seed],
            digest=subject_digest(subject),
            name=subject_name(subject),
            seed=seed,
            fidelity=job.fidelity,
            state="early" if job.rung else "done",
            reason=job.rung or None,
            metrics=metrics,
            curve=curve,
            ratios=ratios,
            cost=cost,
            seconds=sum(row["seconds"] for row in curve),
            device=DEVICE,
            environment=environment(),
        )

    def _measurement(self, item: TimingJob) -> Measurement:
        speed = _throughput(item.subject, item.task)
        base = _throughput(self.reference, item.task)
        protocol = item.protocol
        return Measurement(
            digest=subject_digest(item.subject),
            name=subject_name(item.subject),
            device=DEVICE,
            device_kind="cuda" if protocol.device.startswith("cuda") else "cpu",
            threads=protocol.threads,
            batch_size=protocol.batch_size,
            resolution=item.task.resolution,
            in_chans=item.task.channels,
            precision=protocol.precision,
            form=protocol.form,
            throughput_img_s=speed,
            latency_ms=1000 * protocol.batch_size / speed,
            relative_throughput=speed / base,
            relative_low=0.99 * speed / base,
            relative_high=1.01 * speed / base,
            reference_digest=subject_digest(self.reference),
            reference_name=subject_name(self.reference),
            reference_form=protocol.form,
            reference_throughput_img_s=base,
            rounds=6,
            wall_cpu_gap=0.0,
            noisy=False,
            peak_memory_bytes=_memory(item) if protocol.device.startswith("cuda") else None,
            load=0.0,
            environment=environment() | {"processor": DEVICE},
            taken=utc_now(),
            seconds=min(2.0, protocol.max_seconds),
        )


def _curve(job: Job, seed: int, cost: Mapping[str, int]) -> tuple[dict[str, float], ...]:
    """Return one row per epoch; the loss approaches a value that falls with the network's cost."""
    chance = math.log(job.task.classes)
    network = _normal("network", subject_digest(job.subject), digest(job.recipe.identity_data()))
    noise = _normal("seed", job.trial_keys[seed])
    share = 0.05 + 0.35 * (1 + cost["macs"] / 1e5) ** -0.25 + 0.015 * network
    final = chance * max(0.01, share + 0.006 * noise)
    seconds = _STEPS_MACS * cost["macs"] * 5000 / _MACS_PER_S
    rows = []
    for epoch in range(1, job.fidelity + 1):
        nll = final + (chance - final) * math.exp(-1.1 * epoch)
        facts = {"epoch": epoch, "lr": job.recipe.lr * (1 - (epoch - 1) / job.fidelity)}
        metrics = {"train_nll": 0.9 * nll, "val_nll": nll, "val_accuracy": _accuracy(nll)}
        rows.append({**facts, **metrics, "seconds": seconds})
    return tuple(rows)


def _accuracy(nll: float) -> float:
    return 100 * math.exp(-nll)


def _throughput(subject: Subject, task: Task) -> float:
    """Return images per second: time for MACs, for moving activations, and a constant."""
    cost = subject_cost(subject, task)
    seconds = cost["macs"] / _MACS_PER_S + cost["activations"] / 1e9 + 2e-5
    return (1 + 0.03 * _normal("speed", subject_digest(subject))) / seconds


def _memory(item: TimingJob) -> int:
    cost = subject_cost(item.subject, item.task)
    return 4 * (cost["params"] + 2 * item.protocol.batch_size * cost["activations"])


def _simulated_metric(name: str, job: Job, seed: int) -> float:
    """Return a positive value for a metric of the study's user function."""
    network = _normal(name, subject_digest(job.subject))
    return math.exp(0.3 * network + 0.02 * _normal(name, job.trial_keys[seed]))


def _normal(*words: str) -> float:
    """Return a standard normal draw, clipped to ±3, that depends on the words only."""
    return max(-3.0, min(3.0, random.Random("/".join(words)).gauss(0, 1)))
