"""The environment of a run: machine, library versions, code; without host or user names."""

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil

from partialnas.runs.system.linux import allowed_cores, processor_model
from partialnas.runs.system.nvml import gpu_facts

_LIBRARIES = ("partialnas", "torch", "timm", "numpy", "ray", "optuna")
_TIMEOUT_S = 10


def environment() -> dict[str, str | int]:
    """Return facts about this machine and its software, for every record and measurement.

    The keys are `python`, `platform`, `processor`, `cores` (available to this process), the
    versions of partialnas and the libraries that results depend on, and `code` (the commit of a
    checkout, else the version). With GPUs, there are also those of `gpu_facts` and, once torch is
    loaded, `cuda` and `cudnn`. The facts are determined once per process.
    """
    facts = _facts()
    return facts | (_versions_of_cuda() if "gpus" in facts else {})


def load_average() -> float:
    """Return the load average of the last minute."""
    return round(psutil.getloadavg()[0], 2)


@cache
def _facts() -> dict[str, str | int]:
    facts: dict[str, str | int] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "processor": _processor(),
        "cores": len(available_cores()),
    }
    facts |= {library: package_version(library) for library in _LIBRARIES}
    facts["code"] = code_version(Path(__file__).resolve().parents[2])
    return facts | gpu_facts()


def code_version(root: Path) -> str:
    """Return the commit of the checkout at `root`, with `-dirty` after changes, or the version."""
    if (root / ".git").exists():
        commit = command_output("git", "-C", str(root), "describe", "--always", "--dirty", "--tags")
        if commit:
            return commit
    return package_version("partialnas")


def package_version(library: str) -> str:
    """Return the version of an installed package, or `not installed`."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


__version__ = package_version("partialnas")
"""Version of partialnas, or `not installed` in a checkout that is not installed."""


def _processor() -> str:
    """Return the model of the processor, such as `Apple M3`, or `unknown (arm64)`."""
    model = processor_model() or command_output("sysctl", "-n", "machdep.cpu.brand_string")
    return model or f"unknown ({platform.machine() or 'processor'})"


def available_cores() -> list[int]:
    """Return the CPU cores that this process may run on."""
    return allowed_cores() or list(range(os.cpu_count() or 1))


def _versions_of_cuda() -> dict[str, str | int]:
    """Return the versions that torch uses, if it is loaded: to import it takes seconds."""
    torch = sys.modules.get("torch")
    if torch is None or torch.version.cuda is None:
        return {}
    versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {library: version for library, version in versions.items() if version is not None}


def command_output(program: str, *arguments: str) -> str:
    """Return what a program prints; empty if it is missing, fails or hangs."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        run = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.strip()


def utc_now() -> str:
    """Return the time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
