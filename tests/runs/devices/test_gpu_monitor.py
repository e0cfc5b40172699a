"""What a measurement learns of its GPU from NVML, which is replaced (see tests/fake_nvml.py)."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from partialnas.runs.devices import contention, gpu_monitor
from partialnas.runs.devices.gpu_monitor import DeviceReport, GpuMonitor
from tests.fake_nvml import FakeNvml, Gpu, InstallNvml, Sample

OWN, STRANGER, WAITING, HOST_ID = os.getpid(), 5000, 5001, 5002
SECOND = 1_000_000  # microseconds, as NVML counts time


class Clock:
    """A clock that tests set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 1_000_000.0
        patch.setattr(gpu_monitor.time, "time", lambda: self.seconds)

    @property
    def microseconds(self) -> int:
        return int(self.seconds * SECOND)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def nvml(install_nvml: InstallNvml) -> FakeNvml:
    fake = FakeNvml([Gpu("GPU-1")])
    install_nvml(fake)
    return fake


def watched(nvml: FakeNvml, clock: Clock, *use: tuple[int, float, int]) -> DeviceReport:
    """Return the report on ten seconds in which processes (id, second, share) use the GPU."""
    monitor, start = GpuMonitor(0), clock.microseconds
    nvml.samples = [Sample(pid, start + int(at * SECOND), share) for pid, at, share in use]
    clock.seconds += 10
    return monitor.report()


@pytest.mark.parametrize(
    ("use", "tainted"),
    [
        ([(OWN, 3, 90)], False),
        ([(OWN, 3, 90), (WAITING, 3, 0)], False),  # it only holds memory
        ([(OWN, 3, 90), (STRANGER, 4, 12)], True),
        ([(OWN, 9, 90), (STRANGER, 2, 12)], True),  # at the start, and no longer at the end
        ([(OWN, 3, 90), (STRANGER, -1, 90)], False),  # before the measurement
        ([(OWN, 3, 90), (STRANGER, 0.5, 90)], False),  # the period of this sample began before it
        ([(HOST_ID, 3, 90)], False),  # process ids of the host: this is the container's process
        ([(HOST_ID, 3, 90), (STRANGER, 3, 5)], True),
    ],
)
def test_another_process_that_uses_the_gpu_taints(
    nvml: FakeNvml, clock: Clock, use: Sequence[tuple[int, float, int]], tainted: bool
) -> None:
    assert watched(nvml, clock, *use).tainted is tainted


def test_without_samples_contention_is_unknown(
    nvml: FakeNvml, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    contention.warn_unknown.cache_clear()
    assert [watched(nvml, clock).tainted for _ in range(2)] == [None, None]
    (record,) = caplog.records
    assert "whether other processes use the GPU during measurements is unknown" in record.message


def test_of_a_divided_gpu_nothing_is_known(
    install_nvml: InstallNvml, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = FakeNvml([Gpu("GPU-1", instances=(Gpu("MIG-1"),))])
    install_nvml(nvml)
    assert watched(nvml, clock, (OWN, 3, 90)) == DeviceReport()


def test_without_a_driver_nothing_is_known(install_nvml: InstallNvml) -> None:
    install_nvml(None)
    monitor = GpuMonitor(0)
    monitor.poll()
    assert monitor.report() == DeviceReport(tainted=None, sm_clock_mhz=None, power_w=None)


def test_what_the_driver_forgets_is_kept(nvml: FakeNvml, clock: Clock) -> None:
    monitor = GpuMonitor(0)
    clock.seconds += 2
    nvml.samples = [Sample(pid, clock.microseconds, 50) for pid in (OWN, STRANGER)]
    monitor.poll()
    clock.seconds += 60
    nvml.samples = [Sample(OWN, clock.microseconds, 50)]
    assert monitor.report().tainted is True


def test_clock_and_power_are_medians_of_the_measurement(nvml: FakeNvml, clock: Clock) -> None:
    monitor = GpuMonitor(0)
    for nvml.clock_mhz, nvml.power_mw in ((1980, 300_000), (1200, 690_000), (1950, 650_000)):
        clock.seconds += 1
        monitor.poll()
        nvml.clock_mhz = nvml.power_mw = 1  # not read: the driver is asked twice a second
        monitor.poll()
    clock.seconds += 0.1
    report = monitor.report()
    assert (report.sm_clock_mhz, report.power_w) == (1950, 650)
    assert report.throttle_reasons == ""


@pytest.mark.parametrize(
    ("masks", "reasons"),
    [
        ([0x0, 0x1, 0x2], ""),  # idle between rounds; clocks that the user has set
        ([0x0, 0x4, 0x0], "power cap"),
        ([0x20, 0x0, 0x8 | 0x40], "hardware slowdown, thermal slowdown"),
        ([0x80, 0x0, 0x0], "power brake"),
    ],
)
def test_reasons_of_a_lower_clock_are_collected(
    nvml: FakeNvml, clock: Clock, masks: Sequence[int], reasons: str
) -> None:
    monitor = GpuMonitor(0)
    for nvml.reasons in masks:
        clock.seconds += 1
        monitor.poll()
    assert monitor.report().throttle_reasons == reasons


@pytest.mark.gpu
def test_our_own_use_of_a_gpu_does_not_taint() -> None:
    import torch

    monitor, start = GpuMonitor(0), time.monotonic()
    a = torch.randn(4096, 4096, device="cuda")
    while time.monotonic() < start + 4:
        a = torch.nn.functional.normalize(a @ a)
        torch.cuda.synchronize()
        monitor.poll()
    report = monitor.report()
    assert not report.tainted
    assert report.sm_clock_mhz is not None


BURN = """
import torch
a = torch.randn(8192, 8192, device="cuda")
print("ready", flush=True)
while True:
    a = (a @ a).clamp(-1, 1)
    torch.cuda.synchronize()
"""


@pytest.mark.gpu
def test_another_process_on_a_gpu_taints() -> None:
    with subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            monitor, start = GpuMonitor(0), time.monotonic()
            while time.monotonic() < start + 4:
                time.sleep(0.1)
                monitor.poll()
            assert monitor.report().tainted in (True, None)  # None: the driver tells nothing
        finally:
            other.kill()
