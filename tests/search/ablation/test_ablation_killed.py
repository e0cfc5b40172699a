"""An ablation with real training under Ray; its driver and a worker are killed."""

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

from partialnas.runs.ledger.ledger import Ledger

STUDY: dict[str, Any] = {
    "study": "killed",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
    "recipe": {"use": "short", "epochs": 1},
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
    "executor": {"kind": "ray", "workers": 2},
}

TIMED = ["throughput_img_s", "latency_ms", "noisy"]

pytestmark = pytest.mark.slow


def verb(*words: str) -> list[str]:
    return [sys.executable, "-m", "partialnas", *words]


def begin(study: Path, out: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        verb("run", str(study), "--out", str(out)),
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def ended(out: Path) -> int:
    if not (out / "ledger.sqlite").exists():
        return 0
    with Ledger.open(out) as ledger:
        return sum(row.is_final for row in ledger.trials())


def wait_for(count: int, out: Path, driver: "subprocess.Popen[bytes]") -> None:
    while ended(out) < count:
        assert driver.poll() is None, driver.communicate()[1].decode()
        time.sleep(0.1)


def workers(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Return the processes that run trials."""
    family = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in family if process.name().startswith("ray::ResourceTrainable")]


def table(out: Path) -> pd.DataFrame:
    """Return the table of the study without timings."""
    path = out / "table.csv"
    subprocess.run(verb("table", str(out), "-o", str(path)), check=True, capture_output=True)
    return pd.read_csv(path, comment="#").drop(columns=TIMED)


def test_an_ablation_killed_three_times_gives_the_same_table(
    tmp_path: Path,
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    driver = begin(study, whole)
    assert driver.wait() == 0, driver.communicate()[1].decode()
    for count in (4, 9):
        driver = begin(study, killed)
        wait_for(count, killed, driver)
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        psutil.wait_procs(
            [process for process in family if not process.name().endswith("Agent")], 60
        )
    driver = begin(study, killed)
    wait_for(12, killed, driver)
    workers(driver)[0].kill()
    assert driver.wait() == 0, driver.communicate()[1].decode()
    with Ledger.open(killed) as ledger:
        rows = ledger.trials()
        assert ledger.study.design is not None
        assert ledger.study.design.match == "macs"
    assert len(rows) == 16
    assert [(row.number, row.state, row.reason) for row in rows if row.state != "done"] == []
    assert sum(row.attempts > 1 for row in rows) >= 2
    pd.testing.assert_frame_equal(table(whole), table(killed), check_exact=True)
