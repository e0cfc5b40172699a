"""A study that faults are injected into, with the invariants that must hold (see `chaos.py`)."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from partialnas.runs.ledger.ledger import Ledger

TRIALS = 40
MAX_SECONDS = 120.0
"""Longest time that a driver may take to end, or to finish the trials that a fault waits for."""

STUDY: dict[str, Any] = {
    "study": "chaos",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [4 * i for i in range(2, 40)], "mlp_ratio": [1, 2, 3]}},
    "search": {"sampler": "nsga2", "population": 8},
    "budget": {"trials": TRIALS},
    "trial": "chaos_trial:trial",
}
PROGRAM = ("-m", "partialnas", "run")
SHORT_GRACE = """
import sys
from pathlib import Path
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study_file import load_study

path, out = Path(sys.argv[1]), Path(sys.argv[3])
run_study(load_study(path), out, base_dir=path.parent, hang_grace_s=3)
"""
"""A program that runs a study as the command line does, but detects hung workers within seconds."""

RAY = {"kind": "ray", "workers": 2, "device": "cpu"}
IN_PROCESS = {"kind": "in-process", "device": "cpu"}


@dataclass
class ChaosStudy:
    """A study in a folder of its own.

    Attributes:
        folder: folder of the study's file, its call log and its results.
        finished: final trials at the last fault by key.
        calls: number of started calls by trial, as of the last check.
        remarks: observations for the table.
        violations: names of invariants that did not hold.
        program: arguments with which Python runs a study.
    """

    folder: Path
    finished: dict[str, Any] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    program: tuple[str, ...] = PROGRAM

    @property
    def out(self) -> Path:
        """Folder of the results."""
        return self.folder / "out"

    def start(
        self, executor: dict[str, Any], *, environment: dict[str, str] | None = None, **changes: Any
    ) -> "subprocess.Popen[str]":
        """Start or resume the study in a driver process."""
        path = self.write(executor, **changes)
        return subprocess.Popen(
            [sys.executable, *self.program, str(path), "--out", str(self.out)],
            env=self.environment | (environment or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, executor: dict[str, Any], **changes: Any) -> Path:
        """Write the study's file and its trial function."""
        shutil.copy(Path(__file__).parent / "chaos_trial.py", self.folder)
        path = self.folder / "study.yaml"
        path.write_text(yaml.safe_dump({**STUDY, "executor": executor, **changes}))
        return path

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the driver; Ray's workers get the priority of other processes."""
        return os.environ | {"PARTIALNAS_CHAOS": str(self.folder), "RAY_worker_niceness": "0"}

    def rows(self) -> list[Any]:
        """Return the trials in the ledger, or nothing if it cannot be read yet."""
        with suppress(Exception), Ledger.open(self.out) as ledger:
            return ledger.trials()
        return []

    def wait_for(self, count: int, driver: "subprocess.Popen[str]") -> None:
        """Wait until `count` trials are final, or the driver has ended."""
        deadline = time.monotonic() + MAX_SECONDS
        while driver.poll() is None and sum(row.is_final for row in self.rows()) < count:
            if time.monotonic() > deadline:
                self._add_violation(f"{count} trials end within {MAX_SECONDS:.0f} s")
                kill_tree(driver)
            time.sleep(0.05)

    def wait_until_ended(self, driver: "subprocess.Popen[str]") -> str:
        """Wait until the driver has ended; return what it has written to the error stream."""
        try:
            return driver.communicate(timeout=MAX_SECONDS)[1]
        except subprocess.TimeoutExpired:
            self._add_violation(f"the driver ends within {MAX_SECONDS:.0f} s")
            kill_tree(driver)
            return driver.communicate()[1]

    def check_after_fault(self) -> None:
        """Compare final trials with those at the last fault, and remember them."""
        rows = {row.key: row for row in self.rows() if row.is_final}
        if any(rows.get(key) != row for key, row in self.finished.items()):
            self._add_violation("records kept")
        self._check_calls()
        self.finished = rows

    def _check_calls(self) -> None:
        """Look for calls since the last check of trials that were final by then."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        calls = Counter(line.removeprefix("begin ") for line in lines if line.startswith("begin "))
        for row in self.finished.values():
            name = f"{row.digest} {row.seed} {row.fidelity}"
            if calls[name] > self.calls[name]:
                self._add_violation("no repeats")
        self.calls = calls

    def finish(self, executor: dict[str, Any] = IN_PROCESS, **changes: Any) -> None:
        """Resume the study to its end, and check all invariants."""
        driver = self.start(executor, **changes)
        errors = self.wait_until_ended(driver)
        self.check_after_fault()
        rows = self.rows()
        if driver.returncode != 0 or len(self.finished) != TRIALS or len(rows) != TRIALS:
            self._add_violation("completes")
            self.remarks.append(errors.strip().rpartition("\n")[2])
        if any(n > 1 for n in Counter((r.digest, r.seed, r.fidelity) for r in rows).values()):
            self._add_violation("unique records")

    def expect(self, name: str, *, holds: bool) -> None:
        """Check an invariant of one fault."""
        if not holds:
            self._add_violation(name)

    def _add_violation(self, name: str) -> None:
        if name not in self.violations:
            self.violations.append(name)


def kill_tree(driver: "subprocess.Popen[str]") -> None:
    """Kill a driver and all of its descendants."""
    with suppress(psutil.NoSuchProcess):
        descendants = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                process.kill()
