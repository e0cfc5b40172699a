"""The ledger of a study: one SQLite file, the only source of truth.

The study's driver is the only writer; anyone may read at any time. Each finished trial is one
commit that the disk confirms before the next trial starts, so that a study killed at any moment can
resume: `requeue_running` plans again what was running. Writes that are cheap to repeat, such as
proposals, do not wait for the disk. The ledger is copied every ten minutes and at the end (see
`backup`); final rows are then archived by column, for fast reading (see `column_store`).
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Self, TextIO

from partialnas.runs.ledger import backup, column_store, file, rows, schema
from partialnas.runs.ledger.checked_rows import delete_rows, write_row
from partialnas.runs.ledger.reader import LedgerReader
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.records.timing_choice import FailedTiming
from partialnas.runs.system.environment import utc_now
from partialnas.runs.system.study_lock import lock_study, unlock_study
from partialnas.space.errors import MachineError, UserError

_BACKUP_EVERY_S = 600.0
_BACKUP_REST = 50  # pause after a copy, in multiples of its duration: at most 2 % of the time


class Ledger(LedgerReader):
    """The records of the study in one folder.

    Obtained from `create` or `open`; a context manager. The methods raise MachineError if the disk
    is full or the file is damaged; no finished trial is lost then.

    Attributes:
        path: path of the file.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: TextIO | None) -> None:
        super().__init__(path, connection)
        self._lock = lock
        self._check: Future[None] | None = None
        self._changed = False
        self._next_backup = monotonic() + _BACKUP_EVERY_S

    @classmethod
    def create(cls, folder: Path, meta: Mapping[str, str]) -> Self:
        """Create a ledger, and its folder if necessary, and open it for writing.

        Raises:
            UserError: the folder already holds a ledger, or another driver works in it.
            MachineError: the folder cannot be written, or its ledger is missing but has copies.
        """
        path = folder / file.LEDGER_FILE
        with file.translate_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
        lock = lock_study(folder)
        try:
            if path.exists():
                raise UserError(
                    f"{folder}: already holds a ledger; choose another folder with --out"
                )
            _check_not_lost(path)
            file.create_ledger_file(path, meta)
            ledger = cls(path, file.open_writer(path), lock)
            file.upgrade(ledger._connection)
            return ledger
        except BaseException:
            unlock_study(lock)
            raise

    @classmethod
    def open(cls, folder: Path, *, write: bool = False, wait: bool = True) -> Self:
        """Open the ledger in a folder, for reading or as the study's only driver.

        Args:
            folder: folder of the study.
            write: whether to open for writing; the file is checked for damage then.
            wait: whether to wait for the end of this check; see `ensure_checked`.

        Raises:
            UserError: there is no ledger, the file is not a ledger or needs a newer version of
                partialnas, or another driver works on it.
            MachineError: the ledger is damaged, or cannot be read or written.
        """
        path = folder / file.LEDGER_FILE
        if not path.exists():
            _check_not_lost(path)
            file.check_no_log(path)
            raise UserError(
                f"{folder}: no ledger here ({file.LEDGER_FILE}); "
                f"start one with `partialnas run STUDY --out {folder}`"
            )
        if not write:
            return cls(path, file.open_reader(path), None)
        lock = lock_study(folder)
        try:
            with_log = file.has_log(path)
            thread = ThreadPoolExecutor(1)
            check = thread.submit(file.check_integrity, path)
            thread.shutdown(wait=with_log)
            if with_log:  # before it is replayed into the file
                check.result()
            ledger = cls(path, file.open_writer(path), lock)
        except BaseException:
            unlock_study(lock)
            raise
        ledger._check = check
        if wait:
            try:
                ledger.ensure_checked()
            except BaseException:
                ledger._release()
                raise
        return ledger

    def ensure_checked(self) -> None:
        """Wait for the check of the file, then upgrade an older schema. Called before each write.

        Raises:
            MachineError: the file is damaged, or cannot be copied before its upgrade.
        """
        if self._check is not None:
            self._check.result()
            with file.translate_errors(self.path):
                self._upgrade()
            self._check = None

    def _upgrade(self) -> None:
        version = schema.schema_version(self._connection)
        current = version == schema.SCHEMA_VERSION
        if not current and not backup.back_up_before_upgrade(self._connection, self.path, version):
            raise MachineError(
                f"{self.path}: cannot be copied before the upgrade from schema {version} to "
                f"{schema.SCHEMA_VERSION}; free disk space and make {self.path.parent} writable"
            )
        file.upgrade(self._connection)

    def close(self) -> None:
        """Close the file and release the study's lock."""
        try:
            self.ensure_checked()
            with file.translate_errors(self.path):
                if self._lock:
                    self._back_up()
        finally:
            self._release()

    def _release(self) -> None:
        self._connection.close()
        if self._lock:
            unlock_study(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def update_meta(self, meta: Mapping[str, str]) -> None:
        """Add or replace metadata of the study."""
        with self._transaction():
            for key, value in meta.items():
                write_row(self._connection, "meta", (key, value))

    def requeue_running(self) -> int:
        """Set running trials, left by an earlier driver, to planned; return their number."""
        running = self._trials("WHERE state = 'running'")
        if running:
            with self._transaction(synced=False):
                for row in running:
                    self._write_trial(row._replace(state="planned"))
        return len(running)

    def add_proposal(self, arm: str | None, digest: str, subject: Any, proposal: Any) -> int:
        """Record a proposal and return its number.

        Args:
            arm: name of the arm, or None for a network proposed by a search.
            digest: digest of the proposed network.
            subject: plain data that the network is built from.
            proposal: plain data that the sampler is rebuilt from.
        """
        with self._transaction(synced=False):
            number = self._next("proposals")
            row = rows.ProposalRow(
                number, arm, digest, rows.to_json(subject), rows.to_json(proposal), utc_now()
            )
            write_row(self._connection, "proposals", row)
        return number

    def plan(
        self, proposal: int, *, digest: str, name: str, fidelity: int, keys: Mapping[int, str]
    ) -> list[rows.TrialRow]:
        """Plan the trials of one job and return their rows.

        A trial with the same key stays as it is; if it is final, it answers the proposal.

        Args:
            proposal: number of the proposal.
            digest: digest of the network.
            name: name of the network.
            fidelity: epochs.
            keys: key of the trial by seed.
        """
        with self._transaction(synced=False):
            for seed, key in keys.items():
                if not self._trials("WHERE key = ?", key):
                    identity = (self._next("trials"), key, proposal, digest, name, seed)
                    self._write_trial(rows.planned_row(*identity, fidelity))
            return [self._trial(key) for key in keys.values()]

    def start(self, *keys: str) -> None:
        """Set planned trials to running.

        Raises:
            ValueError: a trial is final.
        """
        with self._transaction(synced=False):
            for key in keys:
                row = self._unfinished(key)
                self._write_trial(row._replace(state="running", attempts=row.attempts + 1))

    def retry(self, keys: Iterable[str]) -> int:
        """Set failed trials to planned and return their number; their failures stay in `study`.

        Raises:
            ValueError: a trial has not failed.
        """
        failed = [self._trial(key) for key in keys]
        if unfailed := [row.number for row in failed if row.state not in rows.FAILED_STATES]:
            raise ValueError(f"trial {unfailed[0]} has not failed")
        if not failed:
            return 0
        failures = {key: [*past] for key, past in self.study.failures.items()}
        with self._transaction():
            for row in failed:
                failures.setdefault(row.key, []).append(row.failure())
                column_store.discard_volume(self._connection, column_store.TRIALS, row.number)
                for table in ("curves", "ratios"):
                    delete_rows(self._connection, table, key=row.key)
                self._write_trial(row.replanned())
            write_row(self._connection, "meta", ("failures", rows.to_json(failures)))
        return len(failed)

    def finish(self, record: Record, *, attempts: int = 1) -> None:
        """Write the record, curve and learned ratios of a trial.

        Args:
            record: the record.
            attempts: number of processes that worked on the trial since it was started.

        Raises:
            ValueError: the trial is final already, or the record's state is not final.
        """
        if record.state not in rows.FINAL_STATES:
            raise ValueError(f"expected a final state, got {record.state}")
        facts = record.model_dump(
            include={"state", "reason", "metrics", "cost", "seconds", "device", "environment"}
        )
        with self._transaction():
            trial = self._unfinished(record.key)
            facts["attempts"] = trial.attempts + attempts - 1
            self._write_trial(trial._replace(**facts, finished=utc_now()))
            self._write_epochs(record.key, record.curve, record.ratios)

    def import_rows(
        self,
        proposals: Iterable[rows.ProposalRow],
        trials: Iterable[rows.ImportedTrial],
        measurements: Iterable[Measurement],
    ) -> None:
        """Write rows of other ledgers unchanged, in one transaction."""
        with self._transaction():
            for proposal in proposals:
                write_row(self._connection, "proposals", proposal)
            for row, curve, ratios in trials:
                self._write_trial(row)
                self._write_epochs(row.key, curve, ratios)
            for measurement in measurements:
                self._write_measurement(measurement)

    def add_measurement(self, measurement: Measurement) -> int:
        """Record a measurement and return its number."""
        with self._transaction():
            return self._write_measurement(measurement)

    def add_failed_timing(self, failed: FailedTiming) -> None:
        """Record that a network could not be timed."""
        self._write_failed_timings([*self.study.failed_timings, failed])

    def retry_timings(self) -> int:
        """Let networks be timed again that could not be timed; return their number.

        Their failures stay in `study`.
        """
        failed = self.study.failed_timings
        count = sum(not timing.retried for timing in failed)
        if count:
            retried = [timing.model_copy(update={"retried": True}) for timing in failed]
            self._write_failed_timings(retried)
        return count

    def _write_failed_timings(self, failed: Iterable[FailedTiming]) -> None:
        plain = [timing.model_dump(mode="json") for timing in failed]
        self.update_meta({"failed_timings": rows.to_json(plain)})

    @contextmanager
    def _transaction(self, *, synced: bool = True) -> Iterator[None]:
        self.ensure_checked()
        with file.translate_errors(self.path), schema.transaction(self._connection, synced=synced):
            yield
        self._changed = self._changed or synced
        if monotonic() > self._next_backup:
            self._back_up()

    def _back_up(self) -> None:
        """Archive final rows and copy the ledger, if anything was written since the last time."""
        if not self._changed:
            return
        began = monotonic()
        # rows that cannot be archived, e.g. on a full disk, are read one by one
        with suppress(sqlite3.Error), schema.transaction(self._connection, synced=False):
            column_store.archive_rows(self._connection)
        backup.back_up(self._connection, self.path)
        self._changed = False
        duration_s = monotonic() - began
        self._next_backup = monotonic() + max(_BACKUP_EVERY_S, _BACKUP_REST * duration_s)

    def _next(self, table: str) -> int:
        """Return the number of a table's next row."""
        return self._one(f"SELECT ifnull(max(number), 0) + 1 FROM {table}")

    def _unfinished(self, key: str) -> rows.TrialRow:
        row = self._trial(key)
        if row.is_final:
            raise ValueError(f"trial {row.number} ({key}) is already {row.state}")
        return row

    def _write_trial(self, row: rows.TrialRow) -> None:
        write_row(self._connection, "trials", rows.trial_columns(row))

    def _write_epochs(
        self, key: str, curve: Iterable[Mapping[str, float]], ratios: Iterable[RatioEpoch]
    ) -> None:
        for epoch, point in enumerate(curve, start=1):
            write_row(self._connection, "curves", (key, epoch, rows.to_json(point)))
        for row in ratios:
            write_row(self._connection, "ratios", (key, row.epoch, row.model_dump_json()))

    def _write_measurement(self, m: Measurement) -> int:
        number = self._next("measurements")
        conditions = (m.device, m.threads, m.batch_size, m.resolution, m.precision)
        kind = (m.form, m.runtime, m.model_dump_json(), m.taken)
        write_row(self._connection, "measurements", (number, m.digest, *conditions, *kind))
        return number


def _check_not_lost(path: Path) -> None:
    """Raise an error if the ledger is missing but its folder has copies of it."""
    if backup.newest_valid_backup(path) is not None:
        raise MachineError(f"{path}: is missing; {file.recovery_advice(path)}")
