"""Trials that are loaded by column equal those read by row."""

import json
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import pytest

from partialnas.analysis import load
from partialnas.analysis.frames.load import TRIAL_COLUMNS
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import dry_run_name
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.timing_choice import TimingSetup, best_measurement, study_machine

Ledgers = Callable[..., Path]
Measure = Callable[..., Any]
Learned = Callable[..., list[dict[str, Any]]]
SETUP = TimingSetup.from_protocol(Protocol())
METRICS = ("val_accuracy", "val_nll", "test_accuracy", "test_nll", "train_nll", "score")
COST = ("params", "macs", "macs_core", "activations")
REAL = ("throughput_img_s", "latency_ms", "relative_throughput", "relative_low", "relative_high")


def records(rng: random.Random, learned: Learned) -> list[dict[str, Any]]:
    """Return trials in every state, with and without arms and learned ratios."""
    trials: list[dict[str, Any]] = learned(rng.choice([None, "dynamic"]), 2, 2, warnings=["flat"])
    for number in range(12):
        state = rng.choice(["done", "done", "early", "failed", "timeout", ""])
        record: dict[str, Any] = {
            "digest": f"{rng.randrange(6):016x}",
            "seed": number,
            "arm": rng.choice([None, None, "small"]),
        }
        if state:
            record |= {"state": state, "seconds": rng.uniform(0, 99), "device": "cuda:1"}
            record["cost"] = (
                {} if rng.random() < 0.2 else {key: rng.randrange(9**9) for key in COST}
            )
        if state in ("early", "failed", "timeout"):
            record["reason"] = rng.choice(["rung 1", "None", "the loss is NaN, in epoch 2"])
        if state in ("done", "early"):
            recorded = rng.sample(METRICS, rng.randint(1, len(METRICS)))
            record["metrics"] = {key: rng.uniform(-1, 99) for key in recorded}
        trials.append(record)
    return trials


def measurements(rng: random.Random, frozen: list[str], measure: Measure) -> list[Measurement]:
    """Return measurements, some repeated, noisy, with other settings, or without a reference."""
    timings = []
    for _ in range(20):
        digest = rng.choice([*frozen, *(f"{suffix:016x}" for suffix in range(6))])
        changes: dict[str, Any] = {"noisy": rng.random() < 0.3, "tainted": rng.random() < 0.2}
        changes["form"] = rng.choice(["deploy", "deploy", "training"])
        changes["batch_size"] = rng.choice([32, 32, 1])
        changes["environment"] = {"processor": rng.choice(["Chip 8", 'Chip "9", the second'])}
        if rng.random() < 0.3:
            changes["peak_memory_bytes"] = rng.randrange(2**40)
        if rng.random() < 0.2:
            beside = ("relative_throughput", "relative_low", "relative_high")
            reference = ("digest", "name", "form", "throughput_img_s")
            names = (*beside, *(f"reference_{suffix}" for suffix in reference))
            changes |= dict.fromkeys(names)
        timings.append(measure(digest, rng.uniform(0.5, 2), rng.uniform(900, 1100), **changes))
    return timings


def rows_of(folder: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")]


def scale_of(m: Measurement, everyone: list[Measurement]) -> float | None:
    """Return the median throughput of a reference over measurements with the same setup."""
    if m.reference_throughput_img_s is None:
        return None
    same = ("reference_digest", "reference_form", "device", "batch_size", "runtime", "environment")
    alike = [e for e in everyone if all(getattr(e, key) == getattr(m, key) for key in same)]
    return median(e.reference_throughput_img_s for e in alike if e.reference_throughput_img_s)


def expected(
    row: dict[str, Any], frozen: dict[str, str], taken: list[Measurement]
) -> dict[str, Any]:
    """Return the row of a trial, computed from its ledger rows."""
    copied = {key: row[key] for key in ("key", "digest", "seed", "fidelity", "state", "reason")}
    facts = {"trial": row["number"], "trained_on": row["device"], "seconds": row["seconds"]}
    metrics, cost = json.loads(row["metrics"]), json.loads(row["cost"])
    quantities = {key: metrics.get(key) for key in METRICS} | {key: cost.get(key) for key in COST}
    fitting = [m for m in taken if SETUP.matches(m)]
    network = frozen.get(row["key"], row["digest"])
    m = best_measurement(
        [m for m in fitting if m.digest == network], SETUP, study_machine(fitting, SETUP)
    )
    if m is None:
        return {**copied, **facts, **quantities, **dict.fromkeys((*REAL, "processor", "form"))}
    speeds = {key: getattr(m, key) for key in (*REAL, "form", "peak_memory_bytes")}
    if (scale := scale_of(m, fitting)) is not None and m.relative_throughput is not None:
        speeds["throughput_img_s"] = m.relative_throughput * scale
        speeds["latency_ms"] = 1000 * m.batch_size / speeds["throughput_img_s"]
    marks = {"noisy": m.noisy or m.tainted, "tainted": m.tainted}
    raw = {"throughput_raw_img_s": m.throughput_img_s}
    return {**copied, **facts, **quantities, **speeds, **marks, **raw, **m.environment}


@pytest.mark.parametrize("seed", range(6))
def test_columns_read_at_once_equal_those_read_by_row(
    tmp_path: Path, ledgers: Ledgers, measure: Measure, learned: Learned, seed: int
) -> None:
    rng = random.Random(seed)
    trials = records(rng, learned)
    frozen_to = "f" * 16
    if seed % 2:
        trials[0]["ratios"][-1] = trials[0]["ratios"][-1].model_copy(update={"frozen": frozen_to})
    timings = measurements(rng, [frozen_to], measure)
    study = {"study": "played" if seed % 3 else dry_run_name("played")}
    folder = ledgers(tmp_path / "study", trials, timings, study)
    frame = load(folder)
    with Ledger.open(folder) as ledger:
        frozen = ledger.frozen_digests()
    taken = [
        Measurement.model_validate_json(row["measurement"])
        for row in rows_of(folder, "measurements")
    ]
    rows = rows_of(folder, "trials")
    assert len(frame) == len(rows) == len(trials)
    for loaded, row in zip(frame.astype(object).to_dict("records"), rows, strict=True):
        for key, value in expected(row, frozen, taken).items():
            if value is None:
                assert pd.isna(loaded.get(key)), key
            else:
                assert loaded[key] == value, key
    assert set(TRIAL_COLUMNS) <= set(frame.columns)
    assert frame["warnings"].sum() == 2
    assert frame["study"].eq(study["study"]).all()
