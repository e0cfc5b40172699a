"""Candidates: networks on their way through training and measuring, and what they reach."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from types import MappingProxyType
from typing import Any

from partialnas.runs.config.metric_limits import Limit
from partialnas.runs.ledger.rows import TrialResult
from partialnas.runs.records.frozen_model import final_subject
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Speed
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.records.subject import Subject, parse_subject, subject_digest
from partialnas.search.executors.tasks import TimingJob
from partialnas.search.samplers.base import ObjectiveValues
from partialnas.search.study.condition import Condition
from partialnas.space.arch.architecture import Architecture

Metrics = Mapping[str, float]

_NO_LIMITS: Mapping[str, Limit] = MappingProxyType({})


@dataclass
class Candidate:
    """One distinct network of a study, under one of its conditions.

    Of a hundred thousand networks that a ledger remembers hardly any is asked for again: what is
    trained and what is timed are built when they are.

    Attributes:
        subject_or_loader: what is trained, or what reads the plain data that it is built from.
        condition: how it is trained and timed: on which rung, where a search has several. The
            same network on another rung is another candidate.
        requested: seeds that it is to be trained with, and which proposal asked for each first.
        pending_proposals: the ledger's numbers of the proposals that have not been told its values.
        planned_seeds: seeds that are planned for it.
        results: metrics and cost by seed; None where the trial failed.
        finished: by seed the key of the trial that is done, and its learned ratios at the end where it
            has any.
        speeds: how fast these are, by seed; None where timing one was tried in vain.
        reported: whether its proposals have been told.
        cached_digest: digest of what is trained, where that has been told.
    """

    subject_or_loader: Subject | Callable[[], Any]
    condition: Condition
    requested: dict[int, int] = field(default_factory=dict)
    pending_proposals: list[int] = field(default_factory=list)
    planned_seeds: set[int] = field(default_factory=set)
    results: dict[int, Metrics | None] = field(default_factory=dict)
    finished: dict[int, tuple[str, RatioEpoch | None]] = field(default_factory=dict)
    speeds: dict[int, Speed | None] = field(default_factory=dict)
    reported: bool = False
    cached_digest: str = ""

    @cached_property
    def subject(self) -> Subject:
        """What is trained."""
        return parse_subject(self.subject_or_loader()) if callable(self.subject_or_loader) else self.subject_or_loader

    @property
    def digest(self) -> str:
        """Of the network."""
        if not self.cached_digest:
            self.cached_digest = subject_digest(self.subject)
        return self.cached_digest

    @property
    def learns(self) -> bool:
        """Whether it learns its ratios."""
        return isinstance(self.subject, Architecture) and self.subject.learned is not None

    def request(self, seeds: Iterable[int], proposal: int) -> bool:
        """Has it trained with these seeds; whether it was not wanted with all of them already."""
        new = [seed for seed in seeds if seed not in self.requested]
        self.requested |= dict.fromkeys(new, proposal)
        return bool(new)

    @property
    def missing_seeds(self) -> list[int]:
        """Wanted seeds without a result."""
        return [seed for seed in self.requested if seed not in self.results]

    def job(self, seed: int) -> Job:
        """Its training with one seed."""
        return Job(
            subject=self.subject,
            task=self.condition.task,
            recipe=self.condition.recipe,
            fidelity=self.condition.recipe.epochs,
            seeds=(seed,),
            rung=self.condition.rung,
            branches=self.condition.branches,
        )

    def add_result(self, record: Record | TrialResult, ratios: RatioEpoch | None) -> None:
        """Takes up what a trial has reached.

        Args:
            record: of the trial.
            ratios: its learned ratios at the end, where it has any.
        """
        if record.state not in ("done", "early"):
            self.results[record.seed] = None
            return
        self.results[record.seed] = record.results
        self.finished[record.seed] = record.key, ratios

    def final_digest(self, seed: int) -> str:
        """Digest of what a training ended with: itself, or what its learned ratios froze to."""
        _, ratios = self.finished[seed]
        return ratios.frozen if ratios is not None and ratios.frozen is not None else self.digest

    def timing_job(self, seed: int) -> TimingJob:
        """What is to be timed of a trial.

        Where every image has its own ratio the speed depends on the weights: those of the first
        trial that is done stand for all.
        """
        _, ratios = self.finished[seed]
        trained = None
        if ratios is not None and ratios.frozen is None:
            trained, _ = next(iter(self.finished.values()))
        how = self.condition.full_fidelity or self.condition
        subject = final_subject(self.subject, ratios)
        return TimingJob(subject=subject, task=how.task, protocol=how.protocol, weights_trial_key=trained)

    @property
    def trained(self) -> bool:
        """Whether all planned trials have ended."""
        return bool(self.planned_seeds) and self.planned_seeds <= self.results.keys()

    @property
    def pending_timings(self) -> dict[int, TimingJob]:
        """By seed what is to be timed still: nothing before all its trials have ended."""
        if not self.trained:
            return {}
        return {seed: self.timing_job(seed) for seed in self.finished if seed not in self.speeds}

    def objective_values(
        self, objectives: Iterable[str], limits: Mapping[str, Limit] = _NO_LIMITS
    ) -> ObjectiveValues | None:
        """The means over seeds; None where a trial failed, or an objective or limit is missing.

        Measured objectives are relative to the study's reference, so that the drift of a machine
        does not reach the sampler; limits are about the figures as they were timed.
        """
        values = self._means(objectives, _relative)
        figures = self._means(limits, _timed) if limits else {}
        if values is None or figures is None:
            return None
        excess = {name: limit.excess(figures[name]) for name, limit in limits.items()}
        return ObjectiveValues(values, excess)

    def mean_values(self, names: Iterable[str]) -> dict[str, float] | None:
        """The means over seeds, speeds as they were timed; None where a trial failed, or one lacks.

        Speeds are taken from the measurements that there are.
        """
        return self._means(names, _timed)

    def _means(
        self, names: Iterable[str], speed: Callable[[Speed], dict[str, float]]
    ) -> dict[str, float] | None:
        """The means of these quantities, speeds in one unit or the other; None where one lacks."""
        results = []
        for seed, metrics in self.results.items():
            if metrics is None:
                return None
            timing = self.speeds.get(seed)
            results.append({**metrics, **speed(timing)} if timing else metrics)
        if len(results) == 1:  # as a rule, and where a long search goes on a hundred thousand times
            values = {name: float(results[0].get(name, math.nan)) for name in names}
        else:
            values = {name: _mean([e[name] for e in results if name in e]) for name in names}
        return values if results and all(map(math.isfinite, values.values())) else None


def _mean(values: list[float]) -> float:
    """NaN of none."""
    return fmean(values) if values else math.nan


def _relative(speed: Speed) -> dict[str, float]:
    relative = speed.relative_throughput or speed.throughput_img_s
    return _named(relative, 1 / relative, speed)


def _timed(speed: Speed) -> dict[str, float]:
    return _named(speed.throughput_img_s, speed.latency_ms, speed)


def _named(throughput: float, latency: float, speed: Speed) -> dict[str, float]:
    values = {"throughput_img_s": throughput, "latency_ms": latency}
    if speed.peak_memory_bytes is not None:
        values["peak_memory_bytes"] = float(speed.peak_memory_bytes)
    return values
