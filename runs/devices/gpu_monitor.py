"""Other processes, clock and power of a GPU during a measurement, as NVIDIA's driver tells them."""

import os
import time
from contextlib import suppress
from statistics import median
from typing import NamedTuple

from partialnas.runs.devices.contention import warn_unknown
from partialnas.runs.system.nvml import gpu_handle, load_nvml

_POLL_S = 0.5
_SAMPLE_S = 1.0
"""Longest period of one of the driver's samples in seconds."""

_THROTTLING = {
    "nvmlClocksEventReasonSwPowerCap": "power cap",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwThermalSlowdown": "thermal slowdown",
    "nvmlClocksEventReasonHwThermalSlowdown": "thermal slowdown",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
}
"""Reasons for which a GPU lowers its clock below the one that was set, by their names in pynvml."""


class DeviceReport(NamedTuple):
    """A device during a measurement; values that the system does not tell are None.

    Attributes:
        tainted: whether another process used the device.
        sm_clock_mhz: median clock of the multiprocessors of a GPU in MHz.
        power_w: median power of a GPU in watts.
        throttle_reasons: why the clock was lowered at any time; empty if it was not.
    """

    tainted: bool | None = None
    sm_clock_mhz: float | None = None
    power_w: float | None = None
    throttle_reasons: str = ""


class GpuMonitor:
    """Observes a GPU from now on. Call `poll` between timings: it only asks the driver.

    Args:
        index: number of the GPU for PyTorch.
    """

    def __init__(self, index: int) -> None:
        self._nvml, self._handle = load_nvml(), gpu_handle(index)
        self._start = self._polled = time.time()
        self._processes: set[int] = set()
        self._busy: set[int] = set()
        self._clocks: list[int] = []
        self._powers: list[int] = []
        self._throttled: set[str] = set()

    def poll(self) -> None:
        """Ask the driver, which forgets older values, unless it was asked half a second ago."""
        if time.time() >= self._polled + _POLL_S:
            self._polled = time.time()
            self._read()

    def report(self) -> DeviceReport:
        """Return what the driver told since the start.

        A process that only holds memory, such as a waiting worker, does not count. If this process
        is not listed, as in a container with its own process ids, one of the listed processes is
        taken to be this one.
        """
        self._read_processes()
        if not self._clocks:
            self._read()
        tainted = None
        if self._processes:
            pid = os.getpid()
            tainted = len(self._busy - {pid}) > (pid not in self._processes)
        else:
            warn_unknown("the GPU", "the driver lists no processes here")
        return DeviceReport(
            tainted=tainted,
            sm_clock_mhz=median(self._clocks) if self._clocks else None,
            power_w=median(self._powers) / 1000 if self._powers else None,
            throttle_reasons=", ".join(sorted(self._throttled)),
        )

    def _read(self) -> None:
        self._read_processes()
        nvml, handle = self._nvml, self._handle
        if nvml is None or handle is None:
            return
        with suppress(nvml.NVMLError):  # not supported, each of them
            self._clocks.append(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        with suppress(nvml.NVMLError):
            self._powers.append(nvml.nvmlDeviceGetPowerUsage(handle))
        with suppress(nvml.NVMLError):
            reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
            bits = {getattr(nvml, name): word for name, word in _THROTTLING.items()}
            self._throttled |= {word for bit, word in bits.items() if reasons & bit}

    def _read_processes(self) -> None:
        """Collect the processes in the driver's samples.

        Samples whose period may have begun before the start show that the driver lists processes,
        not that they use the GPU.
        """
        nvml, handle = self._nvml, self._handle
        if nvml is None or handle is None:
            return
        start_us, sure_us = (int(1e6 * (self._start + delay)) for delay in (0, _SAMPLE_S))
        with suppress(nvml.NVMLError):  # no samples yet, or not supported: a divided GPU
            for sample in nvml.nvmlDeviceGetProcessUtilization(handle, start_us):
                self._processes.add(sample.pid)
                if sample.smUtil and sample.timeStamp >= sure_us:
                    self._busy.add(sample.pid)
