"""How much memory this process may still use: that of the machine, within its control groups."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from partialnas.runs.system import linux

_UNLIMITED = 2**60
"""From this size on, a limit of cgroup v1 means none."""

_FILES = {
    "v2": ("memory.max", "memory.current", "inactive_file"),
    "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Files of the limit and the usage, and the statistic of the file cache that can be dropped."""


def available_memory(root: Path | None = None, membership: Path | None = None) -> int:
    """Return the bytes that can be allocated without swapping.

    A container or a job of a cluster may have less memory than the machine: each control group
    that this process belongs to counts, with those above it.

    Args:
        root: where control groups are mounted; without any (macOS), the machine's memory counts.
        membership: file with the groups of this process.
    """
    free = [int(psutil.virtual_memory().available)]
    root, membership = root or linux.control_groups(), membership or linux.group_membership()
    for folder, version in _groups(root, membership):
        with suppress(OSError, ValueError):  # no limit, or no such file at the top
            free.append(_free_in_group(folder, version))
    return max(min(free), 0)


def _groups(root: Path, membership: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folders of the memory groups of this process, up to the topmost."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, version = root, "v2"
        elif "memory" in controllers.split(","):
            top, version = root / "memory", "v1"
        else:
            continue
        folder = top / path.lstrip("/")
        while folder.is_relative_to(top):
            yield folder, version
            folder = folder.parent


def _free_in_group(folder: Path, version: str) -> int:
    """Return the bytes that a group may still allocate.

    Raises:
        OSError: The group has no memory controller.
        ValueError: It has no limit.
    """
    limit_file, usage_file, cache_key = _FILES[version]
    limit = int((folder / limit_file).read_text(encoding="utf-8"))  # `max` without a limit
    if limit >= _UNLIMITED:
        raise ValueError("no limit")
    used = int((folder / usage_file).read_text(encoding="utf-8"))
    lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
    statistics = dict(line.split(" ", 1) for line in lines)
    return limit - used + int(statistics.get(cache_key, 0))
