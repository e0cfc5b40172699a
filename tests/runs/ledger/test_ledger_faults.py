"""Ledgers with damaged files, on full disks, and of killed processes."""

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from partialnas.runs.ledger import column_store as column_store
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.space.errors import MachineError, UserError

CURVE = tuple({"epoch": float(e), "lr": 0.1, "val_nll": 1 / e} for e in (1, 2, 3))
RATIOS = tuple(
    RatioEpoch(epoch=e, channels={"b": 4}, ratios={"b": 0.5}, used_macs=9, budget_macs=None)
    for e in (1, 2, 3)
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path, {"study": "tiny"}) as ledger:
        yield ledger


def finish_one(ledger: Ledger) -> str:
    """Propose, plan, start and finish one more trial, and return its key."""
    digest = f"d{len(ledger.proposals())}"
    number = ledger.add_proposal(None, digest, {"name": digest}, {"params": {"x": 0.5}})
    (row,) = ledger.plan(number, digest=digest, name="n", fidelity=3, keys={0: f"{digest}-0"})
    ledger.start(row.key)
    identity = {"key": row.key, "digest": digest, "name": "n", "seed": 0, "fidelity": 3}
    results = {"metrics": {"val_nll": 0.1 + 0.2}, "cost": {"macs": 2**40}}
    rows = {"curve": CURVE, "ratios": RATIOS}
    ledger.finish(Record.model_validate({**identity, "state": "done", **results, **rows}))
    return row.key


def fill(ledger: Ledger, finished: list[str]) -> None:
    """Finish trials until an error is raised."""
    while True:
        finished.append(finish_one(ledger))


def python(code: str, *arguments: Path) -> "subprocess.Popen[str]":
    """Start a process that can import this module."""
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", here + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# Damaged files.


def test_a_missing_ledger_is_an_error_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no ledger here .*partialnas run STUDY --out"):
        Ledger.open(tmp_path)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("content", [b"", b"trial,digest\n1,a\n" * 500])
def test_another_kind_of_file_is_an_error(tmp_path: Path, content: bytes, write: bool) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(content)
    with pytest.raises(UserError, match="is not a ledger of partialnas"):
        Ledger.open(tmp_path, write=write)
    assert (tmp_path / "ledger.sqlite").read_bytes() == content


def test_another_database_is_an_error(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("CREATE TABLE trials (x)")
    with pytest.raises(UserError, match="is not a ledger of partialnas"):
        Ledger.open(tmp_path)


@pytest.mark.parametrize("write", [False, True])
def test_a_newer_schema_is_refused(ledger: Ledger, tmp_path: Path, write: bool) -> None:
    ledger.close()
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("CREATE TABLE notes (number INTEGER)")
        connection.execute("DELETE FROM meta WHERE key = 'required_partialnas'")
        connection.execute("PRAGMA user_version = 5")
    with pytest.raises(UserError, match=r"newer partialnas \(schema 5; .* schema 4\); update"):
        Ledger.open(tmp_path, write=write)


def test_a_newer_schema_is_refused_with_the_release_that_reads_it(tmp_path: Path) -> None:
    created = {"environment": json.dumps({"partialnas": "0.8"})}
    for name, release in (("created", "0.8"), ("upgraded", "0.9")):
        Ledger.create(tmp_path / name, created).close()
        with sqlite3.connect(tmp_path / name / "ledger.sqlite") as connection:
            where = "WHERE key = 'required_partialnas'"
            change = "DELETE FROM meta" if name == "created" else "UPDATE meta SET value = '0.9'"
            connection.execute(f"{change} {where}")
            connection.execute("PRAGMA user_version = 5")
        with pytest.raises(UserError, match=rf"install partialnas {release} or newer to open it"):
            Ledger.open(tmp_path / name)
    with sqlite3.connect(tmp_path / "created" / "ledger.sqlite") as connection:
        connection.execute("DROP TABLE meta")
    with pytest.raises(UserError, match="update partialnas to open it"):
        Ledger.open(tmp_path / "created")


def test_a_truncated_file_is_an_error(ledger: Ledger, tmp_path: Path) -> None:
    path = _filled(ledger)
    _truncate(path)
    with pytest.raises(
        MachineError, match=r"is damaged .*partialnas restore .* copy, .*/backups/ledger-1.sqlite"
    ):
        Ledger.open(tmp_path, write=True)
    shutil.rmtree(tmp_path / "backups")
    with pytest.raises(MachineError, match=r"is damaged .*; restore it from a copy"):
        Ledger.open(tmp_path, write=True)


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def test_a_damaged_ledger_is_restored_from_the_newest_intact_copy(
    ledger: Ledger, tmp_path: Path
) -> None:
    path = _filled(ledger)
    with Ledger.open(tmp_path) as reader:
        truth = _everything(reader)
    with Ledger.open(tmp_path, write=True) as reopened:
        finish_one(reopened)
    _truncate(tmp_path / "backups" / "ledger-2.sqlite")
    _truncate(path)
    with pytest.raises(MachineError, match=r"newest intact copy, .*/backups/ledger-1.sqlite"):
        Ledger.open(tmp_path, write=True)
    shutil.copy(tmp_path / "backups" / "ledger-1.sqlite", path)
    with Ledger.open(tmp_path, write=True) as reopened:
        assert _everything(reopened) == truth
        finish_one(reopened)


def test_two_copies_are_kept_and_made_only_of_changed_intact_ledgers(
    ledger: Ledger, tmp_path: Path
) -> None:
    path = _filled(ledger)
    for _ in range(3):
        with Ledger.open(tmp_path, write=True) as reopened:
            finish_one(reopened)
    Ledger.open(tmp_path, write=True).close()
    names = sorted(copy.name for copy in (tmp_path / "backups").iterdir())
    assert names == ["ledger-3.sqlite", "ledger-4.sqlite"]
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE trials SET name = 'forged' WHERE number = 1")
    with pytest.raises(MachineError, match="row 1 of trials does not match its checksum"):
        Ledger.open(tmp_path, write=True)
    assert sorted(copy.name for copy in (tmp_path / "backups").iterdir()) == names


def test_a_missing_ledger_with_copies_is_not_created_anew(ledger: Ledger, tmp_path: Path) -> None:
    _filled(ledger).unlink()
    for attempt in (Ledger.open, partial(Ledger.create, meta={})):
        with pytest.raises(MachineError, match=r"is missing; .*/backups/ledger-1.sqlite"):
            attempt(tmp_path)


@pytest.mark.parametrize("size", [10, 1000])
def test_a_flipped_byte_anywhere_is_detected_or_harmless(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(column_store, "VOLUME_SIZE", size)
    path = _filled(ledger)
    good = path.read_bytes()
    with Ledger.open(tmp_path) as reader:
        truth = _everything(reader)
    detected = 0
    for position in range(0, len(good), 997):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
        try:
            with Ledger.open(tmp_path, write=True) as ledger_read:
                assert _everything(ledger_read) == truth
        except (MachineError, UserError):
            detected += 1
    assert detected > len(good) / 997 / 3


def test_nothing_is_written_before_the_file_is_checked(ledger: Ledger, tmp_path: Path) -> None:
    path = _filled(ledger)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM proposals WHERE number = 30")
    before = path.read_bytes()
    raises_damaged = partial(pytest.raises, MachineError, match="is damaged .*newest intact copy")
    with raises_damaged():
        Ledger.open(tmp_path, write=True)
    unchecked = Ledger.open(tmp_path, write=True, wait=False)
    assert len(unchecked.trials()) == 30
    for attempt in (partial(finish_one, unchecked), unchecked.close):
        with raises_damaged():
            attempt()
    with raises_damaged():  # the lock was released
        Ledger.open(tmp_path, write=True)
    assert path.read_bytes() == before


def _filled(ledger: Ledger) -> Path:
    for number in range(30):
        finish_one(ledger)
        ledger.add_measurement(_measurement(f"d{number}"))
    ledger.close()
    return ledger.path


def _measurement(digest: str) -> Measurement:
    conditions = {"device": "cpu", "device_kind": "cpu", "threads": 1, "batch_size": 32}
    size = {"resolution": 28, "in_chans": 1, "precision": "float32", "form": "deploy"}
    results = {"throughput_img_s": 1234.5, "latency_ms": 25.9, "rounds": 9, "wall_cpu_gap": 0.01}
    rest = {"noisy": False, "load": 0.3, "environment": {}, "taken": "2026-01-01T00:00:00+00:00"}
    facts = {"digest": digest, "name": "n", **conditions, **size, **results, **rest}
    return Measurement.model_validate(facts)


def _everything(ledger: Ledger) -> list[Any]:
    trials = ledger.trials()
    curves = [(ledger.curve(row.key), ledger.ratios(row.key)) for row in trials]
    reopened = [ledger.proposal_keys(), ledger.trial_results(), ledger.measurements()]
    return [ledger.meta, trials, ledger.proposals(), curves, reopened]


# Readers beside the driver.

_COUNT_TRIALS = """
import pathlib, sys
from partialnas.runs.ledger.ledger import Ledger
with Ledger.open(pathlib.Path(sys.argv[1])) as ledger:
    print(len(ledger.trials()))
"""


def test_a_reader_in_the_process_of_the_driver_leaves_its_locks_alone(
    ledger: Ledger, tmp_path: Path
) -> None:
    for count in (1, 2, 3):  # without the locks, the first other reader removes the driver's log
        finish_one(ledger)
        Ledger.open(tmp_path).close()
        with python(_COUNT_TRIALS, tmp_path) as reader:
            assert reader.communicate(timeout=60)[0] == f"{count}\n"


# Full and read-only disks.

_ON_A_SMALL_DISK = """
import json, pathlib, resource, signal, sys
from test_ledger_faults import Ledger, MachineError, fill
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
finished = []
with Ledger.open(pathlib.Path(sys.argv[1]), write=True) as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        fill(ledger, finished)
    except MachineError as error:
        print(json.dumps([len(finished), ledger.state_counts()["done"], str(error)]))
"""


def test_a_full_disk_is_an_error_and_nothing_is_lost(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    with python(_ON_A_SMALL_DISK, tmp_path) as driver:
        output, _ = driver.communicate(timeout=60)
    finished, done, message = json.loads(output)
    assert finished == done > 3
    assert "run the same command again" in message
    with Ledger.open(tmp_path, write=True) as reopened:
        assert reopened.state_counts()["done"] == finished
        reopened.requeue_running()
        finish_one(reopened)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user is not allowed to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk(tiny_disk: Path) -> None:
    finished = []
    with Ledger.create(tiny_disk, {}) as ledger:
        with pytest.raises(MachineError, match="the disk is full; free space"):
            fill(ledger, finished)
        assert ledger.state_counts()["done"] == len(finished) > 5
    with Ledger.open(tiny_disk) as reader:
        assert reader.state_counts()["done"] == len(finished)


@pytest.fixture
def read_only_folder(ledger: Ledger, tmp_path: Path) -> Iterator[Path]:
    """Return the ledger's folder, mounted read-only so that not even root can write to it."""
    finish_one(ledger)
    ledger.close()
    mount = ["mount", "--bind", "-o", "ro", str(tmp_path), str(tmp_path)]
    if os.geteuid() != 0:
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    elif subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("root may write everywhere, and mounting is not allowed")
    yield tmp_path
    if os.geteuid() != 0:
        tmp_path.chmod(stat.S_IRWXU)
    else:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_read_only_folder_can_be_read_and_is_not_written(read_only_folder: Path) -> None:
    with Ledger.open(read_only_folder) as reader:
        assert len(reader.trials()) == 1
    with pytest.raises(
        MachineError, match=r"driver.lock: cannot be written \(Read-only|Permission"
    ):
        Ledger.open(read_only_folder, write=True)
    with pytest.raises(MachineError, match=r"Read-only|Permission"):
        Ledger.create(read_only_folder / "new", {})


# Killed processes.

_WRITER = """
import pathlib, sys
from test_ledger_faults import Ledger, finish_one
with Ledger.open(pathlib.Path(sys.argv[1]), write=True) as ledger:
    ledger.requeue_running()
    while True:
        print(finish_one(ledger), flush=True)
"""


def test_kill_9_loses_nothing_that_was_finished(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    printed: list[str] = []
    for delay in (0.0, 0.01, 0.05, 0.02):
        with python(_WRITER, tmp_path) as writer:
            assert writer.stdout is not None
            printed.append(writer.stdout.readline().strip())
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
            printed += writer.stdout.read().split()
    with Ledger.open(tmp_path, write=True) as reopened:
        reopened.requeue_running()
        trials = reopened.trials()
        done = {row.key for row in trials if row.state == "done"}
        assert done >= set(printed)
        assert len(done) - len(printed) <= 4
        assert all(reopened.curve(key) == list(CURVE) for key in done)
        assert all(reopened.ratios(key) == list(RATIOS) for key in done)
        assert {row.state for row in trials} <= {"done", "planned"}
        assert [row.number for row in trials] == list(range(1, len(trials) + 1))


def test_the_lock_of_a_killed_driver_is_released(tmp_path: Path) -> None:
    Ledger.create(tmp_path, {}).close()
    code = (
        "import sys, pathlib; from partialnas.runs.ledger.ledger import Ledger\n"
        "ledger = Ledger.open(pathlib.Path(sys.argv[1]), write=True)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with python(code, tmp_path) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=f"process {driver.pid}"):
            Ledger.open(tmp_path, write=True)
        driver.kill()
    Ledger.open(tmp_path, write=True).close()
