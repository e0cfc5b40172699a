"""A small study with all kinds of rows, for tests of damaged ledgers."""

from pathlib import Path
from typing import Any

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import RatioEpoch, Record

STATES = ("done", "done", "failed", "early", "timeout")


def write(folder: Path, trials: int) -> Path:
    """Write a study with arms, failures, curves, learned ratios, warnings and measurements."""
    with Ledger.create(folder, {"study": "tiny", "frozen": "{}", "question": "?" * 900}) as ledger:
        for number in range(trials):
            add_trial(ledger, number)
    return ledger.path


def add_trial(ledger: Ledger, number: int) -> None:
    """Propose a network and finish its trial; the 18th stays planned."""
    digest, state = f"d{number % 11}", STATES[number % len(STATES)]
    arm = f"arm {number}" if number % 6 == 0 else None
    note = {"params": {"x": number / 7}, "rung": number % 3}
    proposal = ledger.add_proposal(arm, digest, {"name": digest, "pad": "p" * 150}, note)
    key = f"{number:016x}"
    ledger.plan(proposal, digest=digest, name="n", fidelity=3, keys={number: key})
    if number == 17:
        return
    ledger.start(key)
    identity = {"key": key, "digest": digest, "name": "n", "seed": number, "fidelity": 3}
    epochs = range(1, 2 + number % 3)
    facts: dict[str, Any] = {
        "metrics": {"val_nll": 1 / (number + 1)} if state in ("done", "early") else {},
        "reason": None if state == "done" else f"reason {number}",
        "environment": {"cores": 2 + number % 2},
        "cost": {"params": 2**40 + number},
        "curve": [{"epoch": float(e), "val_nll": 1 / e} for e in epochs],
        "ratios": [_ratios(e, number) for e in epochs] if number % 2 else [],
        "seconds": 1.5 + number,
    }
    ledger.finish(Record.model_validate({**identity, "state": state, **facts}))
    if number % 4 != 3:
        ledger.add_measurement(_measurement(digest, number))


def _ratios(epoch: int, number: int) -> RatioEpoch:
    warnings = (f"stuck in trial {number}",) if number % 5 == 0 else ()
    channels = {"b": float(number)}
    frozen = f"f{number}" if epoch > 1 else None
    facts = {"ratios": {"b": 0.5}, "used_macs": 9, "budget_macs": None, "frozen": frozen}
    return RatioEpoch(epoch=epoch, channels=channels, warnings=warnings, **facts)


def _measurement(digest: str, number: int) -> Measurement:
    conditions = {"device": "cpu", "device_kind": "cpu", "threads": 1, "batch_size": 32}
    size = {"resolution": 28, "in_chans": 1, "precision": "float32", "form": "deploy"}
    results = {"throughput_img_s": 1000.5 + number, "latency_ms": 25.9, "wall_cpu_gap": 0.01}
    rest = {"noisy": False, "load": 0.3, "environment": {}, "taken": "2026-01-01T00:00:00+00:00"}
    return Measurement.model_validate(
        {"digest": digest, "name": "n", "rounds": 9, **conditions, **size, **results, **rest}
    )
