"""What only Linux tells about a machine: files of its kernel, and calls that other systems lack.

On other systems the answers are empty. The rest of the code uses psutil and POSIX, which macOS has.
"""

import os
import re
import sys
from pathlib import Path

ROOT = Path("/")
"""Folder with `proc` and `sys`; tests replace it."""

MAX_SOCKET_BYTES = 107 if sys.platform.startswith("linux") else 103
"""Longest name of a socket in bytes (`sun_path` without its zero)."""

_FLOCK = re.compile(r"^\d+: FLOCK +\w+ +\w+ +(\d+) \w+:\w+:(\d+)", re.MULTILINE)
"""Process and inode of a lock in the kernel's list of locks."""


def read_system_file(name: str) -> str:
    """Return the text of a file of the kernel, such as `proc/locks`; empty if unavailable."""
    try:
        return (ROOT / name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def lock_holders(inodes: set[int]) -> set[int]:
    """Return the processes that hold locks on files, as far as the kernel lists them.

    Args:
        inodes: inodes of the files.
    """
    locks = _FLOCK.findall(read_system_file("proc/locks"))
    return {int(pid) for pid, inode in locks if int(inode) in inodes}


def processor_model() -> str:
    """Return the model of the processor or of the board; empty if the kernel does not tell."""
    for line in read_system_file("proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return read_system_file("proc/device-tree/model").strip("\0\n ")


def allowed_cores() -> list[int]:
    """Return the CPU cores that this process may run on; empty if the system does not tell."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else []


def control_groups() -> Path:
    """Return the folder where control groups are mounted."""
    return ROOT / "sys" / "fs" / "cgroup"


def group_membership() -> Path:
    """Return the file with the control groups of this process."""
    return ROOT / "proc" / "self" / "cgroup"
