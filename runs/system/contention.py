"""Detection of other processes that used a device during a measurement.

The device lock keeps training runs of partialnas away from a measurement. Other programs do not
know the lock; their use of the device is detected afterwards.
"""

import logging
import os
import time
from collections.abc import Callable
from functools import cache

import psutil

from partialnas.runs.system.environment import available_cores, command_output

MAX_FOREIGN_SHARE = 0.1
"""Share of the cores' time used by others above which a measurement is tainted."""

_STEP_S = 0.01
"""Resolution in seconds of the kernel's times per core."""

_IDLE = ("idle", "iowait")
_WITHIN = ("guest", "guest_nice")  # included in user and nice

_LOG = logging.getLogger(__name__)
_UNKNOWN = "whether other processes use %s during measurements is unknown: %s"

Watch = Callable[[], bool]
"""Returns whether another process has used the device since the start of the watch."""


def watch_cpu() -> Watch:
    """Start watching the cores that this process may run on.

    The time used by others is the busy time of these cores, including steal time of a virtual
    machine, minus the CPU time of this process. Other processes of the same study count as others.
    If the system does not tell the times of cores, a warning is logged and nothing is detected.
    """
    try:
        start, busy_s, process_s = time.perf_counter(), _busy_s(), time.process_time()
    except (OSError, psutil.Error) as error:
        _warn_once("the CPU", str(error))
        return lambda: False

    def tainted() -> bool:
        cores = len(available_cores())
        seconds = (time.perf_counter() - start) * cores
        process_used_s = time.process_time() - process_s
        return _busy_s() - busy_s - process_used_s - _STEP_S * cores > MAX_FOREIGN_SHARE * seconds

    return tainted


def watch_gpu(name: str) -> Watch:
    """Watch a GPU. The driver is queried once, at the end, about the time just before.

    Args:
        name: UUID or index of the GPU for nvidia-smi.
    """

    def tainted() -> bool:
        table = _busy_table(name)
        if not table:
            _warn_once("the GPU", "`nvidia-smi pmon` lists nothing here")
        return is_gpu_used_by_others(table, os.getpid())

    return tainted


@cache
def _warn_once(device: str, reason: str) -> None:
    """Warn that contention on a device cannot be detected, once in a process."""
    _LOG.warning(_UNKNOWN, device, reason)


def _busy_table(name: str) -> str:
    return command_output("nvidia-smi", "pmon", "-i", name, "-c", "1", "-s", "u")


def is_gpu_used_by_others(table: str, pid: int) -> bool:
    """Return whether a table of `nvidia-smi pmon` lists another process that uses the GPU.

    A process that only holds memory, such as a waiting worker, does not count. If `pid`, the id of
    this process, is not in the table, as in a container with its own process ids, one of the listed
    processes is taken to be this one.
    """
    rows = [line.split() for line in table.splitlines() if not line.startswith("#")]
    listed = {int(row[1]) for row in rows if len(row) > 3 and row[1].isdigit()}
    busy = {int(row[1]) for row in rows if len(row) > 3 and row[1].isdigit() and _is_busy(row[3])}
    return len(busy - {pid}) > (pid not in listed)


def _is_busy(share: str) -> bool:
    return share.isdigit() and int(share) > 0


def _busy_s() -> float:
    """Return the busy time in seconds of the available cores since boot."""
    times = psutil.cpu_times(percpu=True)
    counted = [times[core] for core in available_cores() if core < len(times)]
    by_kind = (core_times._asdict().items() for core_times in counted)
    other = (*_IDLE, *_WITHIN)
    return sum(float(seconds) for items in by_kind for kind, seconds in items if kind not in other)
