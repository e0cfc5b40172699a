"""Overhead of the harness per trial in milliseconds: `python benchmarks/overhead.py --help`.

Compares trivial trials, with proposal, plan, start, record and curve in a real ledger, in this
process and under Ray, with a plain Python loop over the same trials without a ledger. Whole studies
in this process have a sampler that proposes networks of a space; the time of a trial then includes
its proposals, repeated ones too. Plain Optuna (random and NSGA-II over the same number of choices,
in memory) runs the same trials without a ledger. All variants run in every round, and every round
restarts Ray. The time of a trial is the mean gap between the ends of two trials over all rounds,
without the first quarter of a round; the time before a round's first end is its start-up.

With `--sleep 1` every trial takes a second: the excess over the ideal, a second divided by the
number of workers, is the overhead of the harness in a study of short trainings.
"""

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from rich.console import Console

from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record
from partialnas.runs.records.subject import subject_digest, subject_name
from partialnas.runs.system.environment import environment, load_average
from partialnas.search.executors.base import END, End, Executor, InProcess, ItemResult, Wait
from partialnas.search.executors.ray_tune import RayTune
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.presets import preset

AIMS_MS = {
    "plain loop": 0,
    "in-process": 10,
    "study, random": 10,
    "study, nsga2": 10,
    "Ray, 2 workers": 100,
}

Times = list[float]
"""Monotonic seconds of the start of a variant and of the end of each trial."""

Variant = Callable[[list[Job], Path, "Sleeping"], Times]

_SECONDS = "PARTIALNAS_OVERHEAD_SECONDS"


def trivial(job: Job) -> ItemResult:
    """Return at once the record of a training of four epochs."""
    epoch = {"lr": 0.004, "train_nll": 0.31, "val_nll": 0.28, "val_accuracy": 91.4, "seconds": 2.1}
    names = ("val_accuracy", "val_nll", "test_accuracy", "test_nll", "train_nll")
    facts = {
        "digest": subject_digest(job.subject),
        "name": subject_name(job.subject),
        "fidelity": job.fidelity,
        "state": "done",
        "metrics": dict.fromkeys(names, 0.123456789012345),
        "curve": tuple({"epoch": e, **epoch} for e in range(1, 5)),
        "cost": {"params": 181_000, "macs": 9_100_000, "macs_core": 9_000_000, "activations": 1},
        "environment": environment(),
    }
    return ItemResult(
        records=tuple(Record(key=key, seed=seed, **facts) for seed, key in job.trial_keys.items())
    )


@dataclass(frozen=True)
class Sleeping:
    """A trial that sleeps for some seconds."""

    seconds: float

    def __call__(self, job: Job) -> ItemResult:
        """Sleep, and return a record."""
        time.sleep(self.seconds)
        return trivial(job)


class LedgerFeed:
    """A feed of trivial jobs that writes all steps of a study into its ledger."""

    def __init__(self, jobs: list[Job], ledger: Ledger) -> None:
        self._jobs = iter(jobs)
        self._ledger = ledger
        self.times = [time.monotonic()]

    def ask(self) -> Job | Wait | End:
        """Propose, plan and start the next trial."""
        job = next(self._jobs, None)
        if job is None:
            return END
        digest, name = subject_digest(job.subject), subject_name(job.subject)
        subject = json.loads(job.subject.model_dump_json())
        number = self._ledger.add_proposal(None, digest, subject, {})
        keys = job.trial_keys
        self._ledger.plan(number, digest=digest, name=name, fidelity=job.fidelity, keys=keys)
        self._ledger.start(*keys.values())
        return job

    def tell(self, job: Job, outcome: ItemResult) -> None:  # noqa: ARG002
        """Finish a trial."""
        for record in outcome.records:
            self._ledger.finish(record)
        self.times.append(time.monotonic())


def plain_loop(jobs: list[Job], folder: Path, work: Sleeping) -> Times:  # noqa: ARG001
    times = [time.monotonic()]
    for job in jobs:
        work(job)
        times.append(time.monotonic())
    return times


def plain_optuna(make: Callable[[], optuna.samplers.BaseSampler]) -> Variant:
    """Return a variant that runs Optuna's loop over the same choices in memory."""

    def run(jobs: list[Job], folder: Path, work: Sleeping) -> Times:  # noqa: ARG001
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=make())
        times = [time.monotonic()]

        def objective(trial: optuna.Trial) -> tuple[float, float]:
            width = trial.suggest_categorical("width", SPACE["width"])
            for name in ("parts", "ratio1", "ratio2", "ratio3", "ratio4", "attention", "depths"):
                trial.suggest_categorical(name, [1, 2, 3])
            time.sleep(work.seconds)
            return 1 / width, 1e4 / width

        study.optimize(
            objective,
            n_trials=len(jobs),
            callbacks=[lambda *_: times.append(time.monotonic())],
        )
        return times

    return run


def with_executor(make: Callable[[Path], Executor]) -> Variant:
    def run(jobs: list[Job], folder: Path, work: Sleeping) -> Times:
        with Ledger.create(folder, {}) as ledger:
            feed = LedgerFeed(jobs, ledger)
            make(folder).run(feed, work)
            assert ledger.state_counts()["done"] == len(jobs)
        return feed.times

    return run


def evaluate(architecture: Architecture, seed: int, epochs: int) -> dict[str, float]:
    """Return metrics by formula in place of a training."""
    time.sleep(float(os.environ.get(_SECONDS, "0")))
    nll = 1 / architecture.widths[0] + 0.1 * seed + 0.01 / epochs
    return {"val_nll": nll, "throughput_img_s": 1e4 / sum(architecture.depths)}


class TimedOutput(io.StringIO):
    """The output of a study, with the times of its start and of the end of each trial."""

    def __init__(self) -> None:
        super().__init__()
        self.times = [time.monotonic()]

    def write(self, text: str) -> int:
        """Record the time of each line about a trial."""
        self.times += [time.monotonic()] * text.startswith("[")
        return super().write(text)


SPACE: dict[str, Any] = {
    "width": [8, 12, 16, 20, 24, 28, 32],
    "parts": [1, 2, 3],
    "ratio": {"values": ["1/8", "1/4", "1/2"], "per": "stage"},
    "attention": ["none", {"channel": "stages 1-3"}, {"channel": "stages 1-2", "self": "stage 3"}],
    "pat_sp": [False, True],
    "depths": [[1, 1, 1, 1], [1, 1, 2, 1], [1, 2, 3, 1]],
}


def with_sampler(sampler: str) -> Variant:
    def run(jobs: list[Job], folder: Path, work: Sleeping) -> Times:
        os.environ[_SECONDS] = str(work.seconds)
        study = Study.model_validate(
            {
                "study": "overhead",
                "base": {"preset": "partialnet_t0", "stem_stride": 2, "width": 16},
                "space": {"axes": SPACE},
                "search": {"sampler": sampler},
                "trial": "overhead:evaluate",
                "budget": {"trials": len(jobs)},
                "executor": {"kind": "in-process"},
            }
        )
        output = TimedOutput()
        console = Console(file=output, width=200)
        run_study(study, folder, base_dir=Path(__file__).parent, console=console)
        assert len(output.times) == len(jobs) + 1
        return output.times

    return run


VARIANTS: dict[str, Variant] = {
    "plain loop": plain_loop,
    "Optuna, random": plain_optuna(lambda: optuna.samplers.RandomSampler(seed=0)),
    "Optuna, nsga2": plain_optuna(lambda: optuna.samplers.NSGAIISampler(seed=0)),
    "in-process": with_executor(lambda folder: InProcess(folder / "workers.log")),
    "study, random": with_sampler("random"),
    "study, nsga2": with_sampler("nsga2"),
    "Ray, 2 workers": with_executor(lambda folder: RayTune(folder=folder, workers=2)),
}


WITH_SLEEP = ("Optuna, random", "in-process", "study, random", "Ray, 2 workers")
"""Variants that run with `--sleep`, which takes minutes."""


@contextmanager
def scratch() -> Iterator[Path]:
    """Create a temporary folder on the disk of the working folder."""
    folder = Path(tempfile.mkdtemp(prefix=".overhead-", dir="."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds of each trial")
    parser.add_argument("--quick", action="store_true", help="20 trials, one round")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.rounds = 20, 1
    work = Sleeping(options.sleep)
    task = Task(data="mnist5k", resolution=28, channels=1, classes=10)
    facts = {"subject": preset("partialnet_t0"), "task": task, "recipe": RECIPES["short"]}
    jobs = [Job(**facts, fidelity=4, seeds=(seed,)) for seed in range(options.trials)]
    variants = {name: VARIANTS[name] for name in (WITH_SLEEP if options.sleep else VARIANTS)}
    rounds: dict[str, list[Times]] = {name: [] for name in variants}
    label = f"trials of {options.sleep:g} s" if options.sleep else "trivial trials"
    print(
        f"{options.trials} {label}, {options.rounds} rounds, load average {load_average()} before"
    )
    for turn in range(options.rounds):
        for name, variant in variants.items():
            with scratch() as folder:
                rounds[name].append(variant(jobs, folder / str(turn), work))
    last = "over" if options.sleep else "aim ms"
    print(f"{'variant':16} {'start-up s':>10} {'ms/trial':>10} {'slowest 5 %':>11} {last:>7}")
    for name, runs in rounds.items():
        startup = median(times[1] - times[0] for times in runs)
        gaps = sorted(1000 * gap for times in runs for gap in steady(times))
        mean, slow = sum(gaps) / len(gaps), gaps[int(0.95 * len(gaps))]
        aim = f"< {AIMS_MS[name]}" if AIMS_MS.get(name) else ""
        if options.sleep:
            workers = 2 if "2 workers" in name else 1
            aim = f"{mean / (1000 * options.sleep / workers) - 1:.1%}"
        print(f"{name:16} {startup:10.3f} {mean:10.3f} {slow:11.3f} {aim:>7}")


def steady(times: Times) -> list[float]:
    """Return the seconds between the ends of trials after the warm-up."""
    ends = times[1 + len(times) // 4 :]
    return [after - before for before, after in pairwise(ends)]


if __name__ == "__main__":
    main()
