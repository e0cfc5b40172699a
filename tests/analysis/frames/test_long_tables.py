"""Curves, timings and failures as long tables, against the rows of the ledger."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from partialnas.analysis import (
    load_curves,
    load_failures,
    load_measurements,
    load_ratios,
)
from partialnas.analysis.frames.long_tables import (
    CURVE_COLUMNS,
    FAILURE_COLUMNS,
    LEADING_COLUMNS,
    MEASUREMENT_COLUMNS,
)
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import TrialRow
from partialnas.runs.records.record import Record
from partialnas.runs.records.timing_choice import FailedTiming, TimingSetup
from partialnas.space.errors import UserError

SHIPPED = Path(__file__).parents[3] / "analysis" / "notebooks" / "ledgers"
NAMES = ["quickstart", "partitions", "static-vs-dynamic"]
FOLDERS = [SHIPPED / name for name in NAMES]
Factory = Callable[..., Any]


def query(folder: Path, text: str) -> pd.DataFrame:
    with sqlite3.connect(f"file:{folder}/ledger.sqlite?mode=ro", uri=True) as connection:
        return pd.read_sql_query(text, connection)


@pytest.mark.parametrize("name", NAMES)
def test_curves_are_those_of_the_ledger(name: str) -> None:
    folder = SHIPPED / name
    rows = query(folder, "SELECT number, row FROM curves JOIN trials USING (key)")
    points = pd.DataFrame([json.loads(row) for row in rows["row"]]).assign(trial=rows["number"])
    expected = points.sort_values(["trial", "epoch"], ignore_index=True)
    table = load_curves(folder, stage=None)
    assert tuple(table.columns) == CURVE_COLUMNS
    assert len(table) > 10
    for key in ("trial", "epoch", "val_nll", "lr", "seconds"):
        assert table[key].tolist() == expected[key].tolist()


def test_metrics_that_a_function_reported_follow(tmp_path: Path, ledgers: Factory) -> None:
    curve = [{"epoch": 1, "val_nll": 0.5, "perplexity": 9.0, "state": 1.0}, {"epoch": 2}]
    folder = ledgers(tmp_path / "own", [{"state": "done", "curve": curve}, {"state": "done"}, {}])
    table = load_curves(folder)
    assert table.columns.tolist() == [*CURVE_COLUMNS, "perplexity", "metric_state"]
    assert table["epoch"].tolist() == [1, 2]
    assert table["perplexity"].tolist()[0] == 9.0
    assert table[["val_nll", "perplexity", "metric_state"]].iloc[1].isna().all()
    assert table["state"].tolist() == ["done", "done"]


@pytest.mark.parametrize("name", ["quickstart", "static-vs-dynamic"])
def test_every_timing_has_a_row_with_its_settings(name: str) -> None:
    folder = SHIPPED / name
    rows = query(folder, "SELECT measurement FROM measurements ORDER BY number")["measurement"]
    expected = pd.DataFrame([json.loads(row) for row in rows])
    table = load_measurements(folder)
    assert tuple(table.columns) == MEASUREMENT_COLUMNS
    shared = ("digest", "name", "device", "batch_size", "precision", "form", "noisy", "taken")
    for key in (*shared, "relative_low", "relative_high", "throughput_img_s", "rounds"):
        assert table[key].dropna().tolist() == expected[key].dropna().tolist(), key
    assert table["tainted"].sum() == sum(bool(json.loads(row).get("tainted")) for row in rows)
    trials = query(folder, "SELECT number, key, digest FROM trials")
    ratios = query(folder, "SELECT key, row FROM ratios ORDER BY epoch")
    frozen = {key: json.loads(row)["frozen"] for key, row in ratios.itertuples(index=False)}
    pairs = zip(trials["key"], trials["digest"], strict=True)
    trials["digest"] = [frozen.get(key) or digest for key, digest in pairs]
    first = trials.groupby("digest")["number"].min()
    searched = table[table["digest"].isin(trials["digest"])]
    assert searched["trial"].tolist() == searched["digest"].map(first).tolist()


def failed_record(row: TrialRow, reason: str) -> Record:
    facts = {name: getattr(row, name) for name in ("key", "digest", "name", "seed", "fidelity")}
    ended: dict[str, Any] = {"metrics": {}, "curve": (), "cost": {}, "environment": {}}
    return Record(**facts, **ended, state="failed", reason=reason, seconds=2.0, device="cpu")


def test_each_failure_of_a_trial_has_a_row(tmp_path: Path, ledgers: Factory) -> None:
    failed = {"state": "failed", "reason": "first"}
    folder = ledgers(tmp_path / "lost", [{"state": "done"}, failed, {"arm": "a", **failed}])
    with Ledger.open(folder, write=True) as ledger:
        row = ledger.trial(2)
        ledger.retry([row.key])
        ledger.start(row.key)
        ledger.finish(failed_record(row, "second"))
        again = ledger.trial(3).key
        ledger.retry([again])
        ledger.start(again)
        setup = TimingSetup("cpu", 1, 32, "float32", "deploy")
        ledger.add_failed_timing(
            FailedTiming(
                digest=ledger.trial(1).digest,
                name="net",
                setup=setup,
                resolution=8,
                in_chans=1,
                reason="out of memory",
                ended="2026-01-01T00:00:00Z",
            )
        )
    table = load_failures(folder)
    assert tuple(table.columns) == FAILURE_COLUMNS
    columns = ["trial", "kind", "reason", "failure", "attempts", "retried"]
    assert table[columns].astype(object).where(
        table[columns].notna(), None
    ).to_numpy().tolist() == [
        [2, "training", "first", 1, 2, True],
        [2, "training", "second", 2, 2, False],
        [3, "training", "first", 1, 2, True],
        [1, "timing", "out of memory", None, None, False],
    ]
    assert table["arm"].tolist() == ["", "", "a", ""]


def test_long_tables_of_several_studies_begin_with_the_same_columns() -> None:
    for function in (load_curves, load_measurements, load_ratios, load_failures):
        table = function(FOLDERS)
        assert tuple(table.columns[: len(LEADING_COLUMNS)]) == LEADING_COLUMNS, function
        parts = pd.concat([function(folder) for folder in FOLDERS], ignore_index=True)
        pd.testing.assert_frame_equal(table, parts)
    assert {*load_curves(FOLDERS)["study"]} == {*NAMES}


def test_no_folder_and_no_ledger_are_mistakes(tmp_path: Path) -> None:
    for function in (load_curves, load_measurements, load_ratios, load_failures):
        with pytest.raises(UserError, match="no ledger"):
            function(tmp_path)
        with pytest.raises(UserError, match="no study named"):
            function([])
