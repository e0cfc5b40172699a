"""A stand-in for the module pynvml: GPUs without a driver (see the fixture `install_nvml`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

InstallNvml = Callable[[ModuleType | None], None]
"""The fixture `install_nvml`."""


class NVMLError(Exception):
    """What pynvml raises."""


@dataclass(frozen=True)
class Gpu:
    """A GPU or a MIG instance; also its own handle.

    Attributes:
        uuid: UUID with its prefix.
        name: model.
        instances: MIG instances by number, None where there is none.
        compute_capability: major and minor number.
    """

    uuid: str
    name: str = "NVIDIA H200"
    instances: tuple["Gpu | None", ...] = ()
    compute_capability: tuple[int, int] = (9, 0)


class Sample(NamedTuple):
    """What a process used of a GPU in a sample period, with the names of NVML's structure."""

    pid: int
    timeStamp: int  # noqa: N815
    smUtil: int  # noqa: N815


class FakeNvml(ModuleType):
    """The functions of pynvml that partialnas calls; `init_count` counts initializations.

    Attributes:
        samples: use of GPUs by processes.
        clock_mhz: clock of the SMs, or None if the GPU does not tell it.
        power_mw: power, or None if the GPU does not tell it.
        reasons: bit mask of the reasons for the clock.
    """

    NVML_DEVICE_MIG_DISABLE = 0
    NVML_CLOCK_SM = 1
    nvmlClocksEventReasonGpuIdle = 0x1  # noqa: N815
    nvmlClocksEventReasonApplicationsClocksSetting = 0x2  # noqa: N815
    nvmlClocksEventReasonSwPowerCap = 0x4  # noqa: N815
    nvmlClocksEventReasonHwSlowdown = 0x8  # noqa: N815
    nvmlClocksEventReasonSwThermalSlowdown = 0x20  # noqa: N815
    nvmlClocksEventReasonHwThermalSlowdown = 0x40  # noqa: N815
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80  # noqa: N815
    NVMLError = NVMLError

    def __init__(self, gpus: Sequence[Gpu], *, has_driver: bool = True) -> None:
        super().__init__("pynvml")
        self.gpus, self.has_driver, self.init_count = gpus, has_driver, 0
        self.samples: list[Sample] = []
        self.clock_mhz: int | None = None
        self.power_mw: int | None = None
        self.reasons: int | None = None

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.has_driver:
            raise NVMLError("NVML Shared Library Not Found")
        self.init_count += 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.65.06"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, handle: Gpu) -> str:  # noqa: N802
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Gpu) -> str:  # noqa: N802
        return handle.name

    def nvmlDeviceGetCudaComputeCapability(self, handle: Gpu) -> tuple[int, int]:  # noqa: N802
        return handle.compute_capability

    def nvmlDeviceGetMigMode(self, handle: Gpu) -> list[int]:  # noqa: N802
        if "H200" not in handle.name:
            raise NVMLError("Not Supported")
        return [int(bool(handle.instances)), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Gpu) -> int:  # noqa: N802
        return len(handle.instances)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Gpu, index: int) -> Gpu:  # noqa: N802
        if (instance := handle.instances[index]) is None:
            raise NVMLError("Not Found")
        return instance

    def nvmlDeviceGetProcessUtilization(self, handle: Gpu, last_seen: int) -> list[Sample]:  # noqa: N802
        """Return samples after a time; as in NVML, none are an error, and so are divided GPUs."""
        if handle not in self.gpus or handle.instances:
            raise NVMLError("Not Supported")
        if recent := [sample for sample in self.samples if sample.timeStamp > last_seen]:
            return recent
        raise NVMLError("Not Found")

    def nvmlDeviceGetClockInfo(self, handle: Gpu, kind: int) -> int:  # noqa: N802
        assert kind == self.NVML_CLOCK_SM
        return self._supported(handle, self.clock_mhz)

    def nvmlDeviceGetPowerUsage(self, handle: Gpu) -> int:  # noqa: N802
        return self._supported(handle, self.power_mw)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Gpu) -> int:  # noqa: N802
        return self._supported(handle, self.reasons)

    def _supported(self, handle: Gpu, value: int | None) -> int:
        if value is None or handle not in self.gpus:
            raise NVMLError("Not Supported")
        return value
