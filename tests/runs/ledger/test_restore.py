"""Ledgers with the write-ahead log of another file, restored ledgers, and what is not a ledger."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_study import add_trial, write

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.restore import restore_ledger
from partialnas.runs.ledger.schema import ADDED_TABLES
from partialnas.space.errors import MachineError, UserError

NAMES = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm")


def crashed(folder: Path, source: Path, first: int, count: int) -> Path:
    """Continue the study in `source`, and copy its files to `folder` as kill -9 leaves them."""
    with Ledger.open(source, write=True) as ledger:
        for number in range(first, first + count):
            add_trial(ledger, number)
        folder.mkdir()
        for name in NAMES[:2]:
            shutil.copy(source / name, folder / name)
    assert (folder / NAMES[1]).stat().st_size > 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return ledger and log; SQLite's shared memory is rebuilt from them."""
    return {name: (folder / name).read_bytes() for name in NAMES[:2] if (folder / name).exists()}


def numbers(folder: Path) -> list[Any]:
    with Ledger.open(folder) as ledger:
        return [(row.number, row.state, row.metrics) for row in ledger.trials()]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write(tmp_path / "study", 12)
    return tmp_path / "study"


def test_the_log_of_a_killed_driver_is_read_and_continued(study: Path, tmp_path: Path) -> None:
    folder = crashed(tmp_path / "crashed", study, 12, 3)
    before = contents(folder)
    assert numbers(folder) == numbers(study)
    assert contents(folder) == before  # readers leave the log to the next driver
    with Ledger.open(folder, write=True) as ledger:
        add_trial(ledger, 15)
    assert len(numbers(folder)) == 16
    assert not (folder / NAMES[1]).exists()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_log_of_another_study_is_refused(study: Path, tmp_path: Path, count: int) -> None:
    write(tmp_path / "other", 7)
    other = crashed(tmp_path / "crashed", tmp_path / "other", 7, count)
    shutil.copy(other / NAMES[1], study / NAMES[1])
    assert_refused(study)


@pytest.mark.parametrize("old_schema", [False, True])
def test_the_log_of_a_later_state_is_refused(study: Path, tmp_path: Path, old_schema: bool) -> None:
    """A copy was put in the place of a ledger, whose log was left beside it."""
    copy = shutil.copy(study / NAMES[0], tmp_path / "copy.sqlite")
    with Ledger.open(study, write=True) as ledger:
        for number in range(12, 30):
            add_trial(ledger, number)
    folder = crashed(tmp_path / "crashed", study, 30, 2)
    if old_schema:
        with closing(sqlite3.connect(copy)) as connection, connection:
            for table in ADDED_TABLES:
                connection.execute(f"DROP TABLE {table}")
            connection.execute("PRAGMA user_version = 1")
    shutil.copy(copy, folder / NAMES[0])
    assert_refused(folder)


def assert_refused(folder: Path) -> None:
    before = contents(folder)
    for write_ in (False, True):
        with (
            pytest.raises(MachineError, match=r"is damaged .*-wal beside it may belong to another"),
            Ledger.open(folder, write=write_) as ledger,
        ):
            ledger.trials()
        assert contents(folder) == before


def test_no_ledger_is_created_beside_a_log(study: Path, tmp_path: Path) -> None:
    folder = crashed(tmp_path / "crashed", study, 12, 1)
    (folder / NAMES[0]).unlink()
    for attempt in (Ledger.open, lambda path: Ledger.create(path, {})):
        with pytest.raises(MachineError, match=r"its write-ahead log .* is still there"):
            attempt(folder)


# Restoring.


def test_the_newest_intact_copy_is_restored_and_the_damaged_ledger_kept(
    study: Path, tmp_path: Path
) -> None:
    truth = numbers(study)
    folder = crashed(tmp_path / "crashed", study, 12, 3)
    shutil.copytree(study / "backups", folder / "backups")
    (folder / "backups" / "ledger-2.sqlite").write_bytes(b"SQLite format 3")
    path = folder / NAMES[0]
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"?????")] ^= 1
    path.write_bytes(damaged)
    before = contents(folder)
    restored = restore_ledger(folder)
    assert restored.copy == folder / "backups" / "ledger-1.sqlite"
    assert restored.lost is not None
    assert [row.number for row in restored.lost] == [13, 14, 15]
    assert restored.aside == folder / "damaged-1"
    assert contents(restored.aside) == before
    assert restored.finished == len(truth)
    assert numbers(folder) == truth
    with Ledger.open(folder, write=True) as ledger:
        add_trial(ledger, 12)
    assert len(numbers(folder)) == 13


def test_a_ledger_that_cannot_be_read_at_all_is_restored(study: Path) -> None:
    (study / NAMES[0]).write_bytes(b"\xff" * 9000)
    restored = restore_ledger(study)
    assert restored.lost is None
    assert restored.last.startswith("20")
    assert len(numbers(study)) == 12
    (study / NAMES[0]).unlink()
    restored = restore_ledger(study)
    assert restored.aside is None
    assert len(numbers(study)) == 12


def test_a_named_copy_of_the_same_study_is_restored(study: Path, tmp_path: Path) -> None:
    (study / "study.yaml").write_text("study: tiny")
    with pytest.raises(UserError, match="is intact, so that nothing is restored; `--from FILE`"):
        restore_ledger(study)
    write(tmp_path / "earlier", 4)
    source = tmp_path / "earlier" / NAMES[0]
    restored = restore_ledger(study, source)
    assert restored.lost is not None
    assert [row.number for row in restored.lost] == [*range(5, 13)]
    assert len(numbers(study)) == 4
    (study / "study.yaml").write_text("study: another")
    with pytest.raises(UserError, match="of the study 'tiny', not of 'another'"):
        restore_ledger(study, source)
    source.write_bytes(source.read_bytes()[:-4096])
    with pytest.raises(UserError, match="is not an intact ledger"):
        restore_ledger(study, source)
    assert len(numbers(study)) == 4


def test_nothing_is_restored_without_a_copy_or_while_a_driver_works(study: Path) -> None:
    with (
        Ledger.open(study, write=True),
        pytest.raises(UserError, match="another driver works on this study"),
    ):
        restore_ledger(study)
    shutil.rmtree(study / "backups")
    (study / NAMES[0]).write_bytes((study / NAMES[0]).read_bytes()[:5000])
    before = contents(study)
    with pytest.raises(MachineError, match=r"no intact copy in backups/; name one with --from"):
        restore_ledger(study)
    assert contents(study) == before


# What is not a ledger.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"number,state\n1,done\n" * 400, "it is not an SQLite file"),
        (None, "it is a database of another program"),
    ],
)
def test_another_file_is_named_and_not_changed(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / NAMES[0]
    if content is not None:
        path.write_bytes(content)
    else:
        (tmp_path / "elsewhere").mkdir()
        with closing(sqlite3.connect(tmp_path / "elsewhere" / NAMES[0])) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE trials (x)")
            connection.execute("INSERT INTO trials VALUES (1)")
            connection.commit()
            for name in NAMES[:2]:
                shutil.copy(tmp_path / "elsewhere" / name, tmp_path / name)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"is not a ledger of partialnas .{message}"):
        Ledger.open(tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_in_the_place_of_the_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).mkdir()
    with pytest.raises(UserError, match="is a folder, not a ledger"):
        Ledger.open(tmp_path)


@pytest.fixture
def read_only(study: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a killed driver on a read-only file system."""
    folder = crashed(tmp_path / "crashed", study, 12, 2)
    mount = ["mount", "--bind", "-o", "ro", str(folder), str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user is not allowed to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_log_on_a_read_only_file_system_cannot_be_replayed(read_only: Path) -> None:
    with pytest.raises(MachineError, match=r"-wal cannot be read in a read-only folder; copy the"):
        Ledger.open(read_only)
