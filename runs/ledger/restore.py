"""Put an intact copy in the place of a study's ledger, and move the ledger aside."""

import sqlite3
from collections.abc import Container, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from partialnas.runs.ledger import backup, checked_rows, file, rows
from partialnas.runs.system.files import temporary_path
from partialnas.runs.system.study_lock import lock_study, unlock_study
from partialnas.space.errors import MachineError, UserError

_ASIDE = "damaged"


@dataclass(frozen=True)
class Restoration:
    """Result of restoring a ledger.

    Attributes:
        copy: the copy that is now the ledger.
        finished: number of its finished trials.
        last: time of the last of their records, ISO 8601 in UTC; empty without any.
        aside: folder that the previous ledger was moved to, or None if there was none.
        lost: finished trials that could be read in the previous ledger and are not in the copy;
            None if nothing could be read in it.
    """

    copy: Path
    finished: int
    last: str
    aside: Path | None
    lost: tuple[rows.TrialRow, ...] | None


def restore_ledger(folder: Path, source: Path | None = None) -> Restoration:
    """Restore the ledger in a folder from a copy; no file is deleted.

    The ledger is moved aside with its write-ahead log, which would be replayed into the copy.

    Args:
        folder: folder of the study.
        source: the copy; by default the newest intact one in `backups/`.

    Raises:
        UserError: the ledger is intact and no copy is named, the copy is not an intact ledger or
            belongs to another study, or a driver works on the study.
        MachineError: there is no intact copy, or the disk cannot be written.
    """
    path = folder / file.LEDGER_FILE
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    lock = lock_study(folder)
    try:
        copy = _choose_copy(path) if source is None else _check_source(source, folder)
        with file.translate_errors(path), closing(_open(copy)) as connection:
            trials = rows.trial_rows(checked_rows.read_table(connection, "trials"))
            draft = temporary_path(path)
            if not backup.copy_ledger(connection, draft):
                raise MachineError(f"{folder}: the copy cannot be written; free disk space")
            finished = {row.key: row.finished or "" for row in trials if row.is_final}
            lost = _lost_trials(path, len(trials), finished.keys())
            aside = _move_aside(path)
            draft.replace(path)
    finally:
        unlock_study(lock)
    return Restoration(copy, len(finished), max(finished.values(), default=""), aside, lost)


def _choose_copy(path: Path) -> Path:
    """Return the newest intact copy of a damaged or missing ledger."""
    if path.exists():
        with suppress(MachineError):
            file.check_integrity(path)
            raise UserError(
                f"{path}: is intact, so that nothing is restored; `--from FILE` puts a copy in its "
                "place nevertheless"
            )
    copy = backup.newest_valid_backup(path)
    if copy is None:
        raise MachineError(f"{path.parent}: has no intact copy in backups/; name one with --from")
    return copy


def _check_source(source: Path, folder: Path) -> Path:
    """Check that a file is an intact ledger of the study in a folder."""
    if not backup.is_intact(source):
        raise UserError(f"{source}: is not an intact ledger; choose another copy")
    if source.resolve() == (folder / file.LEDGER_FILE).resolve():
        raise UserError(f"{source}: is the ledger itself; name a copy of it")
    with closing(_open(source)) as connection:
        study = dict(checked_rows.read_table(connection, "meta")).get("study")
    with suppress(OSError, yaml.YAMLError, AttributeError):
        name = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8")).get("study")
        if name is not None and name != study:
            raise UserError(f"{source}: is a ledger of the study {study!r}, not of {name!r}")
    return source


def _open(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None)


def _lost_trials(
    path: Path, copied: int, finished: Container[str]
) -> tuple[rows.TrialRow, ...] | None:
    """Return the finished trials of a damaged ledger that its copy has not, as far as readable."""
    if not path.is_file():
        return None
    try:
        with closing(_open(path)) as connection:
            readable = [*_readable_trials(connection, copied)]
    except sqlite3.Error:
        return None
    lost = tuple(row for row in readable if row.is_final and row.key not in finished)
    return lost if readable else None


def _readable_trials(connection: sqlite3.Connection, copied: int) -> Iterator[rows.TrialRow]:
    """Yield the undamaged trials of a damaged ledger, one by one."""
    last = copied
    for query in (
        "SELECT max(number) FROM trials",
        "SELECT count(*) FROM trials",
        "SELECT rows FROM totals WHERE source = 'trials'",
    ):
        with suppress(sqlite3.Error, UnicodeDecodeError, TypeError):
            last = max(last, min(connection.execute(query).fetchone()[0], 2 * copied + 10_000))
    for number in range(1, last + 1):
        with suppress(sqlite3.Error, UnicodeDecodeError):
            read = checked_rows.read_rows(connection, "trials", "WHERE number = ?", number)
            yield from rows.trial_rows(read)


def _move_aside(path: Path) -> Path | None:
    """Move a ledger, its log and its shared memory into a new folder; return the folder."""
    names = (path.name, file.log_path(path).name, f"{path.name}-shm")
    existing = [entry for name in names if (entry := path.with_name(name)).exists()]
    if not existing:
        return None
    number = 1
    while (aside := path.parent / f"{_ASIDE}-{number}").exists():
        number += 1
    aside.mkdir()
    for entry in existing:
        entry.rename(aside / entry.name)
    return aside
