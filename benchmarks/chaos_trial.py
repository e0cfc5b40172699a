"""The trial function of `chaos.py`: log each call, and inject a fault into some of them.

The folder named by PARTIALNAS_CHAOS holds `calls`, with a line at the start and the end of each
call, and optionally `fault`, the name of a fault, and `one-in`: the interval in calls at which it
occurs.
"""

import os
import resource
import time
from pathlib import Path
from typing import Any


def trial(architecture: Any, seed: int, epochs: int) -> Any:
    """Return metrics by formula after 50 milliseconds, or inject a fault."""
    folder = Path(os.environ["PARTIALNAS_CHAOS"])
    name = f"{architecture.digest} {seed} {epochs}"
    _log(folder, f"begin {name}")
    log = (folder / "calls").read_text(encoding="utf-8")
    calls = log[: log.rindex(name)].count("begin")  # another worker may have added a line
    time.sleep(0.05)
    fault = folder / "fault"
    if fault.exists() and calls % int((folder / "one-in").read_text()) == 0:
        return FAULTS[fault.read_text()]()
    width = architecture.widths[0]
    nll = 1 / width + 0.01 * seed + 0.1 / epochs
    _log(folder, f"end {name}")
    return {"val_nll": nll, "throughput_img_s": 1e5 / width}


def _log(folder: Path, line: str) -> None:
    with (folder / "calls").open("a", encoding="utf-8") as calls:
        calls.write(f"{line}\n")


def _raise() -> None:
    raise ArithmeticError("injected error")


def _hang() -> None:
    time.sleep(3600)


def _eat_memory() -> None:
    """Allocate until an address-space limit slightly above the current usage is exceeded."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 200 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        blocks = []
        while True:
            blocks.append(bytearray(2**24))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


FAULTS = {
    "raises": _raise,
    "hangs": _hang,
    "returns NaN": lambda: {"val_nll": float("nan"), "throughput_img_s": 1.0},
    "returns nothing": lambda: None,
    "eats memory": _eat_memory,
}
