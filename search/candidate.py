"""Candidates: networks on their way through training and measuring, and what they reach."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from types import MappingProxyType

from partialnas.runs.frozen import ended_with
from partialnas.runs.job import Job
from partialnas.runs.ledger_rows import TrialRow
from partialnas.runs.limits import Limit
from partialnas.runs.measurement import Measurement
from partialnas.runs.record import RatioEpoch, Record
from partialnas.runs.subject import Subject
from partialnas.search.condition import Condition
from partialnas.search.source import Reached
from partialnas.search.work import Timing
from partialnas.space.architecture import Architecture

Metrics = Mapping[str, float]

_NO_LIMITS: Mapping[str, Limit] = MappingProxyType({})


@dataclass
class Candidate:
    """One distinct network of a study, under one of its conditions.

    Attributes:
        subject: what is trained.
        condition: how it is trained and timed.
        wanted: seeds that it is to be trained with, and which proposal asked for each first.
        waiting: the ledger's numbers of the proposals that have not been told its values.
        seeds: seeds that are planned for it.
        results: metrics and cost by seed; None where the trial failed.
        networks: by seed what its training ended with, to be timed: itself, or the static network
            that its learned ratios froze to.
        speeds: how fast these are, by seed; None where timing one was tried in vain.
        concluded: whether its proposals have been told.
    """

    subject: Subject
    condition: Condition
    wanted: dict[int, int] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    seeds: set[int] = field(default_factory=set)
    results: dict[int, Metrics | None] = field(default_factory=dict)
    networks: dict[int, Timing] = field(default_factory=dict)
    speeds: dict[int, Measurement | None] = field(default_factory=dict)
    concluded: bool = False

    @property
    def learns(self) -> bool:
        """Whether it learns its ratios."""
        return isinstance(self.subject, Architecture) and self.subject.learned is not None

    def want(self, seeds: Iterable[int], proposal: int) -> bool:
        """Has it trained with these seeds; whether it was not wanted with all of them already."""
        new = [seed for seed in seeds if seed not in self.wanted]
        self.wanted |= dict.fromkeys(new, proposal)
        return bool(new)

    @property
    def missing(self) -> list[int]:
        """Wanted seeds without a result."""
        return [seed for seed in self.wanted if seed not in self.results]

    def job(self, seed: int) -> Job:
        """Its training with one seed."""
        return Job(
            subject=self.subject,
            task=self.condition.task,
            recipe=self.condition.recipe,
            fidelity=self.condition.recipe.epochs,
            seeds=(seed,),
        )

    def take(self, record: Record | TrialRow, ratios: RatioEpoch | None) -> None:
        """Takes up what a trial has reached.

        Args:
            record: of the trial.
            ratios: its learned ratios at the end, where it has any.
        """
        if record.state != "done":
            self.results[record.seed] = None
            return
        self.results[record.seed] = {**record.metrics, **record.cost}
        self.networks[record.seed] = self._ended_with(record.key, ratios)

    def _ended_with(self, key: str, ratios: RatioEpoch | None) -> Timing:
        """What is to be timed of a trial.

        Where every image has its own ratio the speed depends on the weights: those of the first
        trial that is done stand for all.
        """
        trained = None
        if ratios is not None and ratios.frozen is None:
            trained = next((item.trained for item in self.networks.values()), key)
        how, subject = self.condition, ended_with(self.subject, ratios)
        return Timing(subject=subject, task=how.task, protocol=how.protocol, trained=trained)

    @property
    def trained(self) -> bool:
        """Whether all planned trials have ended."""
        return bool(self.seeds) and self.seeds <= self.results.keys()

    @property
    def timed(self) -> dict[int, Timing]:
        """By seed what has been timed."""
        return {seed: each for seed, each in self.networks.items() if seed in self.speeds}

    @property
    def untimed(self) -> dict[int, Timing]:
        """By seed what is to be timed still: nothing before all its trials have ended."""
        if not self.trained:
            return {}
        return {seed: each for seed, each in self.networks.items() if seed not in self.speeds}

    def reached(
        self, objectives: Iterable[str], limits: Mapping[str, Limit] = _NO_LIMITS
    ) -> Reached | None:
        """The means over seeds; None where a trial failed, or an objective or limit is missing.

        Measured objectives are relative to the study's reference, so that the drift of a machine
        does not reach the sampler; limits are about the figures as they were timed.
        """
        values = self._means(objectives, _relative)
        figures = self._means(limits, _timed)
        if values is None or figures is None:
            return None
        excess = {name: limit.excess(figures[name]) for name, limit in limits.items()}
        return Reached(values, excess)

    def _means(
        self, names: Iterable[str], speed: Callable[[Measurement], dict[str, float]]
    ) -> dict[str, float] | None:
        """The means of these quantities, speeds in one unit or the other; None where one lacks."""
        results = [
            {**metrics, **(speed(timing) if (timing := self.speeds.get(seed)) else {})}
            for seed, metrics in self.results.items()
            if metrics is not None
        ]
        if len(results) < len(self.results) or not results:
            return None
        known = {key: fmean(r[key] for r in results if key in r) for key in results[0]}
        values = {name: known.get(name, math.nan) for name in names}
        return values if all(map(math.isfinite, values.values())) else None


def _relative(measurement: Measurement) -> dict[str, float]:
    relative = measurement.relative_throughput or measurement.throughput_img_s
    return {
        **_timed(measurement),
        "throughput_img_s": relative,
        "latency_ms": 1 / relative,
    }


def _timed(measurement: Measurement) -> dict[str, float]:
    values = {
        "throughput_img_s": measurement.throughput_img_s,
        "latency_ms": measurement.latency_ms,
    }
    if measurement.peak_memory_bytes is not None:
        values["peak_memory_bytes"] = float(measurement.peak_memory_bytes)
    return values
