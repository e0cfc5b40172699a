"""The ledger: writing, reading, schema upgrades and locking."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import checksum
from partialnas.runs.ledger.schema import ADDED_TABLES, LEDGER_ID, REQUIRED_RELEASE, SCHEMA_RELEASE
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.space.errors import MachineError, UserError

META = {"study": "tiny", "frozen": "{}"}


def study_meta(ledger: Ledger) -> dict[str, str]:
    """Return the metadata without those of the file itself."""
    own = (REQUIRED_RELEASE, LEDGER_ID)
    assert ledger.meta[REQUIRED_RELEASE] == SCHEMA_RELEASE
    return {key: value for key, value in ledger.meta.items() if key not in own}


CURVE = tuple({"epoch": float(e), "lr": 0.1, "val_nll": 1 / e} for e in (1, 2, 3))
RATIOS = tuple(
    RatioEpoch(
        epoch=epoch,
        channels={"stage 1, block 1": 16 / 3, "stage 2, block 1": 8},
        ratios={"stage 1, block 1": 1 / 3, "stage 2, block 1": 0.25},
        used_macs=2.0**40,
        budget_macs=None,
        per_kind={"stage 1, block 1": {"low-resolution": 0.1 + 0.2}},
        warnings=("the ratio of stage 1, block 1 is “stuck”",) if epoch > 1 else (),
    )
    for epoch in (1, 2, 3)
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path, META) as ledger:
        yield ledger


def propose(ledger: Ledger, digest: str, seeds: tuple[int, ...] = (0,)) -> list[str]:
    """Plan the trials of a network and return their keys."""
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
    results = {"throughput_img_s": 1234.5, "latency_ms": 25.9, "rounds": 9, "wall_cpu_gap": 0.01}
    rest = {"noisy": False, "load": 0.3, "environment": {}, "taken": "2026-01-01T00:00:00+00:00"}
    return Measurement.model_validate(
        {"digest": digest, "name": "n", **conditions, **size, **results, **rest}
    )


# Trials and proposals.


def test_a_trial_goes_from_planned_to_its_record(ledger: Ledger) -> None:
    (key,) = propose(ledger, "a")
    (planned,) = ledger.trials()
    assert (planned.number, planned.state, planned.attempts, planned.is_final) == (
        *(1, "planned", 0),
        False,
    )
    ledger.start(key)
    assert ledger.trials()[0].state == "running"
    ledger.finish(record(key))
    row = ledger.trial(1)
    assert (row.state, row.attempts, row.is_final) == ("done", 1, True)
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
        assert study_meta(reader) == META
        assert [(row.number, row.digest) for row in reader.proposals()] == [
            (1, "a"),
            (2, "b"),
            (3, "a"),
        ]
        assert reader.proposals()[0].proposal == {"params": {"x": 0.5}}
        assert reader.trials() == ledger.trials()
        assert reader.measurements() == [measurement()]
        assert reader.count_repeated_proposals() == 1
        assert reader.state_counts() == {
            **dict.fromkeys(("running", "done", "early", "timeout"), 0),
            "planned": 3,
            "failed": 1,
        }


def test_repeated_proposals_are_counted(ledger: Ledger) -> None:
    notes: list[dict[str, Any]] = [
        {}, {"params": {"x": 1}}, {"rung": 2}, {"rung": 2}, {"seed": 0}, {"stage": "confirm"},
    ]  # fmt: skip
    for digest in ("a", "b", "b", "c"):
        for note in notes if digest == "b" else notes[:1]:
            ledger.add_proposal(None, digest, {}, note)
    apart = {("b", str(note)) for note in ({}, *notes[2:])}
    assert ledger.count_repeated_proposals() == len(ledger.proposals()) - 2 - len(apart) == 8


def test_a_final_trial_cannot_change(ledger: Ledger) -> None:
    (key,) = propose(ledger, "a")
    ledger.finish(record(key, state="timeout", reason="no result after 4 s", curve=()))
    before = ledger.trials()
    with pytest.raises(ValueError, match="is already timeout"):
        ledger.finish(record(key))
    with pytest.raises(ValueError, match="is already timeout"):
        ledger.start(key)
    assert ledger.trials() == before
    assert ledger.curve(key) == []
    with pytest.raises(ValueError, match="expected a final state, got running"):
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


def test_requeue_plans_running_trials_only(ledger: Ledger, tmp_path: Path) -> None:
    keys = propose(ledger, "a", (0, 1, 2))
    ledger.start(*keys[:2])
    ledger.finish(record(keys[0]))
    done = ledger.trial(1)
    ledger.close()
    with Ledger.open(tmp_path, write=True) as reopened:
        assert reopened.requeue_running() == 1
        assert reopened.trial(1) == done
        assert [row.state for row in reopened.trials()] == ["done", "planned", "planned"]
        assert reopened.requeue_running() == 0


def test_metadata_can_be_updated(ledger: Ledger) -> None:
    ledger.update_meta({"frozen": '{"seeds": 3}', "grown": "seeds"})
    assert study_meta(ledger) == META | {"frozen": '{"seeds": 3}', "grown": "seeds"}


def test_a_missing_trial_is_an_error(ledger: Ledger) -> None:
    propose(ledger, "a")
    with pytest.raises(UserError, match=r"no trial 7 \(it has 1 trials\)"):
        ledger.trial(7)


def test_it_is_plain_sqlite_with_json(ledger: Ledger) -> None:
    (key,) = propose(ledger, "a")
    ledger.finish(record(key))
    query = "SELECT json_extract(row, '$.val_nll') FROM curves WHERE epoch = 2"
    facts = ("journal_mode", "user_version", "application_id", "foreign_key_check")
    with sqlite3.connect(ledger.path) as connection:
        assert connection.execute(query).fetchone() == (0.5,)
        answers = [connection.execute(f"PRAGMA {fact}").fetchall() for fact in facts]
    assert answers == [[("wal",)], [(4,)], [(0x504E4153,)], []]


@given(st.lists(st.text("abc019{}", min_size=1), min_size=1), st.data())
def test_the_checksum_detects_a_flipped_bit(columns: list[str], data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(columns) - 1))
    position = data.draw(st.integers(0, len(columns[which]) - 1))
    text = columns[which]
    flipped = text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]
    assert checksum(columns) != checksum([*columns[:which], flipped, *columns[which + 1 :]])


# Learned ratios.


def test_learned_ratios_come_with_the_record(ledger: Ledger, tmp_path: Path) -> None:
    learned, plain = propose(ledger, "a", (0, 1))
    assert ledger.ratios(learned) == []
    ledger.finish(record(learned, ratios=RATIOS))
    ledger.finish(record(plain))
    with Ledger.open(tmp_path) as reader:
        assert reader.ratios(learned) == list(RATIOS)
        assert reader.ratios(plain) == []
        assert reader.last_ratios(learned) == RATIOS[-1]
        assert reader.last_ratios(plain) is None
        warned = RATIOS[1].warnings[0]
        assert reader.warnings() == [(learned, 2, warned), (learned, 3, warned)]
    query = "SELECT json_extract(row, '$.ratios.\"stage 2, block 1\"') FROM ratios WHERE epoch = 3"
    with sqlite3.connect(ledger.path) as connection:
        assert connection.execute(query).fetchall() == [(0.25,)]


def downgrade(ledger: Ledger) -> Path:
    """Finish a trial, close the ledger, and downgrade its file to schema 1."""
    ledger.finish(record(*propose(ledger, "a")))
    ledger.close()
    with sqlite3.connect(ledger.path) as connection:
        for table in ADDED_TABLES:
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 1")
    return ledger.path


def schema_version(path: Path) -> tuple[int, int]:
    """Return the schema of a ledger and the number of its tables that schema 1 lacks."""
    tables = f"SELECT count(*) FROM sqlite_schema WHERE name IN {(*ADDED_TABLES,)}"
    with sqlite3.connect(path) as connection:
        (version,), (count,) = (
            connection.execute(q).fetchone() for q in ("PRAGMA user_version", tables)
        )
    return version, count


def test_an_old_ledger_is_read_without_an_upgrade(ledger: Ledger, tmp_path: Path) -> None:
    path = downgrade(ledger)
    before = path.read_bytes()
    with Ledger.open(tmp_path) as reader:
        assert reader.curve("a-0") == list(CURVE)
        assert reader.ratios("a-0") == reader.warnings() == []
    assert path.read_bytes() == before


def test_an_old_ledger_is_upgraded_when_opened_for_writing(ledger: Ledger, tmp_path: Path) -> None:
    path = downgrade(ledger)
    with Ledger.open(tmp_path) as reader:
        with Ledger.open(tmp_path, write=True) as reopened:
            (key,) = propose(reopened, "b")
            reopened.finish(record(key, ratios=RATIOS))
        assert reader.ratios("b-0") == list(RATIOS)
        assert [row.state for row in reader.trials()] == ["done", "done"]
    assert schema_version(path) == (4, 3)
    Ledger.open(tmp_path, write=True).close()
    assert schema_version(path) == (4, 3)


def test_a_ledger_is_copied_before_its_schema_is_upgraded(ledger: Ledger, tmp_path: Path) -> None:
    path = downgrade(ledger)
    shutil.rmtree(tmp_path / "backups")
    with Ledger.open(tmp_path) as reader:
        before = reader.trials()
    with Ledger.open(tmp_path, write=True) as upgraded:
        assert study_meta(upgraded) == META
    copy = tmp_path / "backups" / "ledger.schema1.sqlite"
    assert [*copy.parent.iterdir()] == [copy]
    assert (schema_version(copy), schema_version(path)) == ((1, 0), (4, 3))
    for _ in range(3):  # later copies do not replace it
        with Ledger.open(tmp_path, write=True) as reopened:
            reopened.update_meta({"study": "tiny"})
    assert copy.is_file()
    shutil.copyfile(copy, path)
    with Ledger.open(tmp_path) as restored:
        assert restored.trials() == before


def test_a_ledger_that_cannot_be_copied_is_not_upgraded(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = downgrade(ledger)
    monkeypatch.setattr("partialnas.runs.ledger.backup.is_intact", lambda _: False)
    with pytest.raises(MachineError, match="cannot be copied before the upgrade from schema 1 to"):
        Ledger.open(tmp_path, write=True)
    assert schema_version(path) == (1, 0)


_DIES_UPGRADING = """
import contextlib, os, pathlib, signal, sys
from partialnas.runs.ledger import schema
from partialnas.runs.ledger.ledger import Ledger

@contextlib.contextmanager
def dying(connection, *, synced):
    connection.execute("BEGIN IMMEDIATE")
    yield
    os.kill(os.getpid(), signal.SIGKILL)

schema.transaction = dying
Ledger.open(pathlib.Path(sys.argv[1]), write=True)
"""


def test_kill_9_leaves_an_upgrade_undone_as_a_whole(ledger: Ledger, tmp_path: Path) -> None:
    path = downgrade(ledger)
    died = subprocess.run([sys.executable, "-c", _DIES_UPGRADING, str(tmp_path)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert schema_version(path) == (1, 0)
    Ledger.open(tmp_path, write=True).close()
    assert schema_version(path) == (4, 3)


def test_trials_are_counted_by_environment_the_most_frequent_first(tmp_path: Path) -> None:
    facts = {"digest": "d", "name": "n", "fidelity": 1}
    with Ledger.create(tmp_path / "study", {}) as ledger:
        proposal = ledger.add_proposal(None, "d", {}, {})
        keys = {seed: f"k{seed}" for seed in range(4)}
        ledger.plan(proposal, **facts, keys=keys)
        for seed, torch in enumerate(("2.9", "2.10", "2.10")):
            ledger.start(keys[seed])
            environment = {"torch": torch}
            ended = {"state": "done", "environment": environment}
            ledger.finish(Record(key=keys[seed], seed=seed, **facts, **ended))
        groups, finished = (
            ledger.environments(),
            [row.finished for row in ledger.trials() if row.finished],
        )
    assert [(group.environment, group.trials) for group in groups[:1]] == [({"torch": "2.10"}, 2)]
    assert {group.trials for group in groups if group.environment != {"torch": "2.10"}} == {1}
    assert max(group.last for group in groups if group.last) == max(finished)
    assert [group.last for group in groups if not group.environment] == [None]


# One driver, many readers.


def test_a_second_driver_is_refused_with_the_pid_of_the_first(
    ledger: Ledger, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"another driver .*process {os.getpid()}"):
        Ledger.open(tmp_path, write=True)
    ledger.close()
    Ledger.open(tmp_path, write=True).close()


def test_readers_and_the_writer_do_not_block_each_other(ledger: Ledger, tmp_path: Path) -> None:
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
    with pytest.raises(UserError, match="already holds a ledger"):
        Ledger.create(tmp_path, META)
    with Ledger.open(tmp_path) as reader:
        assert study_meta(reader) == META
