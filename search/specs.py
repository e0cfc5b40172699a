"""Parts of a study: task, search, budget, executor, seed rule. Plain validated values."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from partialnas.space.values import Value

Sampler = Literal["random", "quasi-random", "tpe", "nsga2", "gp", "evolution", "front-evolution"]


class TaskSpec(Value):
    """The data set by name, and the side in pixels that images are resized to."""

    data: str = "mnist5k"
    resolution: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _a_name_is_a_data_set(cls, value: object) -> object:
        return {"data": value} if isinstance(value, str) else value


class SearchSpec(Value):
    """Which sampler proposes architectures, and the seed of its proposals.

    Attributes:
        sampler: `random`, `quasi-random` (a scrambled Sobol sequence), `tpe`, `nsga2` and `gp` are
            Optuna's; `evolution` is ageing evolution, `front-evolution` mutates the current front
            (see `search.evolution`).
        seed: of all proposals.
        population: networks of a generation (`nsga2`), among which tournaments are held
            (`evolution`), or that are drawn at random first (`front-evolution`).
        tournament: networks that meet to be the parent in `evolution`; without it a quarter of
            the population, at least 2.
    """

    sampler: Sampler = "nsga2"
    seed: int = Field(default=0, ge=0)
    population: int = Field(default=16, ge=2)
    tournament: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _a_tournament_is_of_the_population(self) -> Self:
        if self.tournament is not None and self.tournament > self.population:
            raise ValueError(
                f"tournament: expected at most the population, {self.population}, "
                f"got {self.tournament}"
            )
        return self

    @property
    def entrants(self) -> int:
        """Networks that meet in a tournament."""
        return self.tournament or max(2, self.population // 4)


class Budget(Value):
    """When a study ends: after so many trainings, or so many hours of one sitting."""

    trials: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class ExecutorSpec(Value):
    """Where trials run.

    Attributes:
        kind: `ray` (several worker processes, or a cluster) or `in-process` (one after another).
        workers: trials at once; `auto` fills the device: cores over threads, or the GPUs.
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        gpus_per_trial: share of a GPU that a trial takes.
        time_limit_s: seconds of training after which a trial ends as `timeout`; under Ray, a worker
            that does not answer is ended after half as much again and a minute.
    """

    kind: Literal["ray", "in-process"] = "ray"
    workers: int | Literal["auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus_per_trial: float = Field(default=1.0, gt=0, le=8)
    time_limit_s: float | None = Field(default=None, gt=0)

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
