"""Detection of other processes that used the CPU during a measurement.

The device lock keeps training runs of partialnas away from a measurement. Other programs do not
know the lock; their use of the device is detected afterwards. For GPUs see `gpu_monitor`.
"""

import logging
import time
from collections.abc import Callable
from functools import cache

import psutil

from partialnas.runs.system.environment import available_cores

MAX_FOREIGN_SHARE = 0.1
"""Share of the cores' time used by others above which a measurement is tainted."""

_STEP_S = 0.01
"""Resolution in seconds of the kernel's times per core."""

_IDLE = ("idle", "iowait")
_WITHIN = ("guest", "guest_nice")  # included in user and nice

_LOG = logging.getLogger(__name__)
_UNKNOWN = "whether other processes use %s during measurements is unknown: %s"

Watch = Callable[[], bool | None]
"""Returns whether others have used the device since the start of the watch; None if unknown."""


def watch_cpu() -> Watch:
    """Start watching the cores that this process may run on.

    The time used by others is the busy time of these cores, including steal time of a virtual
    machine, minus the CPU time of this process. Other processes of the same study count as others.
    If the system does not tell the times of cores, a warning is logged, and the result is None.
    """
    try:
        start, busy_s, process_s = time.perf_counter(), _busy_s(), time.process_time()
    except (OSError, psutil.Error) as error:
        warn_unknown("the CPU", str(error))
        return lambda: None

    def tainted() -> bool:
        cores = len(available_cores())
        seconds = (time.perf_counter() - start) * cores
        process_used_s = time.process_time() - process_s
        return _busy_s() - busy_s - process_used_s - _STEP_S * cores > MAX_FOREIGN_SHARE * seconds

    return tainted


@cache
def warn_unknown(device: str, reason: str) -> None:
    """Warn that contention on a device cannot be detected, once in a process."""
    _LOG.warning(_UNKNOWN, device, reason)


def _busy_s() -> float:
    """Return the busy time in seconds of the available cores since boot."""
    times = psutil.cpu_times(percpu=True)
    counted = [times[core] for core in available_cores() if core < len(times)]
    by_kind = (core_times._asdict().items() for core_times in counted)
    other = (*_IDLE, *_WITHIN)
    return sum(float(seconds) for items in by_kind for kind, seconds in items if kind not in other)
