"""Sections of a study file: task, search, budget, executor and seed rule."""

from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from partialnas.runs.config.overrides import PlainData
from partialnas.search.samplers.registry import SAMPLERS
from partialnas.space.validation import join_words, quote, suggest
from partialnas.space.values import Share, Value

PromotionScheme = Literal["restart", "cool-down"]

FIDELITIES = ("recipe.epochs", "recipe.data_share", "recipe.width_share", "task.resolution")
"""Settings that a rung may reduce."""

_GPU_LANES = 8
"""Seeds of a network that a worker trains side by side on a GPU by default."""


class TaskSpec(Value):
    """The data set and the resolution of its images.

    Attributes:
        data: `mnist5k`, `digits`, `cifar10:PATH`, `cifar100:PATH`, `folder:PATH` or a registered
            data set.
        resolution: side in pixels that images are resized to; default: the data set's own.
    """

    identity_fields: ClassVar[frozenset[str]] = frozenset(("data", "resolution"))

    data: str = "mnist5k"
    resolution: int | None = Field(default=None, ge=1, le=4096)

    @model_validator(mode="before")
    @classmethod
    def _expand_data_name(cls, value: object) -> object:
        return {"data": value} if isinstance(value, str) else value


class SearchSpec(Value):
    """The sampler that proposes architectures, and its successive halving.

    Attributes:
        sampler: `hybrid` fits a surrogate model to choose among neighbors of the front (see
            `search.samplers.surrogate_search`); `random`, `quasi-random` (scrambled Sobol
            sequence), `tpe`, `nsga2` and `gp` are Optuna's samplers; `evolution` is aging
            evolution and `front-evolution` mutates the current front (see
            `search.samplers.evolution`).
        seed: random seed of the sampler.
        population: number of networks in a generation (`nsga2`), in the population that
            tournaments draw from (`evolution`), or drawn at random first (`front-evolution`;
            `hybrid`: at most 10).
        tournament: number of networks that compete to become a parent in `evolution`; default: a
            quarter of the population, at least 2.
        rungs: reduced fidelities to train first, from cheapest to most expensive: settings of
            `recipe` and `task` with dotted keys. The study's own settings are the last rung and
            are not listed.
        promote: share of a rung's networks that are promoted to the next rung.
        scheme: `restart` trains from scratch on every rung; `cool-down` continues from the point
            where the shorter training started its cool-down (see `Recipe.schedule`,
            `trapezoid`). Default: `cool-down` with the trapezoid schedule and rungs that differ
            in epochs only, else `restart`.
    """

    identity_fields: ClassVar[frozenset[str]] = frozenset(
        ("sampler", "seed", "population", "tournament", "rungs", "promote", "scheme")
    )

    sampler: str = "hybrid"
    seed: int = Field(default=0, ge=0, lt=2**32)
    population: int = Field(default=16, ge=2, le=10_000)
    tournament: int | None = Field(default=None, ge=2)
    rungs: tuple[PlainData, ...] = Field(default=(), max_length=20)
    promote: Share = Field(default=Fraction(1, 3), gt=0, lt=1)
    scheme: PromotionScheme | None = None

    @field_validator("sampler", mode="before")
    @classmethod
    def _check_sampler(cls, value: object) -> object:
        if value not in list(SAMPLERS):
            expected = {"expected": join_words([*map(repr, SAMPLERS)], "or")}
            raise PydanticCustomError("literal_error", "Input should be {expected}", expected)
        return value

    @field_validator("rungs")
    @classmethod
    def _check_rung_keys(cls, rungs: tuple[PlainData, ...]) -> tuple[PlainData, ...]:
        for number, rung in enumerate(rungs, start=1):
            for key in rung:
                if key not in FIDELITIES:
                    hint = suggest(key, FIDELITIES)
                    raise ValueError(f"rung {number}: unknown key {quote(key)}; {hint}")
        return rungs

    @model_validator(mode="after")
    def _check_tournament(self) -> Self:
        if self.tournament is not None and self.tournament > self.population:
            raise ValueError(
                f"tournament: expected at most the population size, {self.population}, "
                f"got {self.tournament}"
            )
        return self

    @property
    def tournament_size(self) -> int:
        """Number of networks in a tournament."""
        return self.tournament or max(2, self.population // 4)


class Budget(Value):
    """When to stop starting new trials; networks trained by then are still measured.

    Attributes:
        trials: number of trials.
        hours: wall-clock hours of one session (each call of `run` is a session).
        device_hours: hours of a whole device, summed over all sessions and including measuring. A
            trial on a GPU uses the share `executor.gpus_per_trial` of a device; a trial on a CPU
            uses `recipe.threads` of the machine's cores (see `runs.ledger.usage`).
    """

    trials: int | None = Field(default=None, ge=1, le=10_000_000)
    hours: float | None = Field(default=None, gt=0, le=1e6)
    device_hours: float | None = Field(default=None, gt=0, le=1e9)


class ExecutorSpec(Value):
    """Where and how trials are executed.

    Attributes:
        kind: `ray` (parallel worker processes, on one machine or a cluster) or `in-process` (one
            trial after another in the driver's process).
        workers: number of trials that run in parallel; `auto` fills the machine or the cluster:
            one worker per `recipe.threads` cores, or as many as fit on the GPUs.
        device: `auto` (CUDA if the machine or the cluster has a GPU), `cpu` or `cuda`.
        gpus_per_trial: share of a GPU that a trial reserves, its memory included; with 0.25, four
            trials run on one GPU.
        lanes: number of seeds of one network that a worker trains side by side, each with the
            result that it has alone; fewer if memory runs out. `auto` is 8 on a GPU, where kernels
            of small networks run at the same time, and 1 on a CPU, where steps take turns.
        time_limit_s: training time in seconds after which a trial ends with state `timeout`.
            Under Ray, a worker that does not respond is killed after 1.5 times this limit for each
            of its lanes, plus 60 seconds.
        isolate: start a fresh process for each trial (adds seconds to each), for trials that must
            not share a process.
        shared: on a cluster, a folder mounted by all machines for checkpoints, weights and the
            workers' log; the ledger stays on the driver's disk.
        pilot: number of first trials in a session that must not all fail for the same reason. If
            they do, the run stops without recording them, because the environment is broken. 0
            records every failure.
    """

    identity_fields: ClassVar[frozenset[str]] = frozenset(
        (
            *("kind", "workers", "device", "gpus_per_trial", "time_limit_s", "isolate", "shared"),
            "pilot",
        )
    )

    kind: Literal["ray", "in-process"] = "ray"
    workers: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus_per_trial: float = Field(default=1.0, gt=0, le=1)
    lanes: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    time_limit_s: float | None = Field(default=None, gt=0, le=1e9)
    isolate: bool = False
    shared: str | None = None
    pilot: int = Field(default=3, ge=0, le=1000)

    @field_validator("gpus_per_trial", mode="before")
    @classmethod
    def _check_gpu_share(cls, share: object) -> object:
        if isinstance(share, int | float) and share > 1:
            raise ValueError(f"expected at most 1, because a trial uses one GPU, got {share:g}")
        return share

    @model_validator(mode="after")
    def _check_isolate(self) -> Self:
        if self.isolate and self.kind != "ray":
            raise ValueError("isolate: in-process has a single process; set kind: ray")
        return self

    def lanes_on(self, device: str) -> int:
        """Return the number of seeds of a network that a worker trains side by side."""
        if self.lanes != "auto":
            return self.lanes
        return _GPU_LANES if device.startswith("cuda") else 1


class SeedRule(Value):
    """Number of seeds, chosen from the spread of the first ones.

    See `search.ablation.sequential_seeds`.

    Attributes:
        min: number of seeds that every arm is trained with first; their spread decides how many
            more are needed.
        max: upper bound on the number of seeds.
        until: target half-width of the simultaneous confidence interval of every difference, in
            the unit of the decision quantity (the first objective that is trained).
    """

    min: int = Field(default=3, ge=2, le=10_000)
    max: int = Field(default=10, ge=2, le=10_000)
    until: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_min_below_max(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min: expected at most max, {self.max}, got {self.min}")
        return self
