"""Synthetic trials, shaped like those of a real study, as a table and as a ledger."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from partialnas.runs.ledger import Ledger
from partialnas.runs.measurement import Measurement
from partialnas.runs.record import Record

STUDY: dict[str, Any] = {
    "study": "quickstart",
    "task": {"data": "mnist5k", "resolution": 28},
    "recipe": {"epochs": 4},
    "search": {"sampler": "random"},
    "arms": {"fasternet_t0": "fasternet_t0"},
    "objectives": {"val_nll": "min", "throughput_img_s": "max"},
    "measure": {
        "device": "cpu", "threads": 1, "batch_size": 32, "precision": "float32", "form": "deploy",
    },
}  # fmt: skip


def make_frame(
    architectures: int = 40,
    seeds: int = 2,
    *,
    failed: int = 2,
    baselines: Sequence[str] = (),
    random: int = 0,
    folder: str = "results/quickstart",
) -> pd.DataFrame:
    """A table as `load` gives it: bigger networks are better and slower, and some trials fail."""
    rng = np.random.default_rng(random)
    count = architectures + len(baselines)
    arms = np.array([""] * architectures + list(baselines), dtype=object)
    size = rng.uniform(0.0, 1.0, count)
    relative = 3 * np.exp(-2.2 * size + rng.normal(0, 0.25, count))
    quality = 0.12 + 0.5 * np.exp(-3.5 * size) + rng.exponential(0.06, count)
    which, seed = np.tile(np.arange(count), seeds), np.repeat(np.arange(seeds), count)
    nll = quality[which] * np.exp(rng.normal(0, 0.04, len(which)))
    frame = pd.DataFrame(
        {
            "study": "quickstart",
            "folder": folder,
            "trial": np.arange(1, len(which) + 1),
            "name": arms[which],
            "arm": arms[which],
            "baseline": arms[which] != "",
            "digest": [f"d{i:015x}" for i in which],
            "key": [f"{i:012x}{s:04x}" for i, s in zip(which, seed, strict=True)],
            "seed": seed,
            "state": "done",
            "reason": None,
            "val_accuracy": 100 * np.exp(-0.6 * nll),
            "val_nll": nll,
            "test_accuracy": 100 * np.exp(-0.62 * nll),
            "test_nll": nll * 1.05,
            "train_nll": nll * 0.8,
            "params": (30_000 * np.exp(3 * size)).astype(int)[which],
            "macs": (800_000 * np.exp(3.2 * size)).astype(int)[which],
            "throughput_img_s": 3000 * relative[which],
            "throughput_raw_img_s": 3100 * relative[which],
            "latency_ms": 32_000 / (3000 * relative[which]),
            "relative_throughput": relative[which],
            "relative_low": relative[which] * 0.985,
            "relative_high": relative[which] * 1.02,
            "seconds": 9.0 + 20 * size[which],
        }
    )
    lost = frame.index[:: max(1, len(frame) // failed)][:failed] if failed else []
    frame.loc[lost, ["state", "reason"]] = ["failed", "the loss is NaN in epoch 2"]
    frame.loc[lost, [c for c in frame if c.startswith(("val_", "test_", "train_"))]] = np.nan
    return frame.assign(
        fidelity=4, full_fidelity=4, noisy=False, device="cpu", threads=1, batch_size=32,
        resolution=28, precision="float32", form="deploy", processor="AMD EPYC 9B14",
        reference_name="fasternet_t0", trained_on="cpu", data="mnist5k",
    )  # fmt: skip


def measurement(digest: str, relative: float, speed: float, **changes: Any) -> Measurement:
    """A measurement of a network `relative` times as fast as a reference of `speed` img/s."""
    facts: dict[str, Any] = {
        "digest": digest, "name": digest, "device": "cpu", "device_kind": "cpu", "threads": 1,
        "batch_size": 32, "resolution": 28, "in_chans": 1, "precision": "float32",
        "form": "deploy", "throughput_img_s": relative * speed,
        "latency_ms": 32_000 / (relative * speed), "relative_throughput": relative,
        "relative_low": relative * 0.99, "relative_high": relative * 1.01,
        "reference_digest": "r" * 16, "reference_name": "fasternet_t0",
        "reference_form": "deploy", "reference_throughput_img_s": speed, "rounds": 30,
        "wall_cpu_gap": 0.01, "noisy": False, "load": 0.5,
        "environment": {"processor": "AMD EPYC 9B14"}, "taken": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return Measurement(**(facts | changes))


def make_ledger(
    folder: Path,
    records: Sequence[dict[str, Any]],
    measurements: Sequence[Measurement] = (),
    study: dict[str, Any] | None = None,
) -> Path:
    """A study's folder with one proposal and one trial per record; unfinished where no state is."""
    frozen = {**STUDY, **(study or {})}
    meta = {"study": frozen["study"], "frozen": json.dumps(frozen)}
    with Ledger.create(folder, meta) as ledger:
        for i, given in enumerate(records):
            record = {"digest": f"{i:016x}", "name": "", "seed": 0, "fidelity": 4, **given}
            arm = record.pop("arm", None)
            key = f"{i:08x}{record['seed']:08x}"
            proposal = ledger.add_proposal(arm, record["digest"], {}, {})
            facts = {k: record[k] for k in ("digest", "name", "fidelity")}
            ledger.plan(proposal, **facts, keys={record["seed"]: key})
            if "state" in record:
                ledger.start(key)
                ledger.finish(_record(key, record))
        for each in measurements:
            ledger.add_measurement(each)
    return folder


def _record(key: str, given: dict[str, Any]) -> Record:
    empty = {"reason": None, "metrics": {}, "curve": (), "cost": {}, "seconds": 1.0}
    return Record(key=key, **{**empty, "device": "cpu", "environment": {}, **given})


@pytest.fixture
def frames() -> Callable[..., pd.DataFrame]:
    return make_frame


@pytest.fixture
def ledgers() -> Callable[..., Path]:
    return make_ledger


@pytest.fixture
def measure() -> Callable[..., Measurement]:
    return measurement
