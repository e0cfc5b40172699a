"""Send signals to a run at many moments, and check its exit codes and its ledger."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from chaos_study import MAX_SECONDS, kill_tree

from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.session.signals import EXIT_CODES

_TRIALS = 12
_STUDY: dict[str, Any] = {
    "study": "signals",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [4 * i for i in range(2, 20)]}},
    "search": {"sampler": "random"},
    "objectives": {"val_nll": "min"},
    "budget": {"trials": _TRIALS},
    "trial": "signals_trial:evaluate",
}
_FUNCTION = """
import time

def evaluate(architecture, seed, epochs):
    time.sleep(0.02)
    return {"val_nll": 1 / architecture.widths[0]}
"""


def send_at_many_moments(folder: Path, executor: Mapping[str, Any], moments: int) -> list[str]:
    """Start a study `moments` times, each time send a signal a little later; finish it at the end.

    Args:
        folder: empty folder.
        executor: settings of the executor.
        moments: number of signals.

    Returns:
        What has gone wrong, one line each.
    """
    (folder / "study.yaml").write_text(yaml.safe_dump({**_STUDY, "executor": dict(executor)}))
    (folder / "signals_trial.py").write_text(_FUNCTION)
    rng, violations = random.Random(0), list[str]()
    began = time.monotonic()
    _, errors, code = _finish(_start(folder, "whole"))
    duration_s = time.monotonic() - began
    if code != 0:
        return [f"the study does not run: {errors}"]
    finished: dict[str, object] = {}
    for moment in range(moments):
        number = list(EXIT_CODES)[moment % len(EXIT_CODES)]
        driver = _start(folder, "out")
        while driver.poll() is None and not _handles(driver.pid, number):
            time.sleep(0.001)
        delay_s = duration_s * (moment + rng.random()) / moments
        time.sleep(delay_s)
        driver.send_signal(number)
        output, errors, code = _finish(driver)
        what = f"{number.name} after {delay_s:.2f} s: exit code {code}"
        completed = code == 0 and f"{_TRIALS} done" in output
        if code != EXIT_CODES[number] and not completed:
            violations.append(f"{what}: {errors}")
        if "Traceback" in errors or "bug" in errors:
            violations.append(f"{what}: {errors}")
        now = _finished(folder / "out")
        if any(now.get(key) != row for key, row in finished.items()):
            violations.append(f"{what}: finished trials have changed")
        finished = now
        if completed:
            break
    _, errors, code = _finish(_start(folder, "out"))
    if code != 0 or len(_finished(folder / "out")) != _TRIALS:
        violations.append(f"the study cannot be finished: exit code {code}: {errors}")
    return violations


def _start(folder: Path, out: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "partialnas", "run", str(folder / "study.yaml")]
    return subprocess.Popen(
        [*command, "--out", str(folder / out)],
        env=os.environ | {"RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(driver: "subprocess.Popen[str]") -> tuple[str, str, int]:
    """Return output, errors, and the exit code as a shell sees it."""
    try:
        output, errors = driver.communicate(timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired:
        kill_tree(driver)
        output, errors = driver.communicate()
    code = driver.returncode
    return output, errors, code if code >= 0 else 128 - code


def _handles(pid: int, number: signal.Signals) -> bool:
    """Return whether a process handles a signal: Python takes a moment until it runs our code."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")]
    others = [n for n in EXIT_CODES if n != signal.SIGINT]  # Python itself handles SIGINT
    return bool(masks) and all(masks[0] >> (n - 1) & 1 for n in (number, *others))


def _finished(folder: Path) -> dict[str, object]:
    if not (folder / "ledger.sqlite").exists():
        return {}
    with Ledger.open(folder) as ledger:
        return {row.key: row for row in ledger.trials() if row.is_final}
