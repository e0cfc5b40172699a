"""An ablation with real training; its drivers and a worker are killed, with Ray and without."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from command_line import run_cli

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import FINAL_STATES

STUDY: dict[str, Any] = {
    "study": "killed",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
    "recipe": {"use": "short", "epochs": 1, "data_share": "1/3"},
    "seeds": 2,
    "ablation": {
        "design": "factorial",
        "match": "macs",
        "factors": {
            "parts": [2, 3],
            "pat_sp": [False, True],
            "attention": ["none", "channel"],
        },
    },
    "objectives": {"val_nll": "min"},
    "measure": {"batch_size": 8, "max_seconds": 0.1},
}
EXECUTORS: dict[str, dict[str, Any]] = {
    "ray": {"kind": "ray", "workers": 2, "device": "cpu"},
    "alone": {"kind": "in-process", "device": "cpu"},
}

TIMED = ["throughput_img_s", "latency_ms", "noisy"]

pytestmark = pytest.mark.slow


@pytest.fixture
def studies(tmp_path: Path) -> dict[str, Path]:
    """Write the study once for each executor."""
    paths = {name: tmp_path / f"{name}.yaml" for name in EXECUTORS}
    for name, path in paths.items():
        path.write_text(yaml.safe_dump({**STUDY, "executor": EXECUTORS[name]}))
    return paths


def begin(study: Path, out: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "partialnas", "run", str(study), "--out", str(out)],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def ended(out: Path) -> int:
    if not (out / "ledger.sqlite").exists():
        return 0
    with Ledger.open(out) as ledger:
        counts = ledger.state_counts()
    return sum(counts[state] for state in FINAL_STATES)


def wait_for(count: int, out: Path, driver: "subprocess.Popen[bytes]") -> None:
    while ended(out) < count:
        assert driver.poll() is None, driver.communicate()[1].decode()
        time.sleep(0.1)


def workers(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Return the processes that run trials."""
    family = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in family if process.name().startswith("ray::ResourceTrainable")]


def kill(driver: "subprocess.Popen[bytes]") -> None:
    """Kill a driver; wait for its children except Ray's agents, which take a minute to end."""
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    psutil.wait_procs([process for process in family if not process.name().endswith("Agent")], 60)


def table(out: Path) -> pd.DataFrame:
    """Return the table of the study without timings."""
    path = out / "table.csv"
    assert run_cli("table", out, "-o", path) == 0
    return pd.read_csv(path, comment="#").drop(columns=TIMED)


def test_an_ablation_killed_three_times_gives_the_same_table(
    studies: dict[str, Path], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_cli("run", studies["alone"], "--out", whole) == 0
    driver = begin(studies["ray"], killed)
    wait_for(3, killed, driver)
    workers(driver)[0].kill()
    wait_for(7, killed, driver)
    kill(driver)
    driver = begin(studies["alone"], killed)
    wait_for(11, killed, driver)
    kill(driver)
    assert run_cli("run", studies["alone"], "--out", killed) == 0
    with Ledger.open(killed) as ledger:
        rows = ledger.trials()
        assert ledger.study.design is not None
        assert ledger.study.design.match == "macs"
    assert len(rows) == 16
    assert [(row.number, row.state, row.reason) for row in rows if row.state != "done"] == []
    assert sum(row.attempts > 1 for row in rows) >= 2
    pd.testing.assert_frame_equal(table(whole), table(killed), check_exact=True)
