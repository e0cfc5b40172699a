"""Synthetic trials, shaped like those of a real study, as a table and as a ledger."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from partialnas.runs.config.design import Design
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.space.arch.plan import Plan

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
    folder: str = "no-ledger/quickstart",
) -> pd.DataFrame:
    """Return trials as `load` does: larger networks are better and slower, and some fail."""
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
            "condition": "",
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
        reference_name="fasternet_t0", trained_on="cpu", data="mnist5k", function="",
        function_source="",
    )  # fmt: skip


def measurement(digest: str, relative: float, speed: float, **changes: Any) -> Measurement:
    """Return the measurement of a network `relative` times as fast as a reference of `speed`."""
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
    meta: Mapping[str, str] | None = None,
) -> Path:
    """Write a ledger with a trial per record, unfinished without a `state`; return its folder."""
    frozen = {**STUDY, **(study or {})}
    meta = {"study": frozen["study"], "frozen": json.dumps(frozen), **(meta or {})}
    proposals: dict[Any, int] = {}
    with Ledger.create(folder, meta) as ledger:
        for i, changes in enumerate(records):
            record = {"digest": f"{i:016x}", "name": "", "seed": 0, "fidelity": 4, **changes}
            arm, subject = record.pop("arm", None), record.pop("subject", {})
            key = f"{i:08x}{record['seed']:08x}"
            group = record.pop("proposal", i)  # the same for all records of a proposal
            if group not in proposals:
                proposals[group] = ledger.add_proposal(arm, record["digest"], subject, {})
            proposal = proposals[group]
            facts = {k: record[k] for k in ("digest", "name", "fidelity")}
            ledger.plan(proposal, **facts, keys={record["seed"]: key})
            if "state" in record:
                ledger.start(key)
                ledger.finish(_record(key, record))
        for timing in measurements:
            ledger.add_measurement(timing)
    return folder


ABLATION: dict[str, Any] = {"study": "parts", "search": None, "arms": {}}
"""Settings of a study that compares arms, where they differ from `STUDY`."""


def make_ablation(
    folder: Path,
    values: Mapping[str, Mapping[int, float | None]],
    design: Design | None = None,
    *,
    study: dict[str, Any] | None = None,
    meta: Mapping[str, str] | None = None,
    key: str = "val_accuracy",
) -> Path:
    """Write a study with a trial per arm and seed, failed if its value is None."""
    records = []
    for seed in sorted({seed for of in values.values() for seed in of}):
        for index, (arm, of) in enumerate(values.items()):
            if seed in of:
                records.append({**_trial(index, arm, seed), **_ended(of[seed], key)})
    measured = [measurement(f"{i:016x}", 1 / (1 + i), 3000.0) for i in range(len(values))]
    facts = {"design": design.model_dump_json()} if design else {}
    seeds = max((len(of) for of in values.values()), default=1)
    settings = {**ABLATION, "seeds": seeds, **(study or {})}
    return make_ledger(folder, records, measured, settings, {**facts, **(meta or {})})


def _trial(index: int, arm: str, seed: int) -> dict[str, Any]:
    cost = {"params": 1000 + index, "macs": 2_000_000 + index, "macs_core": 1, "activations": 1}
    return {
        "arm": arm, "name": arm, "seed": seed, "digest": f"{index:016x}", "cost": cost,
        "seconds": 36.0, "proposal": arm,
    }  # fmt: skip


def _ended(value: float | None, key: str) -> dict[str, Any]:
    if value is None:
        return {"state": "failed", "reason": "the loss is NaN in epoch 2"}
    return {"state": "done", "metrics": {key: value}}


def _record(key: str, facts: dict[str, Any]) -> Record:
    empty = {"reason": None, "metrics": {}, "curve": (), "cost": {}, "seconds": 1.0}
    return Record(key=key, **{**empty, "device": "cpu", "environment": {}, **facts})


def learned_records(
    arm: str | None = "dynamic",
    seeds: int = 2,
    epochs: int = 10,
    *,
    per: str = "layer",
    classes: int = 10,
    warnings: Sequence[str] = (),
    random: int = 0,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Return trials of one arm, with ratios that start at 1/4 and stay constant after 70 %."""
    ratio = {"learned": {"per": per, "budget": "1/4"}}
    plan = {"stem_stride": 1, "width": 16, "depths": (1, 1, 2, 1), "head_width": 16, **settings}
    architecture = Plan.model_validate({"ratio": ratio, **plan}).architecture()
    rng = np.random.default_rng(random)
    depth = np.linspace(-1, 1, len(architecture.boundaries))
    ends = 0.1 + 0.5 * depth**2 + rng.normal(0, 0.03, (seeds, len(depth)))
    widths = np.array([architecture.widths[b.stage] for b in architecture.boundaries])
    names = [b.name for b in architecture.boundaries]
    subject = architecture.model_dump(mode="json")
    return [
        {
            "arm": arm, "digest": architecture.digest, "name": arm or "", "subject": subject,
            "seed": seed, "fidelity": epochs, "state": "done",
            "metrics": {
                "val_accuracy": 90.0 + seed, "val_nll": 0.3 - 0.01 * seed,
                "ratio_gap": 1e-7 * (seed + 1), "budget_error": -0.01 * (seed + 1),
            },
            "ratios": [
                _ratio_epoch(epoch, epochs, names, widths, np.clip(ends[seed], 0.05, 0.9), **(
                    {"classes": classes} if per == "input" else {}
                ), warnings=warnings)
                for epoch in range(1, epochs + 1)
            ],
        }
        for seed in range(seeds)
    ]  # fmt: skip


def _ratio_epoch(
    epoch: int,
    epochs: int,
    names: Sequence[str],
    widths: Any,
    ends: Any,
    *,
    classes: int = 0,
    warnings: Sequence[str] = (),
) -> RatioEpoch:
    progress = min(1.0, epoch / (0.7 * epochs))
    channels = widths * (0.25 + (ends - 0.25) * progress)
    channels = (
        np.maximum(4 * np.round(channels / 4), 4) if progress == 1 and not classes else channels
    )
    ratios = channels / widths
    facts: dict[str, Any] = {}
    if classes:
        shares = {
            str(label): 0.1 * np.cos(label + np.arange(len(names))) for label in range(classes)
        }
        kinds = {"clean": 0.0, "blurred": 0.1, "noisy": -0.02, "low-resolution": 0.05}
        facts["per_class"] = {
            name: {label: float(abs(ratios[i] + part[i])) for label, part in shares.items()}
            for i, name in enumerate(names)
        }
        if epoch == epochs:
            facts["per_kind"] = {
                name: {kind: float(ratios[i] + more) for kind, more in kinds.items()}
                for i, name in enumerate(names)
            }
    return RatioEpoch(
        epoch=epoch,
        channels=dict(zip(names, channels.tolist(), strict=True)),
        ratios=dict(zip(names, ratios.tolist(), strict=True)),
        used_macs=9.9e5,
        budget_macs=1e6,
        ramp=0.0 if classes or progress == 1 else 4 * (1 - progress),
        warnings=tuple(warnings) if epoch == epochs else (),
        **facts,
    )


@pytest.fixture
def frames() -> Callable[..., pd.DataFrame]:
    return make_frame


@pytest.fixture(scope="session")
def ledgers() -> Callable[..., Path]:
    return make_ledger


@pytest.fixture(scope="session")
def ablations() -> Callable[..., Path]:
    return make_ablation


@pytest.fixture(scope="session")
def measure() -> Callable[..., Measurement]:
    return measurement


@pytest.fixture(scope="session")
def learned() -> Callable[..., list[dict[str, Any]]]:
    return learned_records
