"""Measurements of a study by network: which one counts, and which to repeat."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.records import timing_choice
from partialnas.runs.records.measurement import (
    REFERENCE_CONDITIONS,
    SPEED_FIELDS,
    Measurement,
    MeasurementTable,
    ReferenceScale,
    Speed,
    reference_conditions,
)
from partialnas.runs.records.subject import subject_digest, subject_name
from partialnas.runs.records.timing_choice import FailedTiming, ImageSize, Machine, TimingSetup
from partialnas.runs.system.environment import utc_now
from partialnas.search.driver.candidate import Candidate
from partialnas.search.executors.tasks import TimingJob
from partialnas.search.study.fidelity import Condition


@dataclass
class _TimingSetting:
    """How and on what images networks are timed, and what the measurements so far determine.

    Attributes:
        setup: conditions of the measurements.
        size: resolution and channels of the images.
        machine: machine of the first measurement, which is preferred, or None before it.
        scale: common scale of the speeds.
        failures: number of failed timings of each network, by digest.
    """

    setup: TimingSetup
    size: ImageSize
    machine: Machine | None = None
    scale: ReferenceScale = field(default_factory=ReferenceScale)
    failures: Counter[str] = field(default_factory=Counter)

    def matches(self, m: Measurement) -> bool:
        """Return whether a measurement has this setting."""
        return self.setup.matches(m) and (m.resolution, m.in_chans) == self.size

    def add(self, m: Measurement) -> None:
        """Add a measurement that matches."""
        self.machine = self.machine or timing_choice.machine(m)
        self.scale.add(reference_conditions(m), m.reference_throughput_img_s)

    def add_failure(self, failed: FailedTiming) -> None:
        """Count a failed timing, if it has this setting."""
        setting = failed.setup, (failed.resolution, failed.in_chans)
        if setting == (self.setup, self.size) and not failed.retried:
            self.failures[failed.digest] += 1


class MeasurementIndex:
    """Index a study's measurements by network, and keep the speeds of its candidates up to date.

    Args:
        conditions: conditions of the study.
        candidates: all candidates of the study; read again at every call.
    """

    def __init__(
        self, conditions: Iterable[Condition], candidates: Mapping[tuple[Condition, str], Candidate]
    ) -> None:
        self._candidates = candidates
        self._loaded = MeasurementTable.from_records([])
        self._loaded_rows: dict[str, list[int]] = {}
        self._added: dict[str, list[Measurement]] = {}
        self._settings = {(c.task, c.protocol): _make_setting(c) for c in conditions}

    def load(self, table: MeasurementTable, failed: Iterable[FailedTiming]) -> None:
        """Index the timings of earlier sessions, and set the speeds of finished trials."""
        for timing in failed:
            self.add_failure(timing)
        self._loaded = table
        for row, digest in enumerate(table.columns["digest"]):
            self._loaded_rows.setdefault(digest, []).append(row)
        best_speeds = {key: self._load_setting(setting) for key, setting in self._settings.items()}
        by_condition: dict[Condition, Mapping[str, Speed | None]] = {}
        for candidate in self._candidates.values():
            condition = candidate.timing_condition
            if condition not in by_condition:
                by_condition[condition] = best_speeds[condition.task, condition.protocol]
            speeds = by_condition[condition]
            for seed, digest in candidate.final_digests().items():
                if digest in speeds:
                    candidate.set_speed(seed, speeds[digest])

    def _load_setting(self, setting: _TimingSetting) -> dict[str, Speed | None]:
        """Add the loaded measurements to a setting; return the best speed of each network.

        The speed of a network is None if all its timings failed.
        """
        table = self._loaded
        matching, best = timing_choice.select_measurements(table, setting.setup, setting.size)
        if matching:
            setting.machine = timing_choice.machine(table[matching[0]])
        conditions = [*table.rows(*REFERENCE_CONDITIONS)]
        throughputs = table.columns["reference_throughput_img_s"]
        for row in matching:
            setting.scale.add(conditions[row], throughputs[row])
        values = [*table.rows(*SPEED_FIELDS)]
        speeds = {
            digest: Speed._make((*values[row], setting.scale.timings(conditions[row])))
            for digest, row in best.items()
        }
        return dict.fromkeys(setting.failures) | speeds

    def add_failure(self, failed: FailedTiming) -> None:
        """Add a failed timing: the network is not timed again."""
        for setting in self._settings.values():
            setting.add_failure(failed)

    def failure(self, item: TimingJob, reason: str) -> FailedTiming:
        """Return the record of a failed timing job."""
        setting = self._settings[item.task, item.protocol]
        return FailedTiming(
            digest=subject_digest(item.subject),
            name=subject_name(item.subject),
            setup=setting.setup,
            resolution=item.task.resolution,
            in_chans=item.task.channels,
            reason=reason,
            ended=utc_now(),
        )

    def has_failed(self, item: TimingJob) -> bool:
        """Return whether the network of a timing job could not be timed."""
        failures = self._settings[item.task, item.protocol].failures
        return subject_digest(item.subject) in failures

    def best(self, item: TimingJob) -> Measurement | None:
        """Return the measurement that counts for a timing job, or None if there is none."""
        return self._best(subject_digest(item.subject), item.task, item.protocol)

    def speed(self, measurement: Measurement, item: TimingJob) -> Speed:
        """Return the values of a timing job's measurement, on the common scale."""
        return self._speed(measurement, item.task, item.protocol)

    def add(self, measurement: Measurement) -> None:
        """Add a new measurement; the best one of a network counts."""
        digest = measurement.digest
        is_first = digest not in self._loaded_rows and digest not in self._added
        self._added.setdefault(digest, []).append(measurement)
        for setting in self._settings.values():
            if setting.matches(measurement):
                setting.add(measurement)
        if is_first:
            return
        for candidate in self._candidates.values():
            task, protocol = candidate.timing_condition.task, candidate.timing_condition.protocol
            for seed, final_digest in candidate.final_digests().items():
                if final_digest == digest and seed in candidate.speeds:
                    best = self._best(digest, task, protocol)
                    speed = self._speed(best, task, protocol) if best else None
                    candidate.set_speed(seed, speed)

    def timings_to_retry(self) -> list[TimingJob]:
        """Return the timings to repeat: noisy or disturbed so far, with retries left."""
        marked = (
            candidate.timing_job(seed)
            for candidate in self._candidates.values()
            for seed, speed in candidate.speeds.items()
            if candidate.at_full_fidelity and speed is not None and speed.num_marks
        )
        items = {item.identity: item for item in marked}
        return [item for item in items.values() if self._can_retry(item)]

    def _can_retry(self, item: TimingJob) -> bool:
        digest, protocol = subject_digest(item.subject), item.protocol
        failures = self._settings[item.task, protocol].failures[digest]
        return len(self._matching(digest, item.task, protocol)) + failures <= protocol.retries

    def _best(self, digest: str, task: Task, protocol: Protocol) -> Measurement | None:
        setting = self._settings[task, protocol]
        measurements = self._matching(digest, task, protocol)
        return timing_choice.best_measurement(measurements, setting.setup, setting.machine)

    def _speed(self, measurement: Measurement, task: Task, protocol: Protocol) -> Speed:
        scale = self._settings[task, protocol].scale
        values = (getattr(measurement, name) for name in SPEED_FIELDS)
        return Speed._make((*values, scale.timings(reference_conditions(measurement))))

    def _matching(self, digest: str, task: Task, protocol: Protocol) -> list[Measurement]:
        """Return the measurements of a network that match, in the order they were taken."""
        loaded = [self._loaded[row] for row in self._loaded_rows.get(digest, ())]
        every = [*loaded, *self._added.get(digest, ())]
        return [m for m in every if self._settings[task, protocol].matches(m)]


def _make_setting(condition: Condition) -> _TimingSetting:
    size = condition.task.resolution, condition.task.channels
    return _TimingSetting(TimingSetup.from_protocol(condition.protocol), size)
