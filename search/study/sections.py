"""Parts of a study: task, search, budget, executor, seed rule. Plain validated values."""

from fractions import Fraction
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from partialnas.runs.config.overrides import PlainData
from partialnas.space.values import Share, Value

Sampler = Literal[
    "hybrid", "random", "quasi-random", "tpe", "nsga2", "gp", "evolution", "front-evolution"
]


PromotionScheme = Literal["restart", "cool-down"]

FIDELITIES = ("recipe.epochs", "recipe.data_share", "recipe.width_share", "task.resolution")
"""What the rungs of a search may have less of than the study."""


class TaskSpec(Value):
    """The data set by name, and the side in pixels that images are resized to.

    Attributes:
        data: `mnist5k`, `digits`, `cifar10:PATH`, `cifar100:PATH` or `folder:PATH`.
        resolution: the side in pixels; without one that of the data set.
    """

    data: str = "mnist5k"
    resolution: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _a_name_is_a_data_set(cls, value: object) -> object:
        return {"data": value} if isinstance(value, str) else value


class SearchSpec(Value):
    """Which sampler proposes architectures, and the seed of its proposals.

    Attributes:
        sampler: `hybrid` asks a model which neighbours of the front to try (see `search.hybrid`);
            `random`, `quasi-random` (a scrambled Sobol sequence), `tpe`, `nsga2` and `gp` are
            Optuna's; `evolution` is ageing evolution, `front-evolution` mutates the current front
            (see `search.evolution`).
        seed: of all proposals.
        population: networks of a generation (`nsga2`), among which tournaments are held
            (`evolution`), or that are drawn at random first (`front-evolution`; `hybrid`: 10 of
            them at most).
        tournament: networks that meet to be the parent in `evolution`; without it a quarter of
            the population, at least 2.
        rungs: what is trained first, from cheap to dear: settings of `recipe` and `task` by name,
            keys written with dots. The study's own are the last rung, which is not listed.
        promote: share of a rung's networks that go on to the next one.
        scheme: `restart` trains anew on every rung, `cool-down` goes on from where the shorter
            training began to cool down (see `Recipe.schedule`, `trapezoid`). Without one it is
            `cool-down` where that can be: with that schedule, and rungs that differ in epochs
            alone.
    """

    sampler: Sampler = "hybrid"
    seed: int = Field(default=0, ge=0)
    population: int = Field(default=16, ge=2)
    tournament: int | None = Field(default=None, ge=2)
    rungs: tuple[PlainData, ...] = ()
    promote: Share = Field(default=Fraction(1, 3), gt=0, lt=1)
    scheme: PromotionScheme | None = None

    @field_validator("rungs")
    @classmethod
    def _rungs_change_fidelities(cls, rungs: tuple[PlainData, ...]) -> tuple[PlainData, ...]:
        for number, rung in enumerate(rungs, start=1):
            for key in rung:
                if key not in FIDELITIES:
                    there = ", ".join(FIDELITIES)
                    raise ValueError(f"rung {number}: {key}: expected some of {there}")
        return rungs

    @model_validator(mode="after")
    def _a_tournament_is_of_the_population(self) -> Self:
        if self.tournament is not None and self.tournament > self.population:
            raise ValueError(
                f"tournament: expected at most the population, {self.population}, "
                f"got {self.tournament}"
            )
        return self

    @property
    def tournament_size(self) -> int:
        """Networks that meet in a tournament."""
        return self.tournament or max(2, self.population // 4)


class Budget(Value):
    """When no more trainings are begun; what is trained by then is measured still.

    Attributes:
        trials: after so many trainings.
        hours: after so many hours of one sitting.
        device_hours: after so many hours of a whole device in all sittings, measuring included. A
            trial on a GPU has the share `executor.gpus_per_trial` of it, on a CPU `recipe.threads`
            of the machine's cores (see `runs.spent`).
    """

    trials: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    device_hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class ExecutorSpec(Value):
    """Where trials run.

    Attributes:
        kind: `ray` (several worker processes, or a cluster) or `in-process` (one after another).
        workers: trials at once; `auto` fills the device: cores over threads, or the GPUs.
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        gpus_per_trial: share of a GPU that a trial takes.
        time_limit_s: seconds of training after which a trial ends as `timeout`; under Ray, a worker
            that does not answer is ended after half as much again and a minute.
        isolate: a fresh process for each trial, which costs seconds each, where trials must not
            meet what another one left in a process.
        shared: on a cluster, a folder that all machines mount: checkpoints, weights and the log of
            the workers go there, and the ledger stays on the driver's disk.
        pilot: trials at the start of a sitting that must not all fail for one reason: a broken
            environment ends the run so, with nothing recorded. 0 records every failure.
    """

    kind: Literal["ray", "in-process"] = "ray"
    workers: int | Literal["auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus_per_trial: float = Field(default=1.0, gt=0, le=8)
    time_limit_s: float | None = Field(default=None, gt=0)
    isolate: bool = False
    shared: str | None = None
    pilot: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _only_processes_can_be_fresh(self) -> Self:
        if self.isolate and self.kind != "ray":
            raise ValueError("isolate: in-process has one process for all trials; expected false")
        return self

    @field_validator("workers")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"expected at least 1 worker, or auto, got {value}")
        return value


class SeedRule(Value):
    """How many seeds, decided by what the first of them show (see `search.sequential`).

    Attributes:
        min: seeds of every arm, from whose spread the rest is decided.
        max: seeds at most.
        until: half the width of the simultaneous interval that is wanted of every difference, in
            the unit of what the study decides by.
    """

    min: int = Field(default=3, ge=2)
    max: int = Field(default=10, ge=2)
    until: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _least_is_below_most(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min: expected at most max, {self.max}, got {self.min}")
        return self
