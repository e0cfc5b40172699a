"""Tells whether other processes used a device while we measured on it; takes no torch.

The lock of a device keeps our own trainings away while something is measured. Whatever else runs on
the machine does not know of that lock: what it did meanwhile can only be seen afterwards.
"""

import os
import time
from collections.abc import Callable

import psutil

from partialnas.runs.system.environment import available_cores, command_output

MAX_FOREIGN_SHARE = 0.1
"""Share of the cores' time that other processes may have had before a measurement is tainted."""

_STEP_S = 0.01
"""The kernel counts each core's time in such steps."""

_IDLE = ("idle", "iowait")
_WITHIN = ("guest", "guest_nice")  # counted in user and nice, too

Watch = Callable[[], bool]
"""Whether another process has used the device since it has been watched."""


def watch_cpu() -> Watch:
    """Begins to watch the cores that this process may run on.

    Foreign is all the time that these cores were busy, what the host took from a virtual machine
    included, without what this process used itself. Other processes of the same study count: what
    they do between their epochs disturbs as much.
    """
    began, busy, own = time.perf_counter(), _busy_s(), time.process_time()

    def tainted() -> bool:
        seconds = (time.perf_counter() - began) * len(available_cores())
        foreign = _busy_s() - busy - (time.process_time() - own) - _STEP_S * len(available_cores())
        return foreign > MAX_FOREIGN_SHARE * seconds

    return tainted


def watch_gpu(name: str) -> Watch:
    """Watches a GPU; the driver is asked at the end, for the moments before.

    Args:
        name: the GPU as nvidia-smi knows it: its UUID or number.
    """
    return lambda: is_gpu_used_by_others(_busy_table(name), os.getpid())


def _busy_table(name: str) -> str:
    return command_output("nvidia-smi", "pmon", "-i", name, "-c", "1", "-s", "u")


def is_gpu_used_by_others(table: str, own: int) -> bool:
    """Whether a table of `nvidia-smi pmon` shows that another process kept the GPU busy.

    A process that only holds memory, such as a worker that waits for its turn, does not use it.
    Where the driver numbers processes otherwise than this container does, ours is taken to be one
    of those that it shows. An empty table says nothing.
    """
    rows = [line.split() for line in table.splitlines() if not line.startswith("#")]
    listed = {int(row[1]) for row in rows if len(row) > 3 and row[1].isdigit()}
    busy = {int(row[1]) for row in rows if len(row) > 3 and row[1].isdigit() and _is_busy(row[3])}
    return len(busy - {own}) > (own not in listed)


def _is_busy(share: str) -> bool:
    return share.isdigit() and int(share) > 0


def _busy_s() -> float:
    """Seconds that our cores have been busy since the machine started."""
    times = psutil.cpu_times(percpu=True)
    counted = [times[core] for core in available_cores() if core < len(times)]
    return sum(
        float(seconds)
        for each in counted
        for kind, seconds in each._asdict().items()
        if kind not in (*_IDLE, *_WITHIN)
    )
