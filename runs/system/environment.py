"""What a number depends on beside what was asked: machine, versions, code. No names, no paths."""

import os
import platform
import shutil
import subprocess
from collections import Counter
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil

_LIBRARIES = ("partialnas", "torch", "timm", "numpy", "ray", "optuna")
_PATIENCE_S = 10


def environment() -> dict[str, str | int]:
    """Facts of this machine and its software that travel with every record and measurement.

    `python`, `platform`, `processor`, `cores` (those this process may run on), the versions of
    partialnas and of the libraries that its numbers depend on, `code` (the commit, in a checkout;
    the version elsewhere) and, where there are any, the `gpus`. Asked of the machine once per
    process; takes no torch.
    """
    return dict(_facts())


def load_average() -> float:
    """Processes that ran or waited to run on the machine, averaged over the last minute."""
    return round(psutil.getloadavg()[0], 2)


@cache
def _facts() -> dict[str, str | int]:
    facts: dict[str, str | int] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "processor": _processor(Path("/proc/cpuinfo")),
        "cores": len(available_cores()),
    }
    facts |= {library: package_version(library) for library in _LIBRARIES}
    facts["code"] = code_version(Path(__file__).resolve().parents[2])
    gpus = _gpus()
    return facts | {"gpus": gpus} if gpus else facts


def code_version(root: Path) -> str:
    """The commit of the checkout at `root` (`-dirty` where files differ), else the version."""
    if (root / ".git").exists():
        commit = command_output("git", "-C", str(root), "describe", "--always", "--dirty", "--tags")
        if commit:
            return commit
    return package_version("partialnas")


def package_version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor(facts: Path) -> str:
    """The processor's model: Linux tells it in a file, other systems tell Python."""
    if facts.exists():
        for line in facts.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def available_cores() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _gpus() -> str:
    """Models of the machine's NVIDIA GPUs, as `2 x NVIDIA H200`.

    Asked of the driver's own tool: torch would keep memory on the device for the asking.
    """
    names = command_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    counts = Counter(name.strip() for name in names if name.strip())
    return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in sorted(counts.items()))


def command_output(program: str, *arguments: str) -> str:
    """What a program prints, or nothing where it is missing, fails or hangs."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        run = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.strip()


def utc_now() -> str:
    """The time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
