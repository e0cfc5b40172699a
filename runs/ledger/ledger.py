"""The ledger of a study: one SQLite file, the single source of truth. Takes no torch.

Its only writer is the study's driver; anybody may read at any time. Each finished trial is one
commit that the disk has confirmed before the next trial is asked for, so that a study killed at any
moment goes on where it was: `recover` turns what was running into planned, and that is all. What
is cheap to do again, such as a proposal, does not wait for the disk. Against disks that damage what
they have confirmed, copies are made every ten minutes and at the end (see `ledger_backup`). What
has come to last is bound in volumes then, which long ledgers are read from (see `volumes`).
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self, TextIO

from partialnas.runs.ledger import column_store as volumes
from partialnas.runs.ledger.backup import back_up, newest_valid_backup
from partialnas.runs.ledger.file import (
    LEDGER_FILE,
    check_integrity,
    create_ledger_file,
    open_reader,
    open_writer,
    recovery_advice,
    translate_errors,
)
from partialnas.runs.ledger.reader import LedgerReader
from partialnas.runs.ledger.rows import (
    FINAL_STATES,
    ImportedTrial,
    ProposalRow,
    TrialRow,
    planned_row,
    to_json,
    trial_columns,
)
from partialnas.runs.ledger.schema import transaction, upgrade, write_row
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.system.environment import utc_now
from partialnas.runs.system.study_lock import lock_study, unlock_study
from partialnas.space.errors import MachineError, UserError

_BACKUP_EVERY_S = 600.0
_BACKUP_REST = 50  # times as long as a copy takes, so that copies take 2 % of the time at most


class Ledger(LedgerReader):
    """The records of the study in one folder.

    Made by `create` or `open`; a context manager. Its methods raise MachineError where the disk is
    full or the file is damaged: nothing that was finished is lost then.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: TextIO | None) -> None:
        super().__init__(path, connection)
        self._lock = lock
        self._check: Future[None] | None = None
        self._grown = False
        self._next_backup = monotonic() + _BACKUP_EVERY_S

    @classmethod
    def create(cls, folder: Path, meta: Mapping[str, str]) -> Self:
        """Starts a ledger in `folder`, which is made if need be, and opens it for writing.

        Raises:
            UserError: there is a ledger already, or another driver works here.
            MachineError: the folder cannot be written, or its ledger is gone and left copies.
        """
        path = folder / LEDGER_FILE
        with translate_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
        lock = lock_study(folder)
        try:
            if path.exists():
                raise UserError(f"{folder}: holds a ledger already; choose another folder")
            _refuse_lost(path)
            create_ledger_file(path, meta)
            ledger = cls(path, open_writer(path), lock)
            upgrade(ledger._connection)
            return ledger
        except BaseException:
            unlock_study(lock)
            raise

    @classmethod
    def open(cls, folder: Path, *, write: bool = False, wait: bool = True) -> Self:
        """Opens the ledger in `folder`: to read, or as the study's only driver.

        Args:
            folder: where it is.
            write: whether it is going to be written; one that is damaged is refused then.
            wait: whether that is found out at once, or beside reading; see `sound`.

        Raises:
            UserError: there is no ledger, it is none of ours or from a newer version, or another
                driver works on it.
            MachineError: it is damaged, or cannot be read or written.
        """
        path = folder / LEDGER_FILE
        if not path.exists():
            _refuse_lost(path)
            raise UserError(
                f"{folder}: no ledger here ({LEDGER_FILE}); "
                f"start one with `partialnas run STUDY --out {folder}`"
            )
        if not write:
            return cls(path, open_reader(path), None)
        lock = lock_study(folder)
        try:
            ledger = cls(path, open_writer(path), lock)
        except BaseException:
            unlock_study(lock)
            raise
        thread = ThreadPoolExecutor(1)
        ledger._check = thread.submit(check_integrity, path)
        thread.shutdown(wait=False)
        if wait:
            try:
                ledger.sound()
            except BaseException:
                ledger._let_go()
                raise
        return ledger

    def sound(self) -> None:
        """Waits until the file has been found in order; before that nothing is written to it.

        Raises:
            MachineError: it is damaged.
        """
        if self._check is not None:
            self._check.result()
            with translate_errors(self.path):
                upgrade(self._connection)
            self._check = None

    def close(self) -> None:
        """Closes the file and lets another driver in."""
        try:
            self.sound()
            with translate_errors(self.path):
                if self._lock:
                    self._back_up()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._connection.close()
        if self._lock:
            unlock_study(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def update_meta(self, meta: Mapping[str, str]) -> None:
        """Adds or replaces facts of the study, for one that has grown."""
        with self._transaction():
            for key, value in meta.items():
                write_row(self._connection, "meta", (key, value))

    def requeue_running(self) -> int:
        """Plans anew what a driver that is gone left running; how many these were."""
        running = self._trials("WHERE state = 'running'")
        if running:
            with self._transaction(synced=False):
                for row in running:
                    self._write_trial(row._replace(state="planned"))
        return len(running)

    def add_proposal(self, arm: str | None, digest: str, subject: Any, proposal: Any) -> int:
        """Notes an answer of the source; its number.

        Args:
            arm: of an ablation; None in a search.
            digest: of the network proposed.
            subject: plain data that the network is built from.
            proposal: plain data that the source is rebuilt from.
        """
        with self._transaction(synced=False):
            number = self._next("proposals")
            row = ProposalRow(number, arm, digest, to_json(subject), to_json(proposal), utc_now())
            write_row(self._connection, "proposals", row)
        return number

    def plan(
        self, proposal: int, *, digest: str, name: str, fidelity: int, keys: Mapping[int, str]
    ) -> list[TrialRow]:
        """Plans the trials of one job; the rows of all of them, as the ledger has them then.

        A trial that is known already stays as it is: one that is final answers the proposal.

        Args:
            proposal: number of the proposal that asks for them.
            digest: of the network.
            name: of the network.
            fidelity: epochs.
            keys: the key of each seed's trial.
        """
        with self._transaction(synced=False):
            for seed, key in keys.items():
                if not self._trials("WHERE key = ?", key):
                    number = self._next("trials")
                    self._write_trial(
                        planned_row(number, key, proposal, digest, name, seed, fidelity)
                    )
            return [self._trial(key) for key in keys.values()]

    def start(self, *keys: str) -> None:
        """Marks planned trials as running.

        Raises:
            ValueError: one of them is final.
        """
        with self._transaction(synced=False):
            for key in keys:
                row = self._unfinished(key)
                self._write_trial(row._replace(state="running", attempts=row.attempts + 1))

    def finish(self, record: Record) -> None:
        """Writes the record, the curve and the learned ratios of a trial, for good.

        Raises:
            ValueError: the trial has its record already, or the state is not a final one.
        """
        if record.state not in FINAL_STATES:
            raise ValueError(f"a record that is {record.state} finishes nothing")
        facts = record.model_dump(
            include={"state", "reason", "metrics", "cost", "seconds", "device", "environment"}
        )
        with self._transaction():
            trial = self._unfinished(record.key)
            self._write_trial(trial._replace(**facts, finished=utc_now()))
            self._write_epochs(record.key, record.curve, record.ratios)

    def import_rows(
        self,
        proposals: Iterable[ProposalRow],
        trials: Iterable[ImportedTrial],
        measurements: Iterable[Measurement],
    ) -> None:
        """Writes rows of other ledgers as they are: all, or none of them."""
        with self._transaction():
            for proposal in proposals:
                write_row(self._connection, "proposals", proposal)
            for row, curve, ratios in trials:
                self._write_trial(row)
                self._write_epochs(row.key, curve, ratios)
            for measurement in measurements:
                self._write_measurement(measurement)

    def add_measurement(self, measurement: Measurement) -> int:
        """Notes a measurement; its number."""
        with self._transaction():
            return self._write_measurement(measurement)

    @contextmanager
    def _transaction(self, *, synced: bool = True) -> Iterator[None]:
        self.sound()
        with translate_errors(self.path), transaction(self._connection, synced=synced):
            yield
        self._grown = self._grown or synced
        if monotonic() > self._next_backup:
            self._back_up()

    def _back_up(self) -> None:
        """Binds and copies the ledger, where it has grown.

        The next time waits long beside what this one takes.
        """
        if not self._grown:
            return
        began = monotonic()
        # rows that cannot be bound, as where the disk is full, are read one by one
        with suppress(sqlite3.Error), transaction(self._connection, synced=False):
            volumes.archive_rows(self._connection)
        back_up(self._connection, self.path)
        self._grown = False
        took = monotonic() - began
        self._next_backup = monotonic() + max(_BACKUP_EVERY_S, _BACKUP_REST * took)

    def _next(self, table: str) -> int:
        """The number of the next row: what was planned keeps its number for good."""
        return self._one(f"SELECT ifnull(max(number), 0) + 1 FROM {table}")

    def _unfinished(self, key: str) -> TrialRow:
        row = self._trial(key)
        if row.is_final:
            raise ValueError(f"trial {row.number} ({key}) is {row.state} for good")
        return row

    def _write_trial(self, row: TrialRow) -> None:
        write_row(self._connection, "trials", trial_columns(row))

    def _write_epochs(
        self, key: str, curve: Iterable[Mapping[str, float]], ratios: Iterable[RatioEpoch]
    ) -> None:
        for epoch, point in enumerate(curve, start=1):
            write_row(self._connection, "curves", (key, epoch, to_json(point)))
        for each in ratios:
            write_row(self._connection, "ratios", (key, each.epoch, each.model_dump_json()))

    def _write_measurement(self, m: Measurement) -> int:
        number = self._next("measurements")
        conditions = (m.device, m.threads, m.batch_size, m.resolution, m.precision)
        kind = (m.form, m.runtime, m.model_dump_json(), m.taken)
        write_row(self._connection, "measurements", (number, m.digest, *conditions, *kind))
        return number


def _refuse_lost(path: Path) -> None:
    """Refuse a folder whose ledger is gone while there are copies of it."""
    if newest_valid_backup(path) is not None:
        raise MachineError(f"{path}: is gone; {recovery_advice(path)}")
