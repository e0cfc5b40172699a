"""The ledger: what it keeps, and what it keeps when processes, disks and files fail."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.ledger import Ledger
from partialnas.runs.ledger_rows import seal
from partialnas.runs.measurement import Measurement
from partialnas.runs.record import Record
from partialnas.space.errors import MachineError, UserError

META = {"study": "tiny", "frozen": "{}"}
CURVE = tuple({"epoch": float(e), "lr": 0.1, "val_nll": 1 / e} for e in (1, 2, 3))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path, META) as ledger:
        yield ledger


def propose(ledger: Ledger, digest: str, seeds: tuple[int, ...] = (0,)) -> list[str]:
    """The keys of a network's trials, planned."""
    number = ledger.add_proposal(None, digest, {"name": digest}, {"params": {"x": 0.5}})
    keys = {seed: f"{digest}-{seed}" for seed in seeds}
    return [row.key for row in ledger.plan(number, digest=digest, name="n", fidelity=4, keys=keys)]


def record(key: str, **facts: Any) -> Record:
    digest, _, seed = key.partition("-")
    defaults: dict[str, Any] = {"state": "done", "metrics": {"val_nll": 0.1 + 0.2}, "seconds": 1.5}
    cost, environment = {"params": 10, "macs": 2**40}, {"python": "3.11", "cores": 2}
    defaults |= {"curve": CURVE, "cost": cost, "environment": environment}
    identity = {"key": key, "digest": digest, "name": "n", "seed": int(seed), "fidelity": 4}
    return Record(**{**identity, **defaults, **facts})


def measurement(digest: str = "a") -> Measurement:
    conditions = {"device": "cpu", "device_kind": "cpu", "threads": 1, "batch_size": 32}
    size = {"resolution": 28, "in_chans": 1, "precision": "float32", "form": "deploy"}
    found = {"throughput_img_s": 1234.5, "latency_ms": 25.9, "rounds": 9, "wall_cpu_gap": 0.01}
    rest = {"noisy": False, "load": 0.3, "environment": {}, "taken": "2026-01-01T00:00:00+00:00"}
    return Measurement.model_validate(
        {"digest": digest, "name": "n", **conditions, **size, **found, **rest}
    )


# What it keeps.


def test_a_trial_goes_from_planned_to_its_record(ledger: Ledger) -> None:
    (key,) = propose(ledger, "a")
    (planned,) = ledger.trials()
    assert (planned.number, planned.state, planned.attempts, planned.final) == (
        *(1, "planned", 0),
        False,
    )
    ledger.start(key)
    assert ledger.trials()[0].state == "running"
    ledger.finish(record(key))
    row = ledger.trial(1)
    assert (row.state, row.attempts, row.final) == ("done", 1, True)
    assert row.metrics == {"val_nll": 0.1 + 0.2}
    assert row.cost == {"params": 10, "macs": 2**40}
    assert row.environment == {"python": "3.11", "cores": 2}
    assert ledger.curve(key) == list(CURVE)


def test_what_is_written_is_read_by_another_connection(ledger: Ledger, tmp_path: Path) -> None:
    for digest in ("a", "b", "a"):
        propose(ledger, digest, (0, 1))
    ledger.finish(record("a-1", state="failed", reason="NaN in epoch 2", metrics={}))
    ledger.add_measurement(measurement())
    with Ledger.open(tmp_path) as reader:
        assert reader.meta == META
        assert [(row.number, row.digest) for row in reader.proposals()] == [
            (1, "a"),
            (2, "b"),
            (3, "a"),
        ]
        assert reader.proposals()[0].proposal == {"params": {"x": 0.5}}
        assert reader.trials() == ledger.trials()
        assert reader.measurements() == [measurement()]
        assert reader.replays() == 1
        assert reader.counts() == {
            **dict.fromkeys(("running", "done", "early", "timeout"), 0),
            "planned": 3,
            "failed": 1,
        }


def test_a_key_has_one_record_for_good(ledger: Ledger) -> None:
    (key,) = propose(ledger, "a")
    ledger.finish(record(key, state="timeout", reason="no result after 4 s", curve=()))
    before = ledger.trials()
    with pytest.raises(ValueError, match="timeout for good"):
        ledger.finish(record(key))
    with pytest.raises(ValueError, match="timeout for good"):
        ledger.start(key)
    assert ledger.trials() == before
    assert ledger.curve(key) == []
    with pytest.raises(ValueError, match="running finishes nothing"):
        ledger.finish(record(key, state="running"))
    with pytest.raises(KeyError):
        ledger.finish(record("unknown-0"))


def test_a_repeated_proposal_finds_its_trials(ledger: Ledger) -> None:
    propose(ledger, "a", (0, 1))
    ledger.finish(record("a-0"))
    number = ledger.add_proposal("arm", "a", {}, {})
    keys = {0: "a-0", 1: "a-1", 2: "a-2"}
    rows = ledger.plan(number, digest="a", name="n", fidelity=4, keys=keys)
    assert [(row.seed, row.state, row.proposal) for row in rows] == [
        (0, "done", 1),
        (1, "planned", 1),
        (2, "planned", 2),
    ]


def test_recovery_plans_what_was_running_and_touches_nothing_else(
    ledger: Ledger, tmp_path: Path
) -> None:
    keys = propose(ledger, "a", (0, 1, 2))
    ledger.start(*keys[:2])
    ledger.finish(record(keys[0]))
    done = ledger.trial(1)
    ledger.close()
    with Ledger.open(tmp_path, write=True) as again:
        assert again.recover() == 1
        assert again.trial(1) == done
        assert [row.state for row in again.trials()] == ["done", "planned", "planned"]
        assert again.recover() == 0


def test_a_study_that_grows_amends_its_facts(ledger: Ledger) -> None:
    ledger.amend({"frozen": '{"seeds": 3}', "grown": "seeds"})
    assert ledger.meta == META | {"frozen": '{"seeds": 3}', "grown": "seeds"}


def test_a_trial_that_is_not_there_is_told(ledger: Ledger) -> None:
    propose(ledger, "a")
    with pytest.raises(UserError, match=r"no trial 7 \(it has 1 trials\)"):
        ledger.trial(7)


def test_it_is_plain_sqlite_with_json(ledger: Ledger) -> None:
    (key,) = propose(ledger, "a")
    ledger.finish(record(key))
    query = "SELECT json_extract(row, '$.val_nll') FROM curves WHERE epoch = 2"
    facts = ("journal_mode", "user_version", "application_id", "foreign_key_check")
    with sqlite3.connect(ledger.path) as other:
        assert other.execute(query).fetchone() == (0.5,)
        answers = [other.execute(f"PRAGMA {fact}").fetchall() for fact in facts]
    assert answers == [[("wal",)], [(1,)], [(0x504E4153,)], []]


@given(st.lists(st.text("abc019{}", min_size=1), min_size=1), st.data())
def test_the_seal_tells_a_flipped_bit(columns: list[str], data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(columns) - 1))
    place = data.draw(st.integers(0, len(columns[which]) - 1))
    text = columns[which]
    flipped = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
    assert seal(columns) != seal([*columns[:which], flipped, *columns[which + 1 :]])


# One driver, many readers.


def test_a_second_driver_is_refused_with_the_pid_of_the_first(
    ledger: Ledger, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"another driver .*process {os.getpid()}"):
        Ledger.open(tmp_path, write=True)
    ledger.close()
    Ledger.open(tmp_path, write=True).close()


def test_the_lock_of_a_killed_driver_is_free(tmp_path: Path) -> None:
    Ledger.create(tmp_path, META).close()
    code = (
        "import sys, pathlib; from partialnas.runs.ledger import Ledger\n"
        "ledger = Ledger.open(pathlib.Path(sys.argv[1]), write=True)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with _python(code, tmp_path) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=f"process {driver.pid}"):
            Ledger.open(tmp_path, write=True)
        driver.kill()
    Ledger.open(tmp_path, write=True).close()


def test_a_reader_neither_waits_nor_holds_up_the_writer(ledger: Ledger, tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as reader:
        for number in range(20):
            began = time.monotonic()
            (key,) = propose(ledger, f"d{number}")
            ledger.finish(record(key))
            assert len(reader.trials()) == number + 1
            assert time.monotonic() - began < 1


def test_readers_leave_no_files(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    Ledger.open(tmp_path).close()
    with Ledger.open(tmp_path) as reader:
        reader.trials()
    assert {path.name for path in tmp_path.iterdir()} <= {"driver.lock", "ledger.sqlite"}


def test_a_second_study_in_the_same_folder_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    with pytest.raises(UserError, match="holds a ledger already"):
        Ledger.create(tmp_path, META)
    with Ledger.open(tmp_path) as reader:
        assert reader.meta == META


# Files that are no good.


def test_no_ledger_is_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no ledger here .*partialnas run STUDY --out"):
        Ledger.open(tmp_path)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("content", [b"", b"trial,digest\n1,a\n" * 500])
def test_another_kind_of_file_is_told(tmp_path: Path, content: bytes, write: bool) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(content)
    with pytest.raises(UserError, match="is not a ledger of partialnas"):
        Ledger.open(tmp_path, write=write)
    assert (tmp_path / "ledger.sqlite").read_bytes() == content


def test_another_database_is_told(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        other.execute("CREATE TABLE trials (x)")
    with pytest.raises(UserError, match="is not a ledger of partialnas"):
        Ledger.open(tmp_path)


@pytest.mark.parametrize("write", [False, True])
def test_a_newer_schema_is_refused(ledger: Ledger, tmp_path: Path, write: bool) -> None:
    ledger.close()
    with sqlite3.connect(ledger.path) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(UserError, match=r"newer partialnas \(schema 2; .* up to 1\); update"):
        Ledger.open(tmp_path, write=write)


def test_a_truncated_file_is_told(ledger: Ledger, tmp_path: Path) -> None:
    path = _filled(ledger)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    with pytest.raises(MachineError, match="is damaged; put a copy in its place"):
        Ledger.open(tmp_path, write=True)


def test_a_flipped_byte_anywhere_is_told_or_harmless(ledger: Ledger, tmp_path: Path) -> None:
    path = _filled(ledger)
    good = path.read_bytes()
    with Ledger.open(tmp_path) as reader:
        truth = _everything(reader)
    told = 0
    for place in range(0, len(good), 331):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        try:
            with Ledger.open(tmp_path, write=True) as found:
                assert _everything(found) == truth
        except (MachineError, UserError):
            told += 1
    assert told > len(good) / 331 / 3


def _filled(ledger: Ledger) -> Path:
    for number in range(30):
        (key,) = propose(ledger, f"d{number}")
        ledger.finish(record(key))
        ledger.add_measurement(measurement(f"d{number}"))
    ledger.close()
    return ledger.path


def _everything(ledger: Ledger) -> list[Any]:
    trials = ledger.trials()
    curves = [ledger.curve(row.key) for row in trials]
    return [ledger.meta, trials, ledger.proposals(), ledger.measurements(), curves]


# Disks that are no good.

_ON_A_SMALL_DISK = """
import json, pathlib, resource, signal, sys
sys.path.insert(0, sys.argv[2])
from test_ledger import Ledger, MachineError, fill
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
finished = []
with Ledger.open(pathlib.Path(sys.argv[1]), write=True) as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    try:
        fill(ledger, finished)
    except MachineError as error:
        print(json.dumps([len(finished), ledger.counts()["done"], str(error)]))
"""


def test_a_full_disk_is_told_and_nothing_is_lost(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    with _python(_ON_A_SMALL_DISK, tmp_path, Path(__file__).parent) as driver:
        output, _ = driver.communicate(timeout=60)
    finished, done, message = json.loads(output)
    assert finished == done > 5
    assert "run the same command again" in message
    with Ledger.open(tmp_path, write=True) as again:
        assert again.counts()["done"] == finished
        again.recover()
        (key,) = propose(again, "more")
        again.finish(record(key))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes rights that this user does not have")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full_indeed(tiny_disk: Path) -> None:
    finished = []
    with Ledger.create(tiny_disk, META) as ledger:
        with pytest.raises(MachineError, match="the disk is full; free space"):
            fill(ledger, finished)
        assert ledger.counts()["done"] == len(finished) > 5
    with Ledger.open(tiny_disk) as reader:
        assert reader.counts()["done"] == len(finished)


def fill(ledger: Ledger, finished: list[str]) -> None:
    for number in range(10_000):
        (key,) = propose(ledger, f"d{number}")
        ledger.finish(record(key))
        finished.append(key)


@pytest.fixture
def frozen_folder(ledger: Ledger, tmp_path: Path) -> Iterator[Path]:
    """The ledger's folder on a disk that nobody may write, not even root."""
    propose(ledger, "a")
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


def test_a_read_only_folder_can_be_read_and_is_not_written(frozen_folder: Path) -> None:
    with Ledger.open(frozen_folder) as reader:
        assert len(reader.trials()) == 1
    with pytest.raises(
        MachineError, match=r"driver.lock: cannot be written \(Read-only|Permission"
    ):
        Ledger.open(frozen_folder, write=True)
    with pytest.raises(MachineError, match=r"Read-only|Permission"):
        Ledger.create(frozen_folder / "new", META)


# Processes that are killed.

_WRITER = """
import pathlib, sys
sys.path.insert(0, sys.argv[2])
from test_ledger import Ledger, propose, record
with Ledger.open(pathlib.Path(sys.argv[1]), write=True) as ledger:
    ledger.recover()
    begun = len(ledger.trials())
    for number in range(begun, begun + 10_000):
        (key,) = propose(ledger, f"d{number}")
        ledger.start(key)
        ledger.finish(record(key))
        print(key, flush=True)
"""


def test_kill_9_loses_nothing_that_was_finished(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    told: list[str] = []
    for delay in (0.0, 0.01, 0.05, 0.02):
        with _python(_WRITER, tmp_path, Path(__file__).parent) as writer:
            assert writer.stdout is not None
            told.append(writer.stdout.readline().strip())
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.read().split()
    with Ledger.open(tmp_path, write=True) as again:
        again.recover()
        trials = again.trials()
        done = {row.key for row in trials if row.state == "done"}
        assert done >= set(told)
        assert len(done) - len(told) <= 4
        assert all(again.curve(key) == list(CURVE) for key in done)
        assert {row.state for row in trials} <= {"done", "planned"}
        assert [row.number for row in trials] == list(range(1, len(trials) + 1))


def _python(code: str, *arguments: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
