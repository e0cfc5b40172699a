"""Measurements of a study by network: which one counts, and which to repeat."""

from collections.abc import Iterable, Mapping

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.records import timing_choice
from partialnas.runs.records.measurement import Measurement, MeasurementTable, Speed
from partialnas.runs.records.subject import subject_digest
from partialnas.runs.records.timing_choice import TimingSetup
from partialnas.search.driver.candidate import Candidate
from partialnas.search.executors.tasks import TimingJob
from partialnas.search.study.fidelity import Condition


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
        self._machines: dict[TimingSetup, timing_choice.Machine | None] = {
            TimingSetup.from_protocol(condition.protocol): None for condition in conditions
        }

    def load(self, table: MeasurementTable) -> None:
        """Index the measurements of earlier sessions, and set the speeds of finished trials."""
        self._loaded = table
        for row, digest in enumerate(table.columns["digest"]):
            self._loaded_rows.setdefault(digest, []).append(row)
        self._machines = {s: timing_choice.study_machine(table, s) for s in self._machines}
        speeds = [*map(Speed._make, table.rows(*Speed._fields))]
        best_rows: dict[Condition, dict[str, int]] = {}
        for candidate in self._candidates.values():
            condition = candidate.timing_condition
            if condition not in best_rows:
                best_rows[condition] = self._best_rows(condition)
            for seed, digest in candidate.final_digests().items():
                if digest in best_rows[condition]:
                    candidate.set_speed(seed, speeds[best_rows[condition][digest]])

    def _best_rows(self, condition: Condition) -> dict[str, int]:
        setup = TimingSetup.from_protocol(condition.protocol)
        size = condition.task.resolution, condition.task.channels
        at = self._machines.get(setup)
        return timing_choice.select_measurements(self._loaded, setup, size, at).best_positions

    def best(self, item: TimingJob) -> Measurement | None:
        """Return the measurement that counts for a timing job, or None if there is none."""
        return self._best(subject_digest(item.subject), item.task, item.protocol)

    def add(self, measurement: Measurement) -> None:
        """Add a new measurement; the best one of a network counts."""
        digest = measurement.digest
        is_first = digest not in self._loaded_rows and digest not in self._added
        self._added.setdefault(digest, []).append(measurement)
        for setup, at in self._machines.items():
            if at is None and setup.matches(measurement):
                self._machines[setup] = timing_choice.machine(measurement)
        if is_first:
            return
        for candidate in self._candidates.values():
            task, protocol = candidate.timing_condition.task, candidate.timing_condition.protocol
            for seed, final_digest in candidate.final_digests().items():
                if final_digest == digest and seed in candidate.speeds:
                    best = self._best(digest, task, protocol)
                    candidate.set_speed(seed, Speed.from_measurement(best) if best else None)

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
        return len(self._matching(digest, item.task, protocol)) <= protocol.retries

    def _best(self, digest: str, task: Task, protocol: Protocol) -> Measurement | None:
        setup = TimingSetup.from_protocol(protocol)
        measurements = self._matching(digest, task, protocol)
        return timing_choice.best_measurement(measurements, setup, self._machines.get(setup))

    def _matching(self, digest: str, task: Task, protocol: Protocol) -> list[Measurement]:
        """Return the measurements of a network that match, in the order they were taken."""
        loaded = [self._loaded[row] for row in self._loaded_rows.get(digest, ())]
        every = [*loaded, *self._added.get(digest, ())]
        setup, size = TimingSetup.from_protocol(protocol), (task.resolution, task.channels)
        return [m for m in every if setup.matches(m) and (m.resolution, m.in_chans) == size]
