"""Volumes of the ledger hold the same values as its rows."""

import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.runs.ledger import checked_rows, column_store
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import FINAL_STATES, TrialRow, trial_columns
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.space.errors import MachineError

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0, 1.0, 0.1 + 0.2])
)
METRICS = st.dictionaries(st.sampled_from(["val_nll", "val_accuracy", "my.own"]), NUMBERS)
ENVIRONMENTS = st.sampled_from([{}, {"cores": 2}, {"cores": 4, "processor": "Chip “9”"}])
STATES = st.sampled_from(["done", "failed", "early", "running", "planned"])
TRIALS = st.tuples(STATES, METRICS, st.sampled_from([{}, {"params": 2**40}]), ENVIRONMENTS)
MEASUREMENTS = st.tuples(NUMBERS.filter(lambda x: x > 0), st.booleans(), ENVIRONMENTS)


@pytest.fixture(scope="module", autouse=True)
def small_volumes() -> Iterator[None]:
    """Make volumes of four rows, so that few rows fill several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_store, "VOLUME_SIZE", 4)
        patch.setattr(column_store, "_MAX_DISTINCT", 2)
        yield


def fill(ledger: Ledger, trials: list[Any], measured: list[Any]) -> None:
    """Write these trials, one proposal each, and these measurements."""
    first_number = len(ledger.proposals())
    for number, (end, metrics, cost, environment) in enumerate(trials, start=first_number + 1):
        digest, arm = f"d{number % 7}", "wide" if number % 5 == 0 else None
        proposal = ledger.add_proposal(arm, digest, {"name": digest}, {"asked": number, "a": '"'})
        keys = {number: f"{digest}-{number}"}
        ledger.plan(proposal, digest=digest, name="n", fidelity=3, keys=keys)
        if end != "planned":
            ledger.start(*keys.values())
        if end in FINAL_STATES:
            reason = None if end == "done" else "stopped"
            facts = {"metrics": metrics, "cost": cost, "environment": environment, "state": end}
            identity = {"digest": digest, "name": "n", "seed": number, "fidelity": 3}
            for key in keys.values():
                ledger.finish(Record.model_validate(
                    {"key": key, "reason": reason, "seconds": 1.5, **identity, **facts}
                ))  # fmt: skip
    for speed, noisy, environment in measured:
        ledger.add_measurement(measurement(speed, noisy, environment))


def measurement(speed: float, noisy: bool, environment: dict[str, Any]) -> Measurement:
    conditions = {"device": "cpu", "device_kind": "cpu", "threads": 1, "batch_size": 32}
    size = {"resolution": 28, "in_chans": 1, "precision": "float32", "form": "deploy"}
    results = {"throughput_img_s": speed, "latency_ms": 25.9, "rounds": 9, "wall_cpu_gap": 0.01}
    rest = {"noisy": noisy, "load": 0.3, "environment": environment, "taken": "2026-01-01"}
    return Measurement.model_validate(
        {"digest": f"d{speed}", "name": "n", **conditions, **size, **results, **rest}
    )


def count_volumes(path: Path) -> int:
    """Return the number of volumes in a ledger."""
    with sqlite3.connect(path) as connection:
        query = "SELECT count(*) FROM (SELECT DISTINCT source, first FROM volumes)"
        return int(connection.execute(query).fetchone()[0])


def count_full_volumes(ledger: Ledger) -> int:
    """Return the expected number of volumes: full groups of four final rows."""
    trials = [row.state in FINAL_STATES for row in ledger.trials()]
    groups = [trials[first : first + 4] for first in range(0, len(trials) - 3, 4)]
    return sum(map(all, groups)) + len(ledger.proposals()) // 4 + len(ledger.measurements()) // 4


def exact(results: dict[str, float]) -> dict[str, str]:
    """Return numbers as text, so that -0.0 differs from 0.0 and 1.0 from 1."""
    return {name: repr(value) for name, value in results.items()}


def columns_from_rows(ledger: Ledger) -> list[Any]:
    """Return what readers of volumes should read, from the rows alone."""
    proposals, trials = ledger.proposals(), ledger.trials()
    stored = ledger._connection.execute("SELECT measurement FROM measurements ORDER BY number")
    return [
        [(row.number, row.arm, row.digest, row.proposal_json) for row in proposals],
        [(t.key, t.proposal, t.seed, t.state, exact({**t.metrics, **t.cost})) for t in trials],
        [(t.number, t.name, t.reason, t.seconds, t.environment) for t in trials],
        [Measurement.model_validate_json(text) for (text,) in stored],
    ]


def columns_read(ledger: Ledger) -> list[Any]:
    """Return what readers of volumes read."""
    columns = ledger.trial_columns("number", "name", "reason", "seconds", "environment")
    results = [
        (e.key, e.proposal, e.seed, e.state, exact(e.results)) for e in ledger.trial_results()
    ]
    return [
        [tuple(row) for row in ledger.proposal_keys()],
        results,
        [*zip(*columns.values(), strict=True)],
        ledger.measurements(),
    ]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.lists(TRIALS, max_size=9), st.lists(MEASUREMENTS, max_size=9)), max_size=3
    )
)
def test_volumes_and_rows_give_equal_columns(sessions: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Ledger.create(folder, {"study": "tiny"}).close()
        for trials, measured in sessions:
            with Ledger.open(folder, write=True) as ledger:
                fill(ledger, trials, measured)
                assert columns_read(ledger) == columns_from_rows(ledger)
            with Ledger.open(folder) as reader:
                assert columns_read(reader) == columns_from_rows(reader)
                if measured or any(end in FINAL_STATES for end, *_ in trials):
                    assert count_volumes(reader.path) == count_full_volumes(reader)


DONE = ("done", {"val_nll": 0.5}, {"params": 3}, {"cores": 2})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a ledger with two volumes of each table."""
    with Ledger.create(tmp_path, {"study": "tiny"}) as ledger:
        fill(ledger, [DONE] * 8, [(1.0 + n, False, {"cores": 2}) for n in range(8)])
    assert count_volumes(ledger.path) == 6
    return tmp_path


def test_a_damaged_volume_is_an_error(folder: Path) -> None:
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        connection.execute("UPDATE volumes SET data = replace(data, '0.5', '0.4')")
    with Ledger.open(folder) as ledger:
        assert ledger.proposal_keys()
        with pytest.raises(
            MachineError, match=r"row trials of volumes does not match .*newest intact copy"
        ):
            ledger.trial_results()


def test_columns_missing_from_old_volumes_have_their_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = [(1.0 + n, False, {"cores": 2}) for n in range(8)]
    source = column_store.MEASUREMENTS

    def without_later_columns(rows: Any) -> Any:
        columns = source.to_columns(rows)
        return {name: v for name, v in columns.items() if name not in ("tainted", "rounds")}

    with monkeypatch.context() as patch, Ledger.create(tmp_path, {}) as ledger:
        older = replace(source, to_columns=without_later_columns)
        patch.setattr(column_store, "ARCHIVED_TABLES", (older,))
        fill(ledger, [], measured[:4])
        ledger.close()
    with Ledger.open(tmp_path, write=True) as ledger:
        fill(ledger, [], measured[4:])
    assert count_volumes(ledger.path) == 2
    with Ledger.open(tmp_path) as reader:
        columns = reader.measurement_table().columns
    assert columns["tainted"] == [False] * 8
    assert columns["rounds"] == [None] * 4 + [9] * 4


@pytest.mark.parametrize("name", ["metrics.val_nll", ""])
def test_a_missing_column_of_a_volume_is_an_error(folder: Path, name: str) -> None:
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        connection.execute("DELETE FROM volumes WHERE source = 'trials' AND name = ?", (name,))
    with (
        Ledger.open(folder) as ledger,
        pytest.raises(MachineError, match="columns of the volume 1 of trials are missing"),
    ):
        ledger.trial_results()


def test_an_outdated_volume_is_an_error(folder: Path) -> None:
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        row = TrialRow._make((2, "other", *[1] * 15))  # another row, with a valid checksum
        columns = trial_columns(row._replace(metrics={}, cost={}, environment={}, state="failed"))
        checked_rows.write_row(connection, "trials", columns)
    with (
        Ledger.open(folder) as ledger,
        pytest.raises(MachineError, match=r"trials: rows are missing, repeated or outdated"),
    ):
        ledger.trial_results()


def test_rows_that_cannot_be_archived_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(column_store, "write_row", full)
        with Ledger.create(tmp_path, {"study": "tiny"}) as ledger:
            fill(ledger, [DONE] * 8, [])
    assert count_volumes(ledger.path) == 0
    with Ledger.open(tmp_path) as reader:
        assert columns_read(reader) == columns_from_rows(reader)


def test_a_network_is_read_by_its_proposal(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        assert [ledger.subject(number) for number in (1, 3)] == [{"name": "d1"}, {"name": "d3"}]
