"""A study under Ray whose driver is killed, or interrupted from the keyboard, and run again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from partialnas.runs.ledger import Ledger

HERE = Path(__file__).parent
TRIALS = 24

STUDY: dict[str, Any] = {
    "study": "interrupted",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [4 * i for i in range(2, 12)], "mlp_ratio": [1, 2, 3]}},
    "search": {"sampler": "nsga2", "population": 6},
    "budget": {"trials": TRIALS},
    "executor": {"kind": "ray", "workers": 2},
    "trial": "simulated:slow",
}

pytestmark = pytest.mark.slow


def begin(folder: Path, **changes: Any) -> "subprocess.Popen[bytes]":
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    shutil.copy(HERE / "simulated.py", folder)
    command = [sys.executable, "-m", "partialnas", "run", str(path), "--out", str(folder / "out")]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(folder: Path) -> dict[str, Any]:
    if not (folder / "out" / "ledger.sqlite").exists():
        return {}
    with Ledger.open(folder / "out") as ledger:
        return {row.key: row for row in ledger.trials() if row.final}


def until(enough: Callable[[], bool], driver: "subprocess.Popen[bytes]") -> None:
    while not enough():
        assert driver.poll() is None, driver.communicate()[1].decode()
        time.sleep(0.1)


def relatives(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The processes that a driver has started.

    Not Ray's two agents, which notice the end of a killed driver by themselves, after a minute.
    """
    family = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in family if not process.name().endswith("Agent")]


def outlived(family: list[psutil.Process]) -> list[psutil.Process]:
    """The processes of a driver that still run a while after its end."""
    return psutil.wait_procs(family, timeout=60)[1]


def test_a_killed_driver_goes_on_where_it_was(tmp_path: Path) -> None:
    before: dict[str, Any] = {}
    for kill_after in (5, 14):
        driver = begin(tmp_path)
        until(lambda after=kill_after: len(finished(tmp_path)) >= after, driver)
        family = relatives(driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert outlived(family) == []
        now = finished(tmp_path)
        assert before.items() <= now.items()
        before = now
    driver = begin(tmp_path)
    assert driver.wait() == 0, driver.communicate()[1].decode()
    done = finished(tmp_path)
    assert before.items() <= done.items()
    with Ledger.open(tmp_path / "out") as ledger:
        rows = ledger.trials()
    assert len(rows) == TRIALS == ledger_done(rows)
    assert max(Counter((row.digest, row.seed) for row in rows).values()) == 1
    assert sum(row.attempts - 1 for row in rows) <= 2 * 2


def ledger_done(rows: list[Any]) -> int:
    return sum(row.state == "done" for row in rows)


def test_ctrl_c_keeps_what_is_finished_and_ends_soon(tmp_path: Path) -> None:
    driver = begin(tmp_path)
    until(lambda: len(finished(tmp_path)) >= 4, driver)
    family = relatives(driver)
    pressed = time.monotonic()
    driver.send_signal(signal.SIGINT)
    _, told = driver.communicate()
    assert driver.returncode == 130, told.decode()
    assert b"interrupted" in told
    assert b"Traceback" not in told
    assert time.monotonic() - pressed < 5
    assert outlived(family) == []
    with Ledger.open(tmp_path / "out") as ledger:
        counts = ledger.counts()
    assert counts["done"] >= 4
    assert counts["running"] == 0


def test_two_drivers_do_not_share_a_study(tmp_path: Path) -> None:
    first = begin(tmp_path)
    until(lambda: len(finished(tmp_path)) >= 1, first)
    second = begin(tmp_path)
    _, told = second.communicate()
    assert second.returncode == 2
    assert str(first.pid) in told.decode()
    first.send_signal(signal.SIGINT)
    first.communicate()


def test_real_trainings_under_ray_leave_records_measurements_and_weights(tmp_path: Path) -> None:
    driver = begin(
        tmp_path,
        trial=None,
        budget={"trials": 4},
        recipe={"use": "short", "epochs": 1, "keep_weights": "all"},
        measure={"batch_size": 8, "max_seconds": 0.5},
        arms={"resnet": "timm:test_resnet"},
    )
    output, told = driver.communicate()
    assert driver.returncode == 0, told.decode()
    assert b"interrupted: 4 done" in output
    rows = finished(tmp_path)
    with Ledger.open(tmp_path / "out") as ledger:
        timed = {m.digest for m in ledger.measurements()}
    assert timed == {row.digest for row in rows.values()}
    kept = {path.stem for path in (tmp_path / "out" / "weights").iterdir()}
    assert kept == set(rows)
    assert not list((tmp_path / "out" / "checkpoints").iterdir())
