"""The trial that `chaos.py` has studies run: it notes each call, and misbehaves as it is told to.

The folder named by PARTIALNAS_CHAOS holds `calls`, a line when a call begins and one when it ends,
and, where there are such, `fault`: what some calls do instead of giving metrics, and `one-in`: one
in how many.
"""

import os
import resource
import time
from pathlib import Path
from typing import Any


def trial(architecture: Any, seed: int, epochs: int) -> Any:
    """Metrics by formula after a fifth of a second, or a fault."""
    folder = Path(os.environ["PARTIALNAS_CHAOS"])
    name = f"{architecture.digest} {seed} {epochs}"
    _note(folder, f"begin {name}")
    calls = (folder / "calls").read_text(encoding="utf-8").count("begin")
    time.sleep(0.2)
    fault = folder / "fault"
    if fault.exists() and calls % int((folder / "one-in").read_text()) == 0:
        return FAULTS[fault.read_text()]()
    width = architecture.widths[0]
    nll = 1 / width + 0.01 * seed + 0.1 / epochs
    _note(folder, f"end {name}")
    return {"val_nll": nll, "throughput_img_s": 1e5 / width}


def _note(folder: Path, line: str) -> None:
    with (folder / "calls").open("a", encoding="utf-8") as calls:
        calls.write(f"{line}\n")


def _raise() -> None:
    raise ArithmeticError("as asked")


def _hang() -> None:
    time.sleep(3600)


def _eat_memory() -> None:
    """Fills the memory that this process may have, which is little more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + 200 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (room, before[1]))
    try:
        eaten = []
        while True:
            eaten.append(bytearray(2**24))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


FAULTS = {
    "raises": _raise,
    "hangs": _hang,
    "returns NaN": lambda: {"val_nll": float("nan"), "throughput_img_s": 1.0},
    "returns nothing": lambda: None,
    "eats memory": _eat_memory,
}
