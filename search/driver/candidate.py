"""Candidates of a study: networks with their seeds, results, speeds and state."""

import math
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Set, ValuesView
from enum import Enum
from functools import cached_property
from statistics import fmean
from typing import Any

from partialnas.runs.config.metric_limits import Limit, limit_excess
from partialnas.runs.config.quantities import is_recordable
from partialnas.runs.ledger.rows import TrialResult
from partialnas.runs.records.frozen_model import final_subject
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Speed
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.records.subject import Subject, parse_subject, subject_name
from partialnas.search.executors.tasks import TimingJob
from partialnas.search.samplers.base import ObjectiveValues
from partialnas.search.study.fidelity import Condition

Metrics = Mapping[str, float]


class CandidateState(Enum):
    """How far a candidate has come, from its first request to its report."""

    REQUESTED = "requested"
    """Seeds are requested; no trial is planned."""

    PLANNED = "planned"
    """At least one planned trial has no result."""

    TRAINED = "trained"
    """All planned trials have ended; at least one finished trial has not been timed."""

    TIMED = "timed"
    """All finished trials have been timed, or timing them has failed."""

    REPORTED = "reported"
    """The sampler may receive its values. Seeds requested later do not change this state."""


class Candidate:
    """One distinct network of a study, under one of its conditions.

    The same network under another condition, or on another rung, is another candidate. A candidate
    changes only through its methods: `request`, `plan`, `add_result`, `set_speed`, `report`.

    Args:
        subject: the network, or a function that reads its plain data. A resumed search has up to a
            hundred thousand networks, most of which are never built again.
        condition: how the network is trained and timed.
        digest: digest of the network.
    """

    def __init__(
        self, subject: Subject | Callable[[], Any], condition: Condition, digest: str
    ) -> None:
        self.condition = condition
        self.digest = digest
        self._subject = subject
        self._requested: dict[int, int] = {}
        self._planned: set[int] = set()
        self._results: dict[int, Metrics | None] = {}
        self._finished: dict[int, tuple[str, RatioEpoch | None]] = {}
        self._speeds: dict[int, Speed | None] = {}
        self._pending_proposals: list[int] = []
        self._reported = False
        self._arm = ""
        self._first_trial = 0

    # State.

    @property
    def name(self) -> str:
        """Name of the network in messages and tables: its arm, or its first trial such as `#7`."""
        number = f"#{self._first_trial}" if self._first_trial else ""
        return self._arm or number or subject_name(self.subject)

    @property
    def state(self) -> CandidateState:
        """How far the candidate has come."""
        if self._reported:
            return CandidateState.REPORTED
        if not self._planned:
            return CandidateState.REQUESTED
        if not self.trained:
            return CandidateState.PLANNED
        timed = self._finished.keys() <= self._speeds.keys()
        return CandidateState.TIMED if timed else CandidateState.TRAINED

    @property
    def trained(self) -> bool:
        """Whether all planned trials have ended, before or after the report."""
        return bool(self._planned) and self._planned <= self._results.keys()

    @property
    def requested(self) -> Mapping[int, int]:
        """Requested seeds, each with the number of the first proposal that requested it."""
        return self._requested

    @property
    def planned_seeds(self) -> Set[int]:
        """Seeds with a trial that is planned or has ended."""
        return self._planned

    @property
    def missing_seeds(self) -> list[int]:
        """Requested seeds without a result."""
        return [seed for seed in self._requested if seed not in self._results]

    @property
    def results(self) -> Mapping[int, Metrics | None]:
        """Metrics and cost by seed; None where the trial failed."""
        return self._results

    @property
    def speeds(self) -> Mapping[int, Speed | None]:
        """Speed by seed; None where timing failed."""
        return self._speeds

    # Transitions.

    def request(self, seeds: Iterable[int], proposal: int, arm: str | None = None) -> bool:
        """Request trials with these seeds, for an arm; return whether any of them is new."""
        self._arm = self._arm or arm or ""
        new = [seed for seed in seeds if seed not in self._requested]
        self._requested |= dict.fromkeys(new, proposal)
        return bool(new)

    def plan(self, seed: int) -> None:
        """Plan the trial of a seed."""
        self._planned.add(seed)

    def add_trial_number(self, number: int) -> None:
        """Add the ledger's number of one of its trials."""
        self._first_trial = min(number, self._first_trial or number)

    def add_result(self, record: Record | TrialResult, ratios: RatioEpoch | None) -> None:
        """Store the result of a trial that has ended.

        Args:
            record: the trial's record.
            ratios: learned ratios of its last epoch, or None if it learns none.
        """
        finished = record.state in ("done", "early") and is_recordable(record.results.values())
        self._results[record.seed] = record.results if finished else None
        if finished:
            self._finished[record.seed] = record.key, ratios

    def set_speed(self, seed: int, speed: Speed | None) -> None:
        """Store the speed of a finished trial, or None if timing failed."""
        self._speeds[seed] = speed

    def report(self) -> None:
        """Mark the candidate as reported; its planned trials must have ended."""
        assert self.trained, "a candidate is reported after its planned trials have ended"
        self._reported = True

    def add_pending_proposal(self, number: int) -> None:
        """Add a proposal that is to be answered once the candidate is reported."""
        self._pending_proposals.append(number)

    def pop_pending_proposals(self) -> list[int]:
        """Return the numbers of the proposals to answer now, and forget them."""
        numbers, self._pending_proposals = self._pending_proposals, []
        return numbers

    # What is trained and timed.

    @cached_property
    def subject(self) -> Subject:
        """The network as plain data."""
        return parse_subject(self._subject()) if callable(self._subject) else self._subject

    @property
    def at_full_fidelity(self) -> bool:
        """Whether the candidate is trained as the study says, not on a lower rung."""
        return self.condition.full_fidelity is None

    @property
    def timing_condition(self) -> Condition:
        """The condition under which the network is timed: that of the last rung."""
        return self.condition.full_fidelity or self.condition

    def job(self, seed: int) -> Job:
        """Return the training job of one seed."""
        return Job(
            subject=self.subject,
            task=self.condition.task,
            recipe=self.condition.recipe,
            fidelity=self.condition.recipe.epochs,
            seeds=(seed,),
            rung=self.condition.rung,
            branches=self.condition.branches,
        )

    def trial_keys(self) -> Iterator[str]:
        """Yield the keys of all planned trials."""
        for seed in self._planned:
            yield from self.job(seed).trial_keys.values()

    def final_digests(self) -> dict[int, str]:
        """Return by seed the digest of the network that each finished trial ended with.

        It is the candidate's own digest, or that of the static network of its learned ratios.
        """
        return {
            seed: self.digest if ratios is None or ratios.frozen is None else ratios.frozen
            for seed, (_, ratios) in self._finished.items()
        }

    def timing_job(self, seed: int) -> TimingJob:
        """Return the timing job of a finished trial.

        If ratios depend on the input, the speed depends on the weights: those of the first finished
        trial are used for all seeds.
        """
        _, ratios = self._finished[seed]
        first_seed, (first_key, _) = next(iter(self._finished.items()))
        needs_weights = ratios is not None and ratios.frozen is None
        loss = (self._results[first_seed] or {}).get("val_nll")
        return TimingJob(
            subject=final_subject(self.subject, ratios),
            task=self.timing_condition.task,
            protocol=self.timing_condition.protocol,
            weights_trial_key=first_key if needs_weights else None,
            weights_val_nll=loss if needs_weights else None,
        )

    @property
    def pending_timings(self) -> dict[int, TimingJob]:
        """Timing jobs by seed; empty until all planned trials have ended."""
        if not self.trained:
            return {}
        return {seed: self.timing_job(seed) for seed in self._finished if seed not in self._speeds}

    # Means over seeds.

    def objective_values(
        self, objectives: Iterable[str], limits: Mapping[str, Limit]
    ) -> ObjectiveValues | None:
        """Return means over seeds, or None if a trial failed or a quantity is missing.

        Measured objectives are relative to the study's reference, so that the sampler does not see
        the drift of a machine. Limits apply to the values of `mean_values`, which later timings of
        the reference change; so the excess is computed whenever it is read.
        """
        values = self._means(objectives, Speed.relative_metrics)
        limited = self._means(limits, Speed.relative_metrics) if limits else {}
        if values is None or limited is None:
            return None
        excess = _PresentExcess(self, limits) if limits else {}
        return ObjectiveValues(values, excess, limited)

    def mean_values(self, names: Iterable[str]) -> dict[str, float] | None:
        """Return means over seeds with speeds on the common scale, as tables show them.

        The mean of a speed covers the seeds that have been timed. None as in `objective_values`.
        """
        return self._means(names, Speed.metrics)

    def _means(
        self, names: Iterable[str], to_metrics: Callable[[Speed], dict[str, float]]
    ) -> dict[str, float] | None:
        rows = []
        for seed, metrics in self._results.items():
            if metrics is None:
                return None
            speed = self._speeds.get(seed)
            rows.append({**metrics, **to_metrics(speed)} if speed else metrics)
        if len(rows) == 1:  # the common case, reached a hundred thousand times in a long search
            values = {name: float(rows[0].get(name, math.nan)) for name in names}
        else:
            by_name = {name: [row[name] for row in rows if name in row] for name in names}
            values = {name: fmean(v) if v else math.nan for name, v in by_name.items()}
        return values if rows and all(map(math.isfinite, values.values())) else None


class _PresentExcess(Mapping[str, float]):
    """By how much a candidate exceeds limits at present (see `limit_excess`).

    It is computed again when it is read after a measurement that changes the candidate's speeds.

    Args:
        candidate: a candidate with values for all limits.
        limits: limits by quantity.
    """

    def __init__(self, candidate: Candidate, limits: Mapping[str, Limit]) -> None:
        self._candidate, self._limits = candidate, limits
        self._state: list[tuple[Speed, float | None]] | None = None
        self._excess: dict[str, float] = {}

    def _compute(self) -> dict[str, float]:
        state = [(s, s.reference.median) for s in self._candidate.speeds.values() if s is not None]
        if state != self._state:
            self._state = state
            values = self._candidate.mean_values(self._limits) or {}
            self._excess = limit_excess(self._limits, values)
        return self._excess

    def __getitem__(self, name: str) -> float:
        return self._compute()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)

    def items(self) -> ItemsView[str, float]:
        """Return names and values, all of one moment."""
        return self._compute().items()

    def values(self) -> ValuesView[float]:
        """Return the values, all of one moment."""
        return self._compute().values()
