"""Candidates: networks on their way through training and measuring, and what they reach."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from partialnas.runs.measurement import Measurement
from partialnas.runs.subject import Subject

Metrics = Mapping[str, float]


@dataclass
class Candidate:
    """One distinct network of a study.

    Attributes:
        subject: what is trained.
        waiting: the ledger's numbers of the proposals that have not been told its values.
        seeds: seeds that are planned for it.
        results: metrics and cost by seed; None where the trial failed.
        measurement: how fast it is; None until it was timed.
        timed: whether timing it was tried, whatever came of it.
        concluded: whether its proposals have been told.
    """

    subject: Subject
    waiting: list[int] = field(default_factory=list)
    seeds: set[int] = field(default_factory=set)
    results: dict[int, Metrics | None] = field(default_factory=dict)
    measurement: Measurement | None = None
    timed: bool = False
    concluded: bool = False

    @property
    def trained(self) -> bool:
        """Whether all planned trials have ended."""
        return bool(self.seeds) and self.seeds <= self.results.keys()

    @property
    def worth_timing(self) -> bool:
        """Whether it was trained with success and has not been timed."""
        good = any(metrics is not None for metrics in self.results.values())
        return self.trained and good and not self.timed

    def values(self, objectives: Iterable[str]) -> dict[str, float] | None:
        """The mean over seeds of each objective; None where a trial failed or one is missing.

        Measured objectives are relative to the study's reference, so that the drift of a machine
        does not reach the sampler.
        """
        results = [metrics for metrics in self.results.values() if metrics is not None]
        if len(results) < len(self.results) or not results:
            return None
        known = {key: fmean(r[key] for r in results if key in r) for key in results[0]}
        known |= _relative(self.measurement)
        values = {name: known.get(name, math.nan) for name in objectives}
        return values if all(map(math.isfinite, values.values())) else None


def _relative(measurement: Measurement | None) -> dict[str, float]:
    if measurement is None:
        return {}
    relative = measurement.relative_throughput or measurement.throughput_img_s
    values = {"throughput_img_s": relative, "latency_ms": 1 / relative}
    if measurement.peak_memory_bytes is not None:
        values["peak_memory_bytes"] = float(measurement.peak_memory_bytes)
    return values
